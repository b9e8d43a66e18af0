// The pictures: what was done a day, what came and went, how long stages take, and who waits.

import { FINISHED, position, stageName } from "./board.js";
import { cellBar, dayBars, table } from "./charts.js";
import { STATS, getJson } from "./client.js";
import { $, h, link, outside, place, plural, say } from "./dom.js";
import { projectRoute } from "./routes.js";
import { age } from "./times.js";

const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const LONG_DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeZone: "UTC" });
const PROJECTS_SHOWN = 15;
// While the page is open: what happens meanwhile is in the next answer.
const AGAIN_MS = 30_000;

let shown = null;
let timer = 0;

/** Show the pictures of so many days, of a project or of all; `head()` is the newest position of the log. */
export function pictures(route, projects, head) {
  const wanted = JSON.stringify([route.days, route.filter.project]);
  drawChoices(route, projects);
  if (shown === wanted) return;
  shown = wanted;
  load(route, wanted, head);
}

export function leavePictures() {
  shown = null;
  clearTimeout(timer);
}

async function load(route, wanted, head) {
  clearTimeout(timer);
  say($("pictures-status"), "Working it out…");
  try {
    const stats = await getJson(STATS, { days: route.days, project: route.filter.project, offset_minutes: -new Date().getTimezoneOffset() });
    if (shown !== wanted) return;
    draw(stats);
    const behind = head() - position(stats.cursor);
    const late = `The gateway still works out ${plural(behind, "event", "events")} of ${head().toLocaleString()}: the numbers grow until it is done.`;
    say($("pictures-status"), behind > 0 ? late : "");
    timer = setTimeout(() => shown === wanted && load(route, wanted, head), behind > 0 ? 2_000 : AGAIN_MS);
  } catch (error) {
    if (shown !== wanted) return;
    const problem = error.status === 404 ? "This gateway works out no statistics." : `The statistics could not be loaded: ${error.message}.`;
    say($("pictures-status"), problem);
    timer = setTimeout(() => shown === wanted && load(route, wanted, head), AGAIN_MS);
  }
}

const midnight = (day) => Date.parse(`${day}T00:00:00Z`);

function draw({ days, stages, projects }) {
  const sum = (name) => days.reduce((total, day) => total + day[name], 0);
  const of = (day) => LONG_DAY.format(midnight(day));
  const done = plural(sum("done"), "story", "stories");
  figure("throughput", `${done} done`, `${(sum("done") / Math.max(1, days.length)).toFixed(1)} a day on average`,
    dayBars(days.map(({ day, done: up }) => ({ label: DAY.format(midnight(day)), up, title: `${of(day)}: ${up} done` })), ["done"],
      `Stories done a day, over ${days.length} days: ${done} in all`),
    table("Stories done a day", ["Day", "Done", "Moves", "Blocked", "Merges failed"],
      [...days].reverse().map((day) => [of(day.day), day.done, day.moves, day.blocked, day.failed].map(said))));
  const grew = sum("arrived") - sum("done");
  figure("flow", `${plural(sum("arrived"), "story", "stories")} came, ${sum("done").toLocaleString()} went`,
    grew > 0 ? `${grew.toLocaleString()} more came than went` : grew < 0 ? `${(-grew).toLocaleString()} more went than came` : "as many came as went",
    dayBars(days.map(({ day, arrived: up, done: down }) => ({ label: DAY.format(midnight(day)), up, down, title: `${of(day)}: ${up} came, ${down} went` })), ["arrived", "done"],
      `Stories that came a day, above the line, and that were done, below it`),
    table("Stories that came and went a day", ["Day", "Came", "Went"], [...days].reverse().map((day) => [of(day.day), day.arrived, day.done].map(said))));
  drawStages(stages);
  drawBlocked(projects);
}

const said = (value) => (typeof value === "number" ? value.toLocaleString() : value);

function figure(id, headline, note, picture, numbers) {
  say($(`${id}-headline`), headline);
  say($(`${id}-note`), note);
  $(`${id}-picture`).replaceChildren(picture);
  $(`${id}-numbers`).replaceChildren(numbers);
}

function drawStages(stages) {
  // How long something lies finished is told in numbers; as a bar it would dwarf the work.
  const told = stages.filter(({ stage, median_ms }) => median_ms !== null && !FINISHED.has(stage));
  const most = Math.max(1, ...told.map(({ p90_ms, median_ms }) => p90_ms ?? median_ms));
  const slowest = told.reduce((a, b) => (a && a.median_ms >= b.median_ms ? a : b), null);
  say($("stages-headline"), slowest ? `Longest in ${stageName(slowest.stage)}` : "No story has left a stage yet");
  say($("stages-note"), slowest ? `half of the stories longer than ${age(slowest.median_ms)}, one in ten longer than ${age(slowest.p90_ms)}` : "");
  $("stages-picture").replaceChildren(
    table("Time in each stage", ["Stage", "", "Median", "90 % within", "Visits"],
      stages.map(({ stage, visits, median_ms: median, p90_ms: p90 }) => [
        stageName(stage),
        told.some((one) => one.stage === stage) ? cellBar(stage, median / most, p90 / most) : "",
        median === null ? "–" : age(median),
        p90 === null ? "–" : age(p90),
        visits.toLocaleString(),
      ])));
}

function drawBlocked(projects) {
  const told = projects.filter(({ blocked_ms: ms, blocked_now: now }) => ms > 0 || now > 0).sort((a, b) => b.blocked_ms - a.blocked_ms);
  const most = Math.max(1, told[0]?.blocked_ms ?? 0);
  const now = told.reduce((total, { blocked_now }) => total + blocked_now, 0);
  const all = told.reduce((total, { blocked_ms }) => total + blocked_ms, 0);
  say($("waits-headline"), told.length ? `${age(all)} blocked` : "Nothing was blocked");
  say($("waits-note"), now ? `${plural(now, "story is", "stories are")} blocked now` : told.length ? "none is blocked now" : "");
  const some = told.slice(0, PROJECTS_SHOWN);
  $("waits-picture").replaceChildren(
    ...(told.length
      ? [table("Time that stories were blocked, by project", ["Project", "", "Blocked", "Now"],
          some.map(({ project, blocked_ms, blocked_now }) => [
            link(projectRoute(project), {}, outside("", project)), cellBar("blocked", blocked_ms / most), age(blocked_ms), blocked_now.toLocaleString()]))]
      : []),
    ...(told.length > some.length ? [h("p", { className: "note" }, `and ${plural(told.length - some.length, "project", "projects")} with less`)] : []));
}

let names = "";

function drawChoices({ days, filter }, projects) {
  for (const input of document.querySelectorAll("#days input")) input.checked = input.value === String(days);
  const all = [...new Set([...projects.keys(), ...(filter.project ? [filter.project] : [])])].sort();
  if (names !== all.join(" ")) {
    names = all.join(" ");
    place($("pictures-project"), [h("option", { value: "" }, "All projects"), ...all.map((name) => h("option", { value: name }, name))]);
  }
  if ($("pictures-project").value !== filter.project) $("pictures-project").value = filter.project;
}

/** `go(change)`: {days} or {project}. */
export function wirePictures(go) {
  $("days").addEventListener("change", ({ target }) => go({ days: Number(target.value) }));
  $("pictures-project").addEventListener("change", ({ target }) => go({ project: target.value }));
}
