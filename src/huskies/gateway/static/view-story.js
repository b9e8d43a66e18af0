// A story's page: where it stands, its whole life as a bar and as a table, how often it was held up.

import { FINISHED, STAGES, stageName, storyTitle } from "./board.js";
import { $, h, link, outside, plural, say, svg } from "./dom.js";
import { heldFor, lifeOf, workedOn } from "./life.js";
import { projectRoute } from "./routes.js";
import { age, ageNode, clock, fixedTime } from "./times.js";

let drawn = {};

/** `story` is the board's, undefined where it is on no board; `timeline` holds the story's events. */
export function storyPage(project, storyId, story, timeline, now) {
  const minute = Math.floor(now / 60_000);
  const same = drawn.project === project && drawn.storyId === storyId && drawn.story === story;
  if (same && drawn.events === timeline.events && drawn.busy === timeline.busy && drawn.minute === minute) return;
  drawn = { project, storyId, story, events: timeline.events, busy: timeline.busy, minute };
  const named = timeline.events.find(({ event }) => event.story_name)?.event ?? { story_id: storyId };
  say($("story-title"), storyTitle(story ?? named));
  $("story-of").replaceChildren(link(projectRoute(project), {}, outside("", project)), " · ", outside("id", storyId));
  const life = withBoard(lifeOf(timeline.events, now), story, now);
  drawNow(story, life);
  drawFacts(life, timeline, now);
  $("life").hidden = life.spans.length === 0;
  if (life.spans.length) drawBar(life, now);
  drawStages(life);
  drawHeld(life.held, now);
}

/** A story that never moved has no event of a move; its board says since when it stands where it is. */
function withBoard(life, story, now) {
  if (life.spans.length || !story?.stage || story.since_ms == null) return life;
  const span = { stage: story.stage, from: story.since_ms, to: now };
  const stages = new Map([[story.stage, { visits: 1, ms: now - story.since_ms, isWhole: true }]]);
  return { ...life, spans: [span], stages, began: Math.min(story.since_ms, life.began ?? now) };
}

function drawNow(story, life) {
  const stage = story?.stage ?? life.spans.at(-1)?.stage;
  const since = story?.since_ms ?? life.spans.at(-1)?.from;
  const where = stage ? h("p", { className: "stands" }, h("span", { className: "stage" }, stageName(stage)), since != null && ageNode(since)) : null;
  if (where) where.firstChild.dataset.stage = stage;
  const held = [
    story?.blocked != null && trouble("Blocked", story.blocked, story.blocked_since_ms),
    story?.merge_failure != null && trouble("Merge failed", story.merge_failure, story.merge_failure_since_ms),
  ].filter(Boolean);
  const gone = story === undefined ? [h("p", { className: "note" }, "It is not on the project's board.")] : [];
  $("story-now").replaceChildren(...[where, ...held, ...gone].filter(Boolean));
}

const trouble = (what, reason, since) =>
  h("p", { className: "held" }, h("strong", {}, what), since != null && " for ", since != null && ageNode(since), ": ", outside("", reason));

function drawFacts(life, timeline, now) {
  const blocked = heldFor(life.held, "blocked", now);
  const failed = heldFor(life.held, "merge", now);
  const { from, to } = workedOn(life, now);
  const finished = FINISHED.has(life.spans.at(-1)?.stage);
  const facts = [
    ["First event", life.began === null ? "none" : fixedTime(life.began)],
    [finished ? "Took" : "On its way for", from === null ? "not known" : age(to - from)],
    ["Blocked", blocked.times ? `${plural(blocked.times, "time", "times")}, ${age(blocked.ms)}` : "never"],
    ["Merge failed", failed.times ? `${plural(failed.times, "time", "times")}, ${age(failed.ms)}` : "never"],
    ["Events", timeline.busy ? "loading…" : `${timeline.events.length.toLocaleString()}${timeline.next ? ", and older ones that are not counted here" : ""}`],
  ];
  $("story-facts").replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// --- the bar ---------------------------------------------------------------------------------------

function drawBar(life, now) {
  const { from, to } = workedOn(life, now);
  const whole = Math.max(1, to - from);
  const percent = (ms) => `${Math.min(100, Math.max(0, ((ms - from) / whole) * 100)).toFixed(3)}%`;
  const width = (a, b) => `${((Math.max(0, Math.min(to, b) - Math.max(from, a)) / whole) * 100).toFixed(3)}%`;
  const spans = life.spans.filter((span) => span.from !== null && span.from < to).map((span) =>
    svg("rect", { "data-stage": span.stage, x: percent(span.from), y: 0, width: width(span.from, span.to), height: 28 },
      titled(`${stageName(span.stage)}: ${age(span.to - span.from)}, from ${clock(span.from)} to ${clock(span.to)}`)),
  );
  const held = life.held.map((span) =>
    svg("rect", { class: "held", "data-hue": span.kind, x: percent(span.from), y: 33, width: width(span.from, span.to ?? now), height: 9, rx: 2 },
      titled(`${span.kind === "blocked" ? "Blocked" : "Merge failed"} for ${age((span.to ?? now) - span.from)}: ${span.reason}`)),
  );
  const picture = svg("svg", { width: "100%", height: 44, role: "img" }, ...spans, ...held);
  picture.ariaLabel = "The time in each stage, and below it when the story was held up; the tables below say the same";
  $("life-bar").replaceChildren(picture);
  $("life-from").replaceChildren(fixedTime(from));
  $("life-to").replaceChildren(FINISHED.has(life.spans.at(-1).stage) ? fixedTime(to) : "now");
}

const titled = (text) => {
  const node = svg("title", {});
  node.textContent = text;
  return node;
};

function drawStages({ stages, spans }) {
  const known = STAGES.filter(([stage]) => stages.has(stage)).map(([stage]) => stage);
  const all = [...known, ...[...stages.keys()].filter((stage) => !known.includes(stage))];
  const last = spans.at(-1)?.stage;
  $("stage-times").hidden = all.length === 0;
  $("stage-rows").replaceChildren(
    ...all.map((stage) => {
      const { visits, ms, isWhole } = stages.get(stage);
      const time = ms ? `${isWhole ? "" : "at least "}${age(ms)}${stage === last ? ", and counting" : ""}` : "not known: it was there before its first event";
      const name = h("th", { scope: "row" }, h("span", { className: "swatch" }), outside("", stageName(stage)));
      name.firstChild.dataset.stage = stage;
      return h("tr", {}, name, h("td", {}, visits.toLocaleString()), h("td", {}, time));
    }),
  );
}

function drawHeld(held, now) {
  $("held-times").hidden = held.length === 0;
  const newest = [...held].reverse();
  $("held-rows").replaceChildren(
    ...newest.map(({ kind, reason, from, to }) =>
      h("tr", {}, h("th", { scope: "row" }, kind === "blocked" ? "Blocked" : "Merge failed"), h("td", {}, fixedTime(from)),
        h("td", {}, to === null ? `${age(now - from)}, and counting` : age(to - from)), h("td", { className: "why" }, outside("", reason))),
    ),
  );
}
