// Which agents are rate-limited now, or were close to it lately, as far as projects relay it. Pure.
//
// Known: a Map from agent (of a project, on a story) to the event that says so, as the gateway shows it.

export const LIMITS = ["rate_limit_hard_block", "rate_limit_warning"];
// A warning does not say until when it holds; nobody is helped by one of this morning.
const WARNED_MS = 3_600_000;

/** What is known after these events (oldest first). A story that moves on was not held up by it any more. */
export function applyLimits(known, events) {
  let next = known;
  for (const shown of events) {
    const { project, event } = shown;
    if (LIMITS.includes(event.type)) {
      const key = JSON.stringify([project, event.story_id, event.agent_name]);
      // Whoever may do nothing at all until then is not merely close to it.
      if (event.type === "rate_limit_warning" && Date.parse(next.get(key)?.event.reset_at) > event.timestamp_ms) continue;
      next = next === known ? new Map(known) : next;
      next.set(key, shown);
    } else if (event.type === "stage_transition" && next.size) {
      for (const [key, { project: of, event: limit }] of next) {
        if (of !== project || limit.story_id !== event.story_id) continue;
        next = next === known ? new Map(known) : next;
        next.delete(key);
      }
    }
  }
  return next;
}

/** What of it holds at `now`, in the form of `attention`. */
export function limitedNow(known, now) {
  return [...known].filter(([, { event }]) => overAt(event) > now).map(([key, { project, event }]) => {
    const isHard = event.type === "rate_limit_hard_block";
    return {
      key: JSON.stringify(["limited", key]),
      kind: isHard ? "limited" : "near",
      project,
      story: { story_id: event.story_id, story_name: event.story_name },
      since: event.timestamp_ms,
      reason: isHard ? `Agent ${event.agent_name} is rate-limited.` : `Agent ${event.agent_name} is close to its rate limit.`,
      until: isHard ? Date.parse(event.reset_at) : null,
      note: "",
    };
  });
}

const overAt = ({ type, reset_at, timestamp_ms }) => (type === "rate_limit_hard_block" ? Date.parse(reset_at) : timestamp_ms + WARNED_MS);
