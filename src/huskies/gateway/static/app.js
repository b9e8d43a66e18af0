// The dashboard's wiring: what is fetched, what is streamed, and when which part is drawn again.

import * as model from "./board.js";
import * as view from "./view.js";

const EVENTS = "/gateway/events";
const PROJECTS = "/gateway/projects";
const PAGE = 100;
const POLL_MS = 10_000;
const AGES_MS = 5_000;
const ANSWER_LIMIT_MS = 10_000;
// How long the stream may take to bring what the log already holds, before it counts as dead.
const LAG_LIMIT_MS = 3_000;
// The most event rows kept without anyone asking for older ones: bounds a page that stays open for weeks.
const ROWS = 300;

let board = new Map();
let timeline = { events: [], next: null, filter: { project: "", story: "", text: "" }, room: ROWS, busy: false, problem: "" };
let cursor = "0"; // The newest event that the page has; "0": before the first.
let newest = null;
let arrived = []; // From the stream, not drawn yet.
let sincePoll = null; // What the stream brought while an answer of PROJECTS was on its way.
let source = null;
let loaded = false;
let streaming = false;
let answering = true;
let staleSince = null;
let retryMs = 1_000;
let drawing = 0;

const head = () => (cursor === "0" ? 0 : model.position(cursor));

async function getJson(path, query = {}) {
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
  if (response.status === 401) location.assign("/login");
  if (!response.ok) throw new Error(body.error ?? `the gateway answered with status ${response.status}`);
  return body;
}

// --- starting, and starting afresh -----------------------------------------------------------------

// The page first, the projects second, the stream from the page's newest event: what happens in between is in
// the stream, and applying it once more to a board that has it already ends at the same board.
async function start() {
  source?.close();
  streaming = false;
  try {
    const page = await getJson(EVENTS, { before: "latest", limit: PAGE });
    const { projects } = await getJson(PROJECTS);
    newest = page.events[0] ?? null;
    cursor = newest?.cursor ?? "0";
    arrived = [];
    board = model.replaceProjects(new Map(), projects, Date.now());
    const filtered = timeline.filter.project || timeline.filter.story;
    timeline = { ...timeline, events: filtered ? [] : page.events, next: filtered ? null : page.next, room: ROWS, problem: "" };
    if (filtered) loadTimeline();
    loaded = true;
    answering = true;
    staleSince = null; // Fresh, and not stale for the moment that the stream takes to open.
    listen();
  } catch (error) {
    answering = false;
    connectionChanged(error.message);
    again(start);
  }
  draw();
}

function again(action) {
  setTimeout(action, retryMs);
  retryMs = Math.min(retryMs * 2, 15_000);
}

// --- the stream ------------------------------------------------------------------------------------

function listen() {
  source?.close();
  const stream = (source = new EventSource(`${EVENTS}?after=${encodeURIComponent(cursor)}`));
  stream.addEventListener("open", () => {
    const back = staleSince !== null;
    streaming = true;
    retryMs = 1_000;
    connectionChanged();
    if (back) poll();
  });
  stream.addEventListener("status", (message) => take(JSON.parse(message.data)));
  stream.addEventListener("reset", (message) => {
    // What follows would be the whole log from its beginning; its newest page says it sooner.
    view.notice(`The gateway's log is another one than before, so everything was loaded again: ${JSON.parse(message.data).reason}.`);
    start();
  });
  stream.addEventListener("gap", (message) => {
    const { from, to } = JSON.parse(message.data);
    view.notice(`Events ${from} to ${to} came and went while this page was away: the gateway no longer keeps them. The board is right; the timeline has a hole.`);
    poll();
  });
  stream.addEventListener("error", (message) => {
    // The gateway's own `event: error` has data; the browser's word that the connection broke has none.
    if (message.data !== undefined) view.notice(`The gateway ended the stream: ${JSON.parse(message.data).reason}`);
    streaming = false;
    connectionChanged();
    // The browser tries again by itself, except where the answer was no stream at all.
    if (stream.readyState === EventSource.CLOSED && stream === source) again(() => stream === source && listen());
  });
}

function take(shown) {
  // A stream that resumes never repeats an event; that this page shows none twice must not hang on it.
  if (cursor !== "0" && model.position(shown.cursor) <= head()) return;
  newest = shown;
  cursor = shown.cursor;
  arrived.push(shown);
  sincePoll?.push(shown);
  draw();
}

function connectionChanged(problem = "") {
  const live = streaming && answering;
  staleSince = live ? null : (staleSince ?? Date.now());
  view.connection({ live, loaded, streaming, since: staleSince, problem });
  draw();
}

// --- what no event says: sleds, and stories that appear or vanish ----------------------------------

async function poll() {
  if (!loaded || sincePoll !== null) return;
  sincePoll = [];
  try {
    const answer = await getJson(PROJECTS);
    const seen = model.position(answer.cursor);
    answering = true;
    // The answer may be older than what the stream brought meanwhile.
    const since = sincePoll.filter((shown) => model.position(shown.cursor) > seen);
    board = model.applyEvents(model.replaceProjects(board, answer.projects, Date.now()), since);
    connectionChanged();
    checkLag(seen);
  } catch (error) {
    answering = false;
    connectionChanged(error.message);
  } finally {
    sincePoll = null;
  }
}

// A connection that a sleeping laptop or a router forgot still looks open: the log tells.
function checkLag(latest) {
  const [stream, before] = [source, head()];
  if (!streaming || latest <= before) return;
  setTimeout(() => stream === source && head() === before && listen(), LAG_LIMIT_MS);
}

// --- the timeline ----------------------------------------------------------------------------------

async function loadTimeline() {
  const { filter, next } = timeline;
  const isCurrent = () => timeline.filter.project === filter.project && timeline.filter.story === filter.story;
  timeline = { ...timeline, busy: true, problem: "" };
  draw();
  try {
    const { project, story } = filter;
    const page = await getJson(EVENTS, { before: next ?? "latest", limit: PAGE, project, story });
    if (!isCurrent()) return;
    const events = model.mergeEvents(timeline.events, page.events);
    timeline = { ...timeline, events, next: page.next, room: Math.max(ROWS, events.length), busy: false };
  } catch (error) {
    if (isCurrent()) timeline = { ...timeline, busy: false, problem: error.message };
  }
  draw();
}

function filterTimeline(change) {
  const filter = { ...timeline.filter, ...change };
  const { project, story } = timeline.filter;
  timeline = { ...timeline, filter };
  if (filter.project !== project || filter.story !== story) {
    timeline = { ...timeline, events: [], next: null, room: ROWS };
    loadTimeline();
  }
  draw();
}

const isWanted = ({ project, event }) =>
  (!timeline.filter.project || project === timeline.filter.project) &&
  (!timeline.filter.story || event.story_id === timeline.filter.story);

// --- drawing ---------------------------------------------------------------------------------------

// At most once a frame, however many events come. A hidden tab has no frames, and its title still counts.
function draw() {
  drawing ||= document.hidden ? setTimeout(drawNow, 250) : requestAnimationFrame(drawNow);
}

function drawNow() {
  drawing = 0;
  const now = Date.now();
  if (arrived.length) {
    const events = arrived;
    arrived = [];
    const isNew = events.some(({ project }) => !board.has(project));
    board = model.applyEvents(board, events);
    const live = model.mergeEvents(timeline.events, events.filter(isWanted));
    const kept = live.slice(0, timeline.room);
    timeline = { ...timeline, events: kept, next: kept.length < live.length ? kept.at(-1).cursor : timeline.next };
    if (isNew) poll();
  }
  if (!loaded) return;
  const needed = model.attention(board, now);
  view.summary(board, needed, newest, staleSince !== null);
  view.attention(needed);
  view.board(board);
  view.timeline(timeline, board);
}

view.wire({ filter: filterTimeline, older: loadTimeline });
document.addEventListener("visibilitychange", () => {
  drawing = 0; // A frame that was asked for may not come any more.
  draw();
  if (!document.hidden) poll();
});
setInterval(() => document.hidden || poll(), POLL_MS);
setInterval(() => document.hidden || (view.ages(Date.now()), draw()), AGES_MS);
connectionChanged();
start();
