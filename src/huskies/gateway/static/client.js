// Asks the gateway for JSON, and says in words what went wrong.

export const EVENTS = "/gateway/events";
export const PROJECTS = "/gateway/projects";
export const STATS = "/gateway/stats";

const ANSWER_LIMIT_MS = 10_000;

/** The gateway's answer with a status that is none of success. */
export class AnswerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function getJson(path, query = {}) {
  const wanted = Object.entries(query).filter(([, value]) => value !== "");
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(wanted)}`, {
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
    });
  } catch {
    throw new Error("the gateway does not answer");
  }
  const body = await response.json().catch(() => ({}));
  // Whoever logs in gets to the view that they asked for.
  if (response.status === 401) location.assign(`/login${location.hash}`);
  if (!response.ok) throw new AnswerError(response.status, body.error ?? `the gateway answered with status ${response.status}`);
  return body;
}
