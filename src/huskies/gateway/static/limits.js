// Which agents are rate-limited now, as far as projects relay it. Pure.
//
// Known: a Map from agent (of a project, on a story) to the event that says so, as the gateway shows it.

/** What is known after these events (oldest first). A story that moves on was not held up by it any more. */
export function applyLimits(known, events) {
  let next = known;
  for (const shown of events) {
    const { project, event } = shown;
    if (event.type === "rate_limit_hard_block") {
      next = next === known ? new Map(known) : next;
      next.set(JSON.stringify([project, event.story_id, event.agent_name]), shown);
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
  return [...known].filter(([, { event }]) => Date.parse(event.reset_at) > now).map(([key, { project, event }]) => ({
    key: JSON.stringify(["limited", key]),
    kind: "limited",
    project,
    story: { story_id: event.story_id, story_name: event.story_name },
    since: event.timestamp_ms,
    reason: `Agent ${event.agent_name} is rate-limited.`,
    until: Date.parse(event.reset_at),
    note: "",
  }));
}
