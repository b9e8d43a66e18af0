// The board: a row for each project, a column for each stage, cards that glide when their story moves.
//
// A thousand projects have a row each, so that the page's length, its headings and a search through it are true;
// the cards of a row are there only while it is near to what is seen.

import { FINISHED, STAGES, isHeldUp, shortId, stageName, storyTitle } from "./board.js";
import { $, calm, h, hide, keyed, link, linkOut, outside, place, plural, say } from "./dom.js";
import { projectRoute, storyRoute } from "./routes.js";
import { ageNode } from "./times.js";
import { KINDS } from "./view-attention.js";

const CELL_CARDS = 6; // More in a cell are counted until asked for: a backlog must not push the rest away.
const DONE_CARDS = 3;
const ARCHIVED_CARDS = 0;
const PAGE_CARDS = 30; // The same on a project's own page.
const CALM_MOVES = 24; // More cards moving at once are a burst, and no help to the eye.
const FIRST_ROWS = 8; // Filled at once; the others as soon as the browser says that they are near.
const NEAR = "900px 0px";
const CARD_PX = 62; // About what a card takes, for the length of a row that was never filled.

const rows = new Map();
const cards = new Map(); // For all cells together: a card that moves is the same node before and after.
const opened = new Set(); // Cells that show all their cards.
const byNode = new WeakMap();
let drawn = new Map(); // The projects as they were drawn last.
let shown = ""; // Which of them, and how.
let page = "";

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const row = byNode.get(target);
    row.near = isIntersecting;
    if (!drawn.has(row.name)) continue;
    if (isIntersecting) fill(row, drawn.get(row.name));
    else empty(row);
  }
}, { rootMargin: NEAR });

/** `find`: part of the names of those to show; `only`: the one project whose page this is. */
export function board(projects, { find, only }) {
  const wanted = JSON.stringify([find, only]);
  if (projects === drawn && wanted === shown) return;
  const focused = document.activeElement;
  const dirty = [...projects.values()].filter((project) => drawn.get(project.name) !== project);
  // To ask where a card stands has the browser lay out the page: not for a burst, in which none glides.
  const moving = calm.matches || document.hidden || dirty.length > CALM_MOVES ? [] : findMoves(dirty);
  const before = drawn;
  drawn = projects;
  if (wanted !== shown || before.size !== projects.size || dirty.some(({ name }) => !before.has(name))) placeRows(find, only);
  if (page !== only) for (const row of rows.values()) dropCells(row);
  page = only;
  shown = wanted;
  for (const row of rows.values()) drawRow(row, projects.get(row.name));
  for (const { node, from } of moving) glide(node, from);
  // Moving a node in the page takes the focus from it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

function placeRows(find, only) {
  const part = find.trim().toLowerCase();
  const names = [...drawn.keys()].filter((name) => (only ? name === only : name.toLowerCase().includes(part))).sort();
  for (const [name, row] of rows) if (!names.includes(name)) forget(row);
  const all = keyed(rows, names, (name) => name, makeRow);
  place($("rows"), all.map(({ node }) => node));
  all.slice(0, FIRST_ROWS).forEach((row) => (row.near = true));
  say($("found"), part && !only ? `${plural(names.length, "project", "projects")} of ${drawn.size.toLocaleString()}` : "");
}

function forget(row) {
  watcher.unobserve(row.node);
  dropCells(row);
}

// --- cards that move -------------------------------------------------------------------------------

function findMoves(projects) {
  const moves = [];
  for (const project of projects) {
    const before = drawn.get(project.name);
    if (!before || before.stories === project.stories || !rows.get(project.name)?.cells) continue;
    for (const story of project.stories.values()) {
      const old = before.stories.get(story.story_id);
      const node = old && old.stage !== story.stage && cards.get(cardKey(project, story))?.node;
      if (node?.isConnected) moves.push(node);
      if (moves.length > CALM_MOVES) return [];
    }
  }
  return moves.map((node) => ({ node, from: node.getBoundingClientRect() }));
}

function glide(node, from) {
  if (!node.isConnected) return;
  const to = node.getBoundingClientRect();
  const start = { transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)`, zIndex: 2, position: "relative" };
  node.animate([start, { transform: "none", zIndex: 2, position: "relative" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
  node.firstElementChild.animate([{ borderColor: "var(--accent)" }, {}], { duration: 2400, easing: "ease-in" });
}

// --- rows ------------------------------------------------------------------------------------------

function makeRow(name) {
  const id = `project-${name}`;
  const out = h("span", { className: "out" });
  const title = h("h3", { id }, link(projectRoute(name), {}, outside("", name)));
  const state = h("p", { className: "sled" });
  const node = h("li", { className: "row" }, h("div", { className: "project" }, title, state, out));
  node.setAttribute("aria-labelledby", id);
  const row = { name, node, out, state, near: false, cells: null, project: null, link: null };
  byNode.set(node, row);
  watcher.observe(node);
  return row;
}

function drawRow(row, project) {
  if (row.project === project && (row.cells !== null || !row.near)) return;
  if (row.project !== project) {
    drawSled(row.state, project);
    drawOut(row, project);
  }
  if (row.near || row.cells !== null) fill(row, project);
  else {
    row.project = project;
    // Once: a thousand rows would move with each event of one that nobody sees.
    row.node.style.minHeight ||= `${guess(project)}px`;
  }
}

function fill(row, project) {
  if (row.cells === null) {
    row.cells = new Map([...STAGES.map(([stage]) => stage), "elsewhere"].map((stage) => [stage, makeCell(stage, row)]));
    row.node.append(...[...row.cells.values()].map((cell) => cell.node));
    row.node.style.minHeight = "";
  } else if (row.project === project) return;
  for (const id of row.project?.stories.keys() ?? []) if (!project.stories.has(id)) cards.delete(`${row.name} ${id}`);
  row.project = project;
  drawCells(row, project);
}

/** Take the cards from a row that is far away; it stays as long as it was. */
function empty(row) {
  // What is not shown at all has no length, and what has the focus must not lose it.
  if (row.cells === null || row.node.offsetParent === null || row.node.contains(document.activeElement)) return;
  row.node.style.minHeight = `${row.node.offsetHeight}px`;
  dropCells(row);
}

function dropCells(row) {
  for (const { node } of row.cells?.values() ?? []) node.remove();
  for (const id of row.project?.stories.keys() ?? []) cards.delete(`${row.name} ${id}`);
  row.cells = null;
}

function guess(project) {
  const counts = new Map();
  for (const { stage } of project.stories.values()) counts.set(stage, (counts.get(stage) ?? 0) + 1);
  return 40 + CARD_PX * Math.max(0, ...[...counts].map(([stage, count]) => Math.min(count, limitOf(stage) / (FINISHED.has(stage) ? 2 : 1))));
}

function drawOut(row, { url, name }) {
  if (row.link === url) return;
  row.link = url;
  row.out.replaceChildren(linkOut(url, { title: `${name}'s own server: ${url}` }, "its server") ?? "");
}

export function drawSled(node, { connected, outstanding, last_seen_ms: seen }) {
  const [state, ...text] =
    connected === undefined ? ["unknown", "sled: asking…"]
    : connected && outstanding > 0 ? ["catching-up", `catching up, ${outstanding.toLocaleString()} to go`]
    : connected ? ["connected", "connected"]
    : seen === null ? ["never", "sled never seen"]
    : ["silent", "not connected for ", ageNode(seen)];
  const said = JSON.stringify([state, outstanding, seen]);
  if (node.dataset.said === said) return;
  Object.assign(node.dataset, { state, said });
  node.replaceChildren(...text);
}

// --- cells and cards -------------------------------------------------------------------------------

function makeCell(stage, row) {
  const name = stage === "elsewhere" ? "In another stage" : stageName(stage);
  const count = h("span", { className: "count" });
  const list = h("ul", { className: "cards", ariaLabel: name });
  const more = h("button", { type: "button", className: "more", hidden: true });
  const heading = h("h4", {}, h("span", {}, name), count);
  const node = h("div", { className: "cell" }, heading, list, more);
  node.dataset.stage = stage;
  const key = `${row.name} ${stage}`;
  more.addEventListener("click", () => {
    if (!opened.delete(key)) opened.add(key);
    drawCells(row, row.project);
  });
  return { node, count, list, more, key };
}

function drawCells({ cells }, project) {
  const byStage = new Map([...cells.keys()].map((stage) => [stage, []]));
  for (const story of project.stories.values()) (byStage.get(story.stage) ?? byStage.get("elsewhere")).push(story);
  for (const [stage, stories] of byStage) drawCell(cells.get(stage), project, stage, stories);
}

const LIMITS = new Map([["5_done", DONE_CARDS], ["6_archived", ARCHIVED_CARDS]]);
const limitOf = (stage) => (page ? PAGE_CARDS : (LIMITS.get(stage) ?? CELL_CARDS));

function drawCell({ node, count, list, more, key }, project, stage, stories) {
  const limit = limitOf(stage);
  stories.sort(FINISHED.has(stage) ? newestFirst : troubledThenOldest);
  const some = opened.has(key) ? stories : stories.slice(0, limit);
  say(count, stories.length.toLocaleString());
  node.dataset.empty = stories.length === 0;
  for (const { story_id } of stories.slice(some.length)) cards.delete(`${project.name} ${story_id}`);
  place(list, some.map((story) => drawCard(project, story)));
  hide(more, stories.length <= limit);
  more.ariaExpanded = String(opened.has(key));
  const rest = (stories.length - some.length).toLocaleString();
  say(more, opened.has(key) ? "Show fewer" : some.length ? `${rest} more` : `Show ${rest}`);
}

const newestFirst = (a, b) => (b.since_ms ?? 0) - (a.since_ms ?? 0) || (a.story_id < b.story_id ? -1 : 1);
const troubledThenOldest = (a, b) => isHeldUp(b) - isHeldUp(a) || newestFirst(b, a);
const cardKey = (project, story) => `${project.name} ${story.story_id}`; // No project's name has a space.

function drawCard(project, story) {
  const key = cardKey(project, story);
  const card = cards.get(key) ?? { node: h("li", { className: "card" }, link(storyRoute(project.name, story.story_id), {})), story: null };
  if (card.story === story) return card.node;
  cards.set(key, card);
  const id = shortId(story.story_id);
  const trouble = story.blocked != null ? KINDS.blocked : story.merge_failure != null ? KINDS.merge : "";
  const inside = card.node.firstElementChild;
  inside.title = `${story.story_id}${trouble && `\n${trouble}: ${story.blocked ?? story.merge_failure}`}`;
  inside.replaceChildren(
    outside("name", storyTitle(story)),
    h(
      "span",
      { className: "meta" },
      trouble && h("span", { className: "trouble" }, trouble),
      id !== storyTitle(story) && outside("id", id),
      story.since_ms != null && ageNode(story.since_ms),
      !STAGES.some(([stage]) => stage === story.stage) && outside("id", stageName(story.stage)),
    ),
  );
  card.node.dataset.trouble = trouble && (story.blocked != null ? "blocked" : "merge");
  card.story = story;
  return card.node;
}
