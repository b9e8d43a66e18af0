// A story's whole life, out of its events. Pure.

import { FINISHED, position } from "./board.js";

/**
 * The life that these events tell, as `GET /gateway/events` shows them, in any order.
 *
 * `spans`: [{stage, from, to}] without holes, `from` null before the first event; the last ends at `now`.
 * `held`: [{kind, reason, from, to}], `to` null while it lasts. `stages`: Map of stage to {visits, ms}.
 */
export function lifeOf(events, now) {
  const told = [...events].sort((a, b) => a.event.timestamp_ms - b.event.timestamp_ms || position(a.cursor) - position(b.cursor));
  const spans = [];
  const held = [];
  const open = new Map();
  const end = (at) => {
    for (const span of open.values()) span.to = at;
    open.clear();
  };
  for (const { event } of told) {
    const at = event.timestamp_ms;
    if (event.type === "stage_transition") {
      end(at);
      if (event.from_stage === event.to_stage && spans.length) continue;
      if (!spans.length) spans.push({ stage: event.from_stage, from: null, to: at });
      spans.at(-1).to = at;
      if (event.from_stage !== event.to_stage) spans.push({ stage: event.to_stage, from: at, to: now });
      else spans.at(-1).to = now;
    } else if (event.type === "story_blocked" || event.type === "merge_failure") {
      const kind = event.type === "story_blocked" ? "blocked" : "merge";
      // Another reason while it is held up goes on with it, and is no second time.
      if (open.has(kind)) open.get(kind).reason = event.reason;
      else {
        const span = { kind, reason: event.reason, from: at, to: null };
        open.set(kind, span);
        held.push(span);
      }
    }
  }
  return { spans, held, stages: sums(spans), began: told[0]?.event.timestamp_ms ?? null };
}

function sums(spans) {
  const stages = new Map();
  for (const { stage, from, to } of spans) {
    const sum = stages.get(stage) ?? { visits: 0, ms: 0, isWhole: true };
    stages.set(stage, {
      visits: sum.visits + 1,
      ms: sum.ms + (from === null ? 0 : to - from),
      // How long it stood there before its first event, no event says.
      isWhole: sum.isWhole && from !== null,
    });
  }
  return stages;
}

/** From when to when there was work: a story that is finished stays where it is for ever. */
export function workedOn({ spans, began }, now) {
  const last = spans.at(-1);
  const to = last && FINISHED.has(last.stage) ? finishedAt(spans) : now;
  return { from: began, to: Math.max(to ?? now, began ?? now) };
}

function finishedAt(spans) {
  let at = spans.length - 1;
  while (at > 0 && FINISHED.has(spans[at - 1].stage)) at -= 1;
  return spans[at].from;
}

/** How often, and for how many ms, a story was held up so. */
export function heldFor(held, kind, now) {
  const these = held.filter((span) => span.kind === kind);
  return { times: these.length, ms: these.reduce((sum, { from, to }) => sum + ((to ?? now) - from), 0) };
}
