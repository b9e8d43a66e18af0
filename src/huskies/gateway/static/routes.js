// What the address says behind its "#", both ways. Pure.
//
// A route is {view, project, story, find, days, filter}; `filter` is the timeline's. Whatever a person can see
// has an address, so that it can be sent to someone, bookmarked, and gone back to.

export const VIEWS = ["overview", "attention", "board", "timeline", "pictures", "project", "story"];
export const KINDS = ["stage_transition", "story_blocked", "merge_failure", "rate_limit_warning", "rate_limit_hard_block"];
/** The spans of time that end now, in ms, by how the address names them. */
export const LASTS = new Map([["1h", 3_600_000], ["24h", 86_400_000], ["7d", 604_800_000]]);
export const DAYS = [7, 30, 90];

const NO_FILTER = { project: "", type: "", story: "", last: "", since: null, until: null, text: "" };

/** A route with what is not said left at its beginning. */
export const to = (view, rest = {}) => {
  const { filter, ...others } = rest;
  return { view, project: "", story: "", find: "", days: 30, ...others, filter: { ...NO_FILTER, ...filter } };
};

export const storyRoute = (project, story) => to("story", { project, story });
export const projectRoute = (project) => to("project", { project });

/** The route that a hash names; what is no address of this page is the overview. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [view = "", project = "", story = ""] = path.split("/").map(decoded);
  const asked = new URLSearchParams(query);
  const filter = {
    project: asked.get("project") ?? "",
    type: oneOf(KINDS, asked.get("type")),
    story: asked.get("story") ?? "",
    last: LASTS.has(asked.get("last")) ? asked.get("last") : "",
    since: moment(asked.get("since")),
    until: moment(asked.get("until")),
    text: asked.get("q") ?? "",
  };
  if (!VIEWS.includes(view)) return to("overview", { filter });
  if ((view === "project" || view === "story") && !project) return to("overview");
  if (view === "story" && !story) return projectRoute(project);
  const days = DAYS.find((some) => String(some) === asked.get("days")) ?? 30;
  return to(view, { project, story, find: asked.get("find") ?? "", days, filter });
}

/** The hash that names a route. */
export function format({ view, project, story, find, days, filter }) {
  const parts = view === "overview" ? [] : [view];
  if (view === "project" || view === "story") parts.push(project);
  if (view === "story") parts.push(story);
  const said = new URLSearchParams();
  const names = { project: "project", type: "type", story: "story", last: "last", since: "since", until: "until", text: "q" };
  for (const [key, name] of Object.entries(names)) if (filter[key]) said.set(name, filter[key]);
  if (find) said.set("find", find);
  if (view === "pictures" && days !== 30) said.set("days", days);
  const query = said.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${query && `?${query}`}`;
}

/** The filter that holds on a view: a project's and a story's page show that one's events. */
export function filterOf({ view, project, story, filter }) {
  if (view === "project") return { ...filter, project };
  if (view === "story") return { ...NO_FILTER, project, story };
  return filter;
}

/** What of a filter the gateway is asked for; the text is looked for in the page. */
export function queryOf({ project, type, story, last, since, until }, now) {
  const from = last ? now - LASTS.get(last) : since;
  return { project, type, story, since: from ?? "", until: (last ? null : until) ?? "" };
}

/** Whether the gateway would show this event for such a query. */
export function admits({ project, type, story, since, until }, { project: of, event }) {
  return (
    (!project || of === project) &&
    (!type || event.type === type) &&
    (!story || event.story_id === story) &&
    (since === "" || event.timestamp_ms >= since) &&
    (until === "" || event.timestamp_ms < until)
  );
}

const oneOf = (these, value) => (these.includes(value) ? value : "");
const moment = (text) => (/^\d{1,15}$/.test(text ?? "") ? Number(text) : null);

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
