// What needs a person, oldest first: since when, why, and on request what happened before.

import { shortId, storyTitle } from "./board.js";
import { $, h, hide, keyed, link, outside, place, plural, say } from "./dom.js";
import { shortLine } from "./lines.js";
import { projectRoute, storyRoute, to } from "./routes.js";
import { ageNode, clock } from "./times.js";

// On the overview the board comes next: so many are in full, and the others one click away.
const FIRST = 5;

export const KINDS = {
  blocked: "Blocked",
  merge: "Merge failed",
  limited: "Rate-limited",
  near: "Near its limit",
  silent: "Not connected",
  quota: "Over its quota",
  twice: "Identity used twice",
  missing: "Events missing",
  quarantined: "Events set aside",
};

const needs = new Map();

/** `ask(project, story)` answers what happened there, newest first; `whole`: show all. */
export function attention(needed, whole, ask) {
  const shown = whole ? needed : needed.slice(0, FIRST);
  const keyOf = ({ key, reason, since, note, until }) => JSON.stringify([key, reason, since, note, until]);
  place($("needs"), keyed(needs, shown, keyOf, (need) => makeNeed(need, ask)));
  say($("attention-count"), needed.length ? needed.length.toLocaleString() : "");
  hide($("all-well"), needed.length > 0);
  hide($("all-needs"), shown.length === needed.length);
  say($("all-needs"), `${plural(needed.length - shown.length, "more thing needs", "more things need")} you, all younger than these`);
}

function makeNeed({ kind, project, story, reason, since, note, until }, ask) {
  const why = h("div", { className: "why" }, outside("", reason), until && ` Until ${clock(until)}.`);
  // A reason of many lines scrolls, and what scrolls must be reachable by keyboard.
  if (reason.length > 400) Object.assign(why, { tabIndex: 0, role: "group", ariaLabel: "The reason in full" });
  const open = link(
    story ? storyRoute(project, story.story_id) : projectRoute(project),
    { className: "title" },
    outside("", story ? storyTitle(story) : project),
  );
  const of = story
    ? [link(projectRoute(project), {}, outside("", project)), " · ", h("span", { title: story.story_id }, outside("id", shortId(story.story_id)))]
    : ["project"];
  const waited = since == null ? "no one knows how long" : ageNode(since);
  const item = h(
    "li",
    { className: "need" },
    h("span", { className: "kind" }, KINDS[kind]),
    h("div", { className: "what" }, open, h("span", { className: "of" }, ...of)),
    h("div", { className: "because" }, why, makeBefore(project, story, ask)),
    h("div", { className: "waited" }, waited, h("span", { className: "note" }, note || (since == null ? "" : `since ${clock(since)}`))),
  );
  item.dataset.kind = kind;
  return item;
}

/** What happened before, fetched when someone wants to know. */
function makeBefore(project, story, ask) {
  const list = h("ol", { className: "before" });
  const status = h("p", { className: "note", role: "status" });
  const node = h("details", {}, h("summary", {}, "What happened before"), list, status);
  node.addEventListener("toggle", async () => {
    if (!node.open) return;
    say(status, "Loading…");
    try {
      const { events, isAll } = await ask(project, story?.story_id ?? "");
      list.replaceChildren(...events.map(shortLine));
      const rest = story ? link(storyRoute(project, story.story_id), {}, "its whole life") : link(to("project", { project }), {}, "all of the project");
      status.replaceChildren(...(events.length === 0 ? ["No event tells of it."] : isAll ? ["That is all; see ", rest, "."] : ["These are the newest; see ", rest, "."]));
    } catch (error) {
      say(status, `It could not be loaded: ${error.message}. Close and open this to try again.`);
    }
  });
  return node;
}
