// The timeline: its filters and its lines, newest first, with an end that loads more as it comes near.

import { position } from "./board.js";
import { $, h, hide, keyed, place, plural, say } from "./dom.js";
import { haystack, makeLine } from "./lines.js";
import { clock } from "./times.js";

const LINES_AT_ONCE = 40; // In a burst the others come with the next frames.

const lines = new Map();

/**
 * `filter` is what holds here; `fixed` says whether the view decides about project and story. Answers whether
 * some lines are still to come.
 */
export function timeline({ events, next, busy, problem, started }, filter, fixed, projects) {
  const text = filter.text.trim().toLowerCase();
  const found = text ? events.filter((shown) => haystack(shown).includes(text)) : events;
  const now = someOf(found);
  place($("events"), keyed(lines, now, keyOf, makeLine));
  drawFilters(filter, fixed, projects);
  const oldest = events.at(-1)?.event.timestamp_ms;
  const back = oldest === undefined ? "" : `, looked back to ${clock(oldest)}`;
  const status =
    problem ? `Events could not be loaded: ${problem}.`
    : busy ? "Loading…"
    : text ? `${plural(found.length, "event matches", "events match")}${next ? back : ", all searched"}.`
    : events.length === 0 && next ? "None so far."
    : events.length === 0 ? (isNarrowed(filter) && !fixed ? "No event is like that." : "No events yet.")
    : next ? "" : "That is all there is.";
  say($("timeline-status"), status);
  hide($("older"), !problem && (!started || !next));
  $("older").disabled = busy;
  say($("older"), problem ? "Try again" : text || isNarrowed(filter) ? "Search further back" : "Older events");
  return now.length < found.length;
}

const keyOf = ({ cursor }) => position(cursor);

/** What is there already, and the newest of what is not. */
function someOf(found) {
  let left = LINES_AT_ONCE;
  return found.filter((shown) => lines.has(keyOf(shown)) || left-- > 0);
}

const isNarrowed = ({ project, type, story, last, since, until }) => Boolean(project || type || story || last || since || until);

let drawnFilter = "";

function drawFilters(filter, fixed, projects) {
  drawChoices(projects, filter.project);
  const drawing = JSON.stringify([filter, fixed]);
  if (drawing === drawnFilter) return;
  drawnFilter = drawing;
  hide($("filter-project"), Boolean(fixed));
  hide($("filters"), fixed === "story");
  $("filter-type").value = filter.type;
  $("filter-when").value = filter.last || (filter.since || filter.until ? "between" : "");
  hide($("between"), $("filter-when").value !== "between");
  $("filter-since").value = localText(filter.since);
  $("filter-until").value = localText(filter.until);
  if ($("filter-text").value !== filter.text) $("filter-text").value = filter.text;
  hide($("story-filter"), !filter.story || Boolean(fixed));
  say($("story-filter-name"), filter.story);
}

let drawnNames = [];

function drawChoices(projects, chosen) {
  const select = $("filter-project");
  // Looked at for each frame of a burst: only what differs is made.
  if (drawnNames.length !== projects.size + (chosen && !projects.has(chosen) ? 1 : 0) || (chosen && !drawnNames.includes(chosen))) {
    drawnNames = [...new Set([...projects.keys(), ...(chosen ? [chosen] : [])])].sort();
    select.replaceChildren(h("option", { value: "" }, "All projects"), ...drawnNames.map((name) => h("option", { value: name }, name)));
  }
  if (select.value !== chosen) select.value = chosen;
}

// What an input of type datetime-local holds: the time here, without a zone.
function localText(ms) {
  if (ms === null) return "";
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const localMs = (text) => (text ? new Date(text).getTime() : null);

/** Tell what a person asks for: `filter(change)`, `older()`, `near()`, `looked()`. */
export function wireTimeline({ filter, older, near, looked }) {
  $("filter-project").addEventListener("change", ({ target }) => filter({ project: target.value, story: "" }));
  $("filter-type").addEventListener("change", ({ target }) => filter({ type: target.value }));
  $("filter-when").addEventListener("change", ({ target }) => {
    const day = 86_400_000;
    if (target.value === "between") filter({ last: "", since: new Date().setHours(0, 0, 0, 0) - day, until: null });
    else filter({ last: target.value, since: null, until: null });
  });
  $("filter-since").addEventListener("change", ({ target }) => filter({ last: "", since: localMs(target.value) }));
  $("filter-until").addEventListener("change", ({ target }) => filter({ last: "", until: localMs(target.value) }));
  $("filter-text").addEventListener("input", ({ target }) => filter({ text: target.value }));
  $("story-filter").addEventListener("click", () => filter({ story: "" }));
  $("older").addEventListener("click", () => older());
  const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting && near());
  watcher.observe($("older-mark"));
  for (const node of [window, $("scroll")]) node.addEventListener("scroll", looked, { passive: true });
  // Seen once more after each page: what is still near says so again.
  return () => {
    watcher.unobserve($("older-mark"));
    watcher.observe($("older-mark"));
  };
}
