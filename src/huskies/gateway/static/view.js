// Draws what it is given. Outside text (names, reasons, ids) enters the page as text nodes only, never as markup.

import { FINISHED, STAGES, position, stageName, storyTitle } from "./board.js";

const $ = (id) => document.getElementById(id);
const CELL_CARDS = 6; // More in a cell are counted until asked for: a backlog must not push the rest away.
const FINISHED_CARDS = 3;
const CALM_MOVES = 24; // More cards moving at once are a burst, and no help to the eye.

const KINDS = {
  blocked: "Blocked",
  merge: "Merge failed",
  silent: "Not connected",
  quota: "Over its quota",
  twice: "Identity used twice",
  missing: "Events missing",
  quarantined: "Events set aside",
};

// --- small tools -----------------------------------------------------------------------------------

function h(tag, props, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter(Boolean));
  return node;
}

/** Text from outside, isolated so that its writing direction stays its own. */
const outside = (className, text) => h("bdi", { className }, text);

/** Make these the children, touching only what differs: what stays keeps its focus and its scrolling. */
function place(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
}

/** The nodes for these items, made once for each key and kept in `known`. */
function keyed(known, items, keyOf, make) {
  const keys = new Set(items.map(keyOf));
  for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
  return items.map((item) => {
    const key = keyOf(item);
    if (!known.has(key)) known.set(key, make(item));
    return known.get(key);
  });
}

// Setting the same text again would make screen readers and the browser's layout work for nothing.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const plural = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

// --- time ------------------------------------------------------------------------------------------

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 && hours < 10 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return plural(Math.floor(hours / 24), "day", "days");
}

const clock = (ms) =>
  DAY.format(ms) === DAY.format(Date.now()) ? CLOCK.format(ms) : `${DAY.format(ms)}, ${CLOCK.format(ms)}`;

const fixedTime = (ms) => h("time", { dateTime: new Date(ms).toISOString(), title: FULL.format(ms) }, clock(ms));

/** How long ago that is, kept true by `ages`. */
function ageNode(ms, ago = "") {
  const node = fixedTime(ms);
  Object.assign(node.dataset, { ms, ago });
  say(node, age(Date.now() - ms) + ago);
  return node;
}

/** Keep every relative age on the page true. */
export function ages(now) {
  for (const node of document.querySelectorAll("time[data-ms]"))
    say(node, age(now - Number(node.dataset.ms)) + node.dataset.ago);
}

// --- the head of the page --------------------------------------------------------------------------

export function connection({ live, loaded, streaming, since, problem }) {
  $("link").dataset.state = live ? "live" : loaded ? "stale" : "loading";
  say($("link-text"), live ? "Live" : loaded ? `${streaming ? "Out of date" : "Reconnecting"} since ${clock(since)}` : "Connecting…");
  const why = problem ? ` (${problem})` : "";
  const stale =
    loaded && streaming ? `Events arrive, but since ${clock(since)} the gateway does not say how the sleds stand${why}. The page keeps asking.`
    : loaded ? `No connection to the gateway since ${clock(since)}${why}. What you see is how things stood then; the page catches up by itself.`
    : `Nothing could be loaded yet${why}. The page keeps trying; is the gateway running at ${location.origin}?`;
  document.body.dataset.stale = loaded && !live;
  $("stale").hidden = live || (!loaded && !problem);
  say($("stale"), $("stale").hidden ? "" : stale);
}

export function notice(text) {
  const close = h("button", { type: "button", className: "plain" }, "Dismiss");
  const item = h("p", { className: "notice" }, h("span", {}, `${clock(Date.now())}: ${text}`), close);
  close.addEventListener("click", () => item.remove());
  $("notices").append(item);
}

export function summary(board, needed, newest, stale) {
  const count = needed.length;
  document.title = `${count ? `(${count}) ` : ""}Huskies${stale ? " · reconnecting" : ""}`;
  const icon = count ? "/static/icon-attention.svg" : "/static/icon.svg";
  if ($("icon").getAttribute("href") !== icon) $("icon").setAttribute("href", icon);
  const moving = [...board.values()].flatMap(({ stories }) => [...stories.values()].filter(inFlight)).length;
  const empty = board.size === 0 && newest === null;
  say($("headline"), empty ? "" : count === 0 ? "Nothing needs you." : count === 1 ? "1 thing needs you." : `${count} things need you.`);
  say($("in-flight"), empty ? "" : `${plural(board.size, "project", "projects")}, ${plural(moving, "story", "stories")} in flight`);
  $("last").replaceChildren(...(newest === null ? [] : ["last event ", ageNode(newest.received_ms, " ago")]));
  for (const id of ["attention", "board", "timeline"]) $(id).hidden = empty;
  $("welcome").hidden = !empty;
}

const inFlight = ({ stage }) => stage !== null && stage !== "1_backlog" && !FINISHED.has(stage);

// --- needs attention -------------------------------------------------------------------------------

const needs = new Map();

export function attention(needed) {
  const keyOf = ({ key, reason, since, note }) => JSON.stringify([key, reason, since, note]);
  place($("needs"), keyed(needs, needed, keyOf, makeNeed));
  say($("attention-count"), needed.length ? String(needed.length) : "");
  $("all-well").hidden = needed.length > 0;
}

function makeNeed({ kind, project, story, reason, since, note }) {
  const why = h("div", { className: "why" }, outside("", reason));
  // A reason of many lines scrolls, and what scrolls must be reachable by keyboard.
  if (reason.length > 400) Object.assign(why, { tabIndex: 0, role: "group", ariaLabel: "The reason in full" });
  const open = h("button", { type: "button", className: "title" }, outside("", story ? storyTitle(story) : project));
  open.title = "Show in the timeline";
  open.addEventListener("click", () => showInTimeline(project, story));
  const waited = since == null ? "no one knows how long" : ageNode(since);
  const item = h(
    "li",
    { className: "need" },
    h("span", { className: "kind" }, KINDS[kind]),
    h("div", { className: "what" }, open, h("span", { className: "of" }, ...(story ? [outside("", project), " · ", outside("id", story.story_id)] : ["project"]))),
    why,
    h("div", { className: "waited" }, waited, h("span", { className: "note" }, note || (since == null ? "" : `since ${clock(since)}`))),
  );
  item.dataset.kind = kind;
  return item;
}

// --- the board -------------------------------------------------------------------------------------

const rows = new Map();
const cards = new Map(); // For all cells together: a card that moves is the same node before and after.
const opened = new Set(); // Cells that show all their cards.
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let drawn = new Map();

export function board(projects, changed = (project) => drawn.get(project.name) !== project) {
  const all = [...projects.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const dirty = all.filter(changed);
  if (!dirty.length && drawn.size === projects.size) return;
  const focused = document.activeElement;
  const moving = calm.matches || document.hidden ? [] : findMoves(dirty);
  place($("rows"), keyed(rows, all, ({ name }) => name, makeRow).map(({ node }) => node));
  for (const project of dirty) drawRow(rows.get(project.name), project);
  for (const { node, from } of moving.length > CALM_MOVES ? [] : moving) glide(node, from);
  // Moving a node in the page takes the focus from it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  for (const [key, { node }] of cards) if (!node.isConnected) cards.delete(key);
  drawn = projects;
}

function findMoves(projects) {
  const moves = [];
  for (const project of projects) {
    const before = drawn.get(project.name);
    if (!before || before.stories === project.stories) continue;
    for (const story of project.stories.values()) {
      const old = before.stories.get(story.story_id);
      const node = old && old.stage !== story.stage && cards.get(cardKey(project, story))?.node;
      if (node?.isConnected) moves.push({ node, from: node.getBoundingClientRect() });
    }
  }
  return moves;
}

function glide(node, from) {
  if (!node.isConnected) return;
  const to = node.getBoundingClientRect();
  const start = { transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)`, zIndex: 2, position: "relative" };
  node.animate([start, { transform: "none", zIndex: 2, position: "relative" }], { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" });
  node.firstElementChild.animate([{ borderColor: "var(--accent)" }, {}], { duration: 2400, easing: "ease-in" });
}

function makeRow({ name }) {
  const id = `project-${name}`;
  const cells = new Map([...STAGES.map(([stage]) => stage), "elsewhere"].map((stage) => [stage, makeCell(stage, name)]));
  const title = h("h3", { id });
  const state = h("p", { className: "sled" });
  const node = h("li", { className: "row" }, h("div", { className: "project" }, title, state), ...[...cells.values()].map((cell) => cell.node));
  node.setAttribute("aria-labelledby", id);
  return { node, title, state, cells };
}

function makeCell(stage, project) {
  const name = stage === "elsewhere" ? "In another stage" : stageName(stage);
  const count = h("span", { className: "count" });
  const list = h("ul", { className: "cards", ariaLabel: name });
  const more = h("button", { type: "button", className: "more", hidden: true });
  const heading = h("h4", {}, h("span", {}, name), count);
  const node = h("div", { className: "cell" }, heading, list, more);
  node.dataset.stage = stage;
  const key = `${project} ${stage}`;
  more.addEventListener("click", () => {
    if (!opened.delete(key)) opened.add(key);
    board(drawn, ({ name }) => name === project);
  });
  return { node, count, list, more, key };
}

function drawRow({ title, state, cells }, project) {
  drawTitle(title, project);
  drawSled(state, project);
  const byStage = new Map([...cells.keys()].map((stage) => [stage, []]));
  for (const story of project.stories.values()) (byStage.get(story.stage) ?? byStage.get("elsewhere")).push(story);
  for (const [stage, stories] of byStage) drawCell(cells.get(stage), project, stage, stories);
}

function drawTitle(title, { name, url }) {
  // Only ever a link to a page: what the file says may be anything.
  const link = URL.canParse(url ?? "") && /^https?:$/.test(new URL(url).protocol) ? url : "";
  if (title.firstChild && title.dataset.url === link) return;
  title.dataset.url = link;
  title.replaceChildren(link ? h("a", { href: link, rel: "noopener noreferrer", title: `${name}'s own server: ${link}` }, outside("", name)) : outside("", name));
}

function drawSled(node, { connected, outstanding, last_seen_ms: seen }) {
  const [state, ...text] =
    connected === undefined ? ["unknown", "sled: asking…"]
    : connected && outstanding > 0 ? ["catching-up", `catching up, ${outstanding.toLocaleString()} to go`]
    : connected ? ["connected", "connected"]
    : seen === null ? ["never", "sled never seen"]
    : ["silent", "not connected for ", ageNode(seen)];
  node.dataset.state = state;
  node.replaceChildren(...text);
}

function drawCell({ node, count, list, more, key }, project, stage, stories) {
  const limit = FINISHED.has(stage) ? FINISHED_CARDS : CELL_CARDS;
  stories.sort(FINISHED.has(stage) ? newestFirst : troubledThenOldest);
  const shown = opened.has(key) ? stories : stories.slice(0, limit);
  say(count, String(stories.length));
  node.dataset.empty = stories.length === 0;
  place(list, shown.map((story) => drawCard(project, story)));
  more.hidden = stories.length <= limit;
  more.ariaExpanded = String(opened.has(key));
  say(more, opened.has(key) ? "Show fewer" : `${(stories.length - shown.length).toLocaleString()} more`);
}

const isHeldUp = ({ blocked, merge_failure }) => blocked != null || merge_failure != null;
const newestFirst = (a, b) => (b.since_ms ?? 0) - (a.since_ms ?? 0) || (a.story_id < b.story_id ? -1 : 1);
const troubledThenOldest = (a, b) => isHeldUp(b) - isHeldUp(a) || newestFirst(b, a);
const cardKey = (project, story) => `${project.name} ${story.story_id}`; // No project's name has a space.

function drawCard(project, story) {
  const key = cardKey(project, story);
  const card = cards.get(key) ?? { node: h("li", { className: "card" }), story: null };
  if (card.story === story) return card.node;
  cards.set(key, card);
  const [, number, kind] = /^(\d+)_([a-z]+)_/.exec(story.story_id) ?? [];
  const trouble = story.blocked != null ? KINDS.blocked : story.merge_failure != null ? KINDS.merge : "";
  const button = card.node.firstElementChild ?? h("button", { type: "button" });
  button.onclick = () => showInTimeline(project.name, story);
  button.title = `${story.story_id}${trouble && `\n${trouble}: ${story.blocked ?? story.merge_failure}`}`;
  button.replaceChildren(
    outside("name", storyTitle(story)),
    h(
      "span",
      { className: "meta" },
      trouble && h("span", { className: "trouble" }, trouble),
      number ? h("span", { className: "id" }, `#${number} ${kind}`) : story.story_name && outside("id", story.story_id),
      story.since_ms != null && ageNode(story.since_ms),
      !STAGES.some(([stage]) => stage === story.stage) && outside("id", stageName(story.stage)),
    ),
  );
  card.node.dataset.trouble = trouble && (story.blocked != null ? "blocked" : "merge");
  if (!button.isConnected) card.node.append(button);
  card.story = story;
  return card.node;
}

// --- the timeline ----------------------------------------------------------------------------------

const lines = new Map();
let filterBy = () => {};

export function timeline({ events, next, filter, busy, problem }, projects) {
  const text = filter.text.trim().toLowerCase();
  const found = text ? events.filter((shown) => haystack(shown).includes(text)) : events;
  place($("events"), keyed(lines, found, ({ cursor }) => position(cursor), makeLine));
  drawChoices(projects, filter.project);
  $("story-filter").hidden = !filter.story;
  say($("story-filter-name"), filter.story);
  const oldest = events.at(-1)?.event.timestamp_ms;
  const back = oldest === undefined ? "" : `, looked back to ${clock(oldest)}`;
  const status =
    problem ? `Older events could not be loaded: ${problem}.`
    : busy ? "Loading…"
    : text ? `${plural(found.length, "event matches", "events match")}${next ? back : ", all searched"}.`
    : events.length === 0 ? "No events yet."
    : next ? "" : "That is all there is.";
  say($("timeline-status"), status);
  $("older").hidden = !next && !problem;
  $("older").disabled = busy;
  say($("older"), problem ? "Try again" : text ? "Search further back" : "Older events");
}

const haystack = ({ project, event }) =>
  [project, event.story_id, event.story_name, event.reason, event.agent_name, LINES[event.type]?.(event).join(" ")].join("\n").toLowerCase();

const LINES = {
  stage_transition: ({ from_stage: from, to_stage: to }) =>
    from === to ? [`no longer held up in ${stageName(to)}`] : [`${stageName(from)} → ${stageName(to)}`],
  story_blocked: ({ reason }) => ["blocked", reason],
  merge_failure: ({ reason }) => ["merge failed", reason],
  rate_limit_warning: ({ agent_name }) => [`agent ${agent_name} is close to its rate limit`],
  rate_limit_hard_block: ({ agent_name, reset_at }) => [`agent ${agent_name} is rate-limited until ${clock(Date.parse(reset_at))}`],
};

function makeLine({ project, event, replayed, received_ms }) {
  const [what, reason] = LINES[event.type]?.(event) ?? [event.type];
  const late = `Recorded while the sled was cut off; it arrived ${FULL.format(received_ms)}`;
  const name = h("button", { type: "button", className: "title" }, outside("", storyTitle(event)));
  name.addEventListener("click", () => showInTimeline(project, event));
  const node = h(
    "li",
    { className: "line" },
    h("p", {}, name, " ", outside("what", what)),
    reason && h("p", { className: "why" }, outside("", reason)),
    h("p", { className: "meta" }, outside("of", project), fixedTime(event.timestamp_ms), ageNode(event.timestamp_ms, " ago"), replayed && h("span", { className: "replayed", title: late }, "replayed")),
  );
  node.dataset.type = event.type;
  return node;
}

function drawChoices(projects, chosen) {
  const names = [...new Set([...projects.keys(), ...(chosen ? [chosen] : [])])].sort();
  const select = $("filter-project");
  if (select.options.length !== names.length + 1 || names.some((name, i) => select.options[i + 1].value !== name))
    select.replaceChildren(h("option", { value: "" }, "All projects"), ...names.map((name) => h("option", { value: name }, name)));
  if (select.value !== chosen) select.value = chosen;
}

function showInTimeline(project, story) {
  filterBy({ project, story: story?.story_id ?? "" });
  $("timeline-title").focus({ preventScroll: true });
  $("timeline").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "nearest" });
  $("events").scrollTop = 0;
}

/** Tell what a person asks for: `filter` of a change to the timeline's filter, `older` of the next page. */
export function wire({ filter, older }) {
  filterBy = filter;
  $("filter-project").addEventListener("change", ({ target }) => filter({ project: target.value, story: "" }));
  $("filter-text").addEventListener("input", ({ target }) => filter({ text: target.value }));
  $("story-filter").addEventListener("click", () => filter({ story: "" }));
  $("older").addEventListener("click", () => older());
  for (const node of document.querySelectorAll(".origin")) node.textContent = location.origin;
}
