// One event in words, and as a line of a list.

import { stageName, storyTitle } from "./board.js";
import { h, link, outside } from "./dom.js";
import { projectRoute, storyRoute } from "./routes.js";
import { ageNode, clock, fixedTime, fullTime } from "./times.js";

const WORDS = {
  stage_transition: ({ from_stage: from, to_stage: to }) =>
    from === to ? [`no longer held up in ${stageName(to)}`] : [`${stageName(from)} → ${stageName(to)}`],
  story_blocked: ({ reason }) => ["blocked", reason],
  merge_failure: ({ reason }) => ["merge failed", reason],
  rate_limit_warning: ({ agent_name }) => [`agent ${agent_name} is close to its rate limit`],
  rate_limit_hard_block: ({ agent_name, reset_at }) => [`agent ${agent_name} is rate-limited until ${clock(Date.parse(reset_at))}`],
};

/** [what happened, and the reason where there is one]. */
export const words = (event) => WORDS[event.type]?.(event) ?? [event.type];

/** What a search looks through. */
export const haystack = ({ project, event }) =>
  [project, event.story_id, event.story_name, event.reason, event.agent_name, words(event)[0]].join("\n").toLowerCase();

export function makeLine({ project, event, replayed, received_ms }) {
  const [what, reason] = words(event);
  const node = h(
    "li",
    { className: "line" },
    h("p", {}, link(storyRoute(project, event.story_id), { className: "title" }, outside("", storyTitle(event))), " ", outside("what", what)),
    reason && h("p", { className: "why" }, outside("", reason)),
    h(
      "p",
      { className: "meta" },
      link(projectRoute(project), { className: "of" }, outside("", project)),
      fixedTime(event.timestamp_ms),
      ageNode(event.timestamp_ms, " ago"),
      replayed && h("span", { className: "replayed", title: `Recorded while the sled was cut off; it arrived ${fullTime(received_ms)}` }, "replayed"),
    ),
  );
  node.dataset.type = event.type;
  return node;
}

/** A shorter line, where it is known already whose events these are. */
export function shortLine({ event, replayed }) {
  const [what, reason] = words(event);
  const node = h(
    "li",
    { className: "short" },
    fixedTime(event.timestamp_ms),
    h("span", {}, outside("what", what), reason && ": ", reason && outside("", reason), replayed && " (replayed)"),
  );
  node.dataset.type = event.type;
  return node;
}
