// The dashboard's wiring: what is fetched, what is streamed, and when which part is drawn again.

import { tell, wireAlerts } from "./alerts.js";
import * as model from "./board.js";
import { EVENTS, PROJECTS, getJson } from "./client.js";
import { $, calm, hide, linkOut, outside, say } from "./dom.js";
import { wireKeys } from "./keys.js";
import { LIMITS, applyLimits, limitedNow } from "./limits.js";
import { filterOf, format, parse, to } from "./routes.js";
import { Stream } from "./stream.js";
import { wireTabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { ages } from "./times.js";
import { attention } from "./view-attention.js";
import { board as drawBoard, drawSled } from "./view-board.js";
import { connection, notice, summary } from "./view-head.js";
import { leavePictures, pictures, wirePictures } from "./view-pictures.js";
import { storyPage } from "./view-story.js";
import { timeline as drawTimeline, wireTimeline } from "./view-timeline.js";

const POLL_MS = 10_000;
// A board of 20,000 stories takes a while to make and to read: it is asked for at most this part of the time.
const POLL_SHARE = 1 / 40;
const AGES_MS = 5_000;
const LIMITS_MS = 86_400_000; // Rate limits that began earlier than that are over.
const BEFORE = 8; // How much of what happened before is shown at once.

let route = parse(location.hash);
let board = new Map();
let limits = new Map();
let newest = null;
let arrived = []; // From the stream, not drawn yet.
let sincePoll = null; // What the stream brought while an answer of PROJECTS was on its way.
let pollAt = 0;
let loaded = false;
let answering = true;
let staleSince = null;
let drawing = 0;

const timeline = new Timeline(() => {
  draw();
  lookAgain();
});
const stream = new Stream({
  opened() {
    const back = staleSince !== null;
    connectionChanged();
    if (back) poll();
  },
  event(shown) {
    newest = shown;
    arrived.push(shown);
    sincePoll?.push(shown);
    draw();
  },
  reset(reason) {
    // What follows would be the whole log from its beginning; its newest page says it sooner.
    notice(`The gateway's log is another one than before, so everything was loaded again: ${reason}.`);
    start();
  },
  gap({ from, to: last }) {
    notice(`Events ${from} to ${last} came and went while this page was away: the gateway no longer keeps them. The board is right; the timeline has a hole.`);
    poll();
  },
  broken(reason) {
    if (reason) notice(`The gateway ended the stream: ${reason}`);
    connectionChanged();
  },
});

// --- starting, and starting afresh -----------------------------------------------------------------

// The projects say up to which event they are true, and the stream goes on from there. The timeline comes by
// itself: what both bring is one event.
async function start() {
  stream.close();
  try {
    const { projects, cursor } = await getJson(PROJECTS);
    newest = null;
    arrived = [];
    limits = new Map();
    board = model.replaceProjects(new Map(), projects, Date.now());
    if (loaded) timeline.restart();
    loaded = true;
    answering = true;
    staleSince = null; // Fresh, and not stale for the moment that the stream takes to open.
    stream.from(cursor);
    pollAt = performance.now() + POLL_MS;
    routed();
    loadNewest();
  } catch (error) {
    answering = false;
    connectionChanged(error.message);
    stream.again(start);
  }
}

/** What the board does not say: when the last event came, and which agents are rate-limited. */
async function loadNewest() {
  try {
    const last = await getJson(EVENTS, { before: "latest", limit: 1 });
    newest ??= last.events[0] ?? null;
    const since = Date.now() - LIMITS_MS;
    const pages = await Promise.all(LIMITS.map((type) => getJson(EVENTS, { before: "latest", limit: 100, type, since })));
    const events = pages.flatMap((page) => page.events).sort((a, b) => model.position(a.cursor) - model.position(b.cursor));
    const held = events.filter(({ project, event }) => !hasMovedSince(project, event));
    limits = new Map([...applyLimits(new Map(), held), ...limits]);
  } catch {
    // The stream and the next poll say that the gateway does not answer.
  }
  draw();
}

function hasMovedSince(project, { story_id, timestamp_ms }) {
  const story = board.get(project)?.stories.get(story_id);
  return story?.since_ms != null && story.since_ms > timestamp_ms;
}

function connectionChanged(problem = "") {
  const live = stream.streaming && answering;
  staleSince = live ? null : (staleSince ?? Date.now());
  connection({ live, loaded, streaming: stream.streaming, since: staleSince, problem });
  draw();
}

// --- what no event says: sleds, and stories that appear or vanish ----------------------------------

async function poll() {
  if (!loaded || sincePoll !== null) return;
  sincePoll = [];
  const began = performance.now();
  try {
    const answer = await getJson(PROJECTS);
    const seen = model.position(answer.cursor);
    answering = true;
    // The answer may be older than what the stream brought meanwhile.
    const since = sincePoll.filter((shown) => model.position(shown.cursor) > seen);
    board = model.applyEvents(model.replaceProjects(board, answer.projects, Date.now()), since);
    connectionChanged();
    stream.checkLag(seen);
  } catch (error) {
    answering = false;
    connectionChanged(error.message);
  } finally {
    sincePoll = null;
    pollAt = performance.now() + Math.max(POLL_MS, (performance.now() - began) / POLL_SHARE);
  }
}

// --- views -----------------------------------------------------------------------------------------

// Which sections a view shows.
const SECTIONS = {
  overview: ["attention", "board", "timeline"],
  attention: ["attention"],
  board: ["board"],
  timeline: ["timeline"],
  pictures: ["pictures"],
  project: ["project", "attention", "board", "timeline"],
  story: ["story", "timeline"],
};
const NAMES = { attention: "Attention", board: "Board", timeline: "Timeline", pictures: "Pictures" };
const ALL_SECTIONS = [...new Set(Object.values(SECTIONS).flat())];

/** Go to a view; `isSame`: it is the one that is shown, said otherwise. */
function go(next, isSame = false) {
  history[isSame ? "replaceState" : "pushState"](null, "", format(next));
  route = next;
  routed(!isSame);
}

function routed(isNew = false) {
  const isEmpty = loaded && board.size === 0;
  document.body.dataset.view = route.view;
  for (const name of ALL_SECTIONS) $(name).hidden = !loaded || isEmpty || !SECTIONS[route.view].includes(name);
  for (const node of document.querySelectorAll("nav a")) {
    const here = parse(node.hash).view === route.view;
    if (here) node.setAttribute("aria-current", "page");
    else node.removeAttribute("aria-current");
  }
  if ($("find").value !== route.find) $("find").value = route.find;
  if (route.view !== "pictures") leavePictures();
  if (SECTIONS[route.view].includes("timeline")) timeline.show(filterOf(route), route.view === "story");
  if (isNew) {
    scrollTo({ top: 0, behavior: "instant" });
    $("scroll").scrollTop = 0;
    headingOf(route.view)?.focus({ preventScroll: true });
  }
  draw();
}

const headingOf = (view) => $(view === "overview" ? "attention-title" : `${view}-title`);

function filterTimeline(change) {
  timeline.looked();
  go({ ...route, filter: { ...route.filter, ...change } }, true);
}

async function before(project, story) {
  const page = await getJson(EVENTS, { before: "latest", limit: BEFORE, project, story });
  return { events: page.events, isAll: page.next === null };
}

// --- drawing ---------------------------------------------------------------------------------------

// At most once a frame, however many events come. A hidden tab has no frames, and its title still counts.
function draw() {
  drawing ||= document.hidden ? setTimeout(drawNow, 250) : requestAnimationFrame(drawNow);
}

function drawNow() {
  drawing = 0;
  const now = Date.now();
  takeArrived();
  if (!loaded) return;
  const needed = model.attention(board, limitedNow(limits, now), now);
  const { view, project } = route;
  summary(board, needed.length, newest, staleSince !== null, nameOf(route));
  hide($("welcome"), board.size > 0);
  if (board.size === 0) return;
  const shown = new Set(SECTIONS[view]);
  if (shown.has("attention")) attention(needed.filter((need) => view !== "project" || need.project === project), view !== "overview", before);
  if (shown.has("board")) drawBoard(board, { find: route.find, only: view === "project" ? project : "" });
  if (shown.has("project")) drawProject(project);
  if (shown.has("story")) storyPage(project, route.story, board.get(project)?.stories.get(route.story), timeline, now);
  if (shown.has("timeline") && drawTimeline(timeline, filterOf(route), view === "project" || view === "story" ? view : "", board)) draw();
  if (shown.has("pictures")) pictures(route, board, () => stream.head);
}

function takeArrived() {
  if (!arrived.length) return;
  const events = arrived;
  arrived = [];
  const isNew = events.some(({ project }) => !board.has(project));
  const wasEmpty = board.size === 0;
  board = model.applyEvents(board, events);
  limits = applyLimits(limits, events);
  timeline.take(events);
  tell(events, stillHolds);
  if (isNew) poll();
  if (wasEmpty && board.size) routed();
}

function stillHolds({ project, event }) {
  const story = board.get(project)?.stories.get(event.story_id);
  if (event.type === "rate_limit_hard_block") return Date.parse(event.reset_at) > Date.now();
  return (event.type === "story_blocked" ? story?.blocked : story?.merge_failure) === event.reason;
}

function nameOf({ view, project, story }) {
  if (view === "story") return model.storyTitle(board.get(project)?.stories.get(story) ?? { story_id: story });
  return view === "project" ? project : NAMES[view];
}

function drawProject(name) {
  const project = board.get(name);
  $("project-title").replaceChildren(outside("", name));
  say($("project-note"), project ? "" : "The gateway knows no project of this name, or you may not see it.");
  hide($("project-sled"), !project);
  if (!project) return;
  drawSled($("project-sled"), project);
  $("project-link").replaceChildren(linkOut(project.url, {}, "its own server") ?? "");
}

const lookAgain = wireTimeline({
  filter: filterTimeline,
  older: () => timeline.older(),
  near: () => timeline.near(),
  looked: () => timeline.looked(),
});
wirePictures(({ days = route.days, project = route.filter.project }) => go(to("pictures", { days, filter: { project } }), true));
wireKeys((next) => go(next));
wireAlerts();
wireTabs({ rest: () => stream.rest(), wake: () => stream.wake() });
$("find").addEventListener("input", ({ target }) => go({ ...route, find: target.value }, true));
for (const node of document.querySelectorAll(".origin")) node.textContent = location.origin;
addEventListener("popstate", () => {
  route = parse(location.hash);
  routed(true);
});
document.addEventListener("visibilitychange", () => {
  drawing = 0; // A frame that was asked for may not come any more.
  draw();
  if (!document.hidden) poll();
});
addEventListener("online", () => poll());
calm.addEventListener("change", draw);
setInterval(() => document.hidden || performance.now() < pollAt || poll(), POLL_MS / 10);
setInterval(() => document.hidden || (ages(Date.now()), draw()), AGES_MS);
connectionChanged();
start();
