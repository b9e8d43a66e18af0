// What the page knows of the fleet, and how events change it. Pure: no DOM, no clock, no network.
//
// A board is a Map from a project's name to the project; a project's stories are a Map from id to story. Nothing
// is changed in place: what is the same object as before needs no new drawing.

export const STAGES = [
  ["1_backlog", "Backlog"],
  ["2_current", "Current"],
  ["3_qa", "QA"],
  ["4_merge", "Merge"],
  ["5_done", "Done"],
  ["6_archived", "Archived"],
];
const STAGE_NAMES = new Map(STAGES);
export const FINISHED = new Set(["5_done", "6_archived"]);

// A sled that comes back within this (a restart, a short cut) needs no one.
export const SILENT_GRACE_MS = 10_000;

export const stageName = (stage) => STAGE_NAMES.get(stage) ?? stage ?? "Stage not known yet";
export const storyTitle = (story) => story.story_name || story.story_id;


/** A story's number and kind, where its id is made of them; else the whole id. */
export function shortId(id) {
  const [, number, kind] = /^(\d+)_([a-z]+)_/.exec(id) ?? [];
  return number ? `#${number} ${kind}` : id;
}

/** The place in the gateway's log that a cursor names. */
export const position = (cursor) => Number(cursor.split("-")[1]);

/** The board after these events (as `GET /gateway/events` shows them, oldest first). Follows gateway/fleet.py. */
export function applyEvents(board, events) {
  const next = new Map(board);
  const touched = new Set();
  for (const { project: name, event } of events) {
    if (!(event.type in CHANGES)) continue; // Rate limits move nothing.
    const project = next.get(name) ?? { name, url: null, missing: [], quarantined: [], stories: new Map() };
    // One copy for each project and batch, however many of its events there are.
    const stories = touched.has(name) ? project.stories : new Map(project.stories);
    touched.add(name);
    const story = stories.get(event.story_id) ?? { story_id: event.story_id, story_name: "", stage: null };
    const story_name = event.story_name || story.story_name;
    stories.set(event.story_id, { ...story, story_name, ...CHANGES[event.type](story, event) });
    next.set(name, { ...project, stories });
  }
  return next;
}

const CHANGES = {
  stage_transition: (story, event) => ({
    stage: event.to_stage,
    // From a stage to itself: it is held up no longer, and has been in the stage all along.
    since_ms:
      story.stage === event.to_stage && event.from_stage === event.to_stage ? story.since_ms : event.timestamp_ms,
    blocked: null,
    blocked_since_ms: null,
    merge_failure: null,
    merge_failure_since_ms: null,
  }),
  story_blocked: (_, event) => ({ blocked: event.reason, blocked_since_ms: event.timestamp_ms }),
  merge_failure: (_, event) => ({ merge_failure: event.reason, merge_failure_since_ms: event.timestamp_ms }),
};

/** The board as `GET /gateway/projects` says it is. `now` dates what the answer has no time for. */
export function replaceProjects(board, views, now) {
  return new Map(
    views.map((view) => {
      const before = board.get(view.name);
      const project = {
        ...view,
        // While a sled is connected this is the time of the answer, and would make every answer look new.
        last_seen_ms: view.connected ? null : view.last_seen_ms,
        quota_noticed: view.over_quota ? (before?.quota_noticed ?? now) : null,
        twice_noticed: view.identity_used_twice ? (before?.twice_noticed ?? now) : null,
        missing_noticed: view.missing.length ? (before?.missing_noticed ?? now) : null,
        quarantined_noticed: view.quarantined.length ? (before?.quarantined_noticed ?? now) : null,
        stories: new Map(view.stories.map((story) => [story.story_id, story])),
      };
      return [view.name, before && sameProject(before, project) ? before : project];
    }),
  );
}

function sameProject(one, other) {
  const { stories: a, ...restA } = one;
  const { stories: b, ...restB } = other;
  if (a.size !== b.size || JSON.stringify(restA) !== JSON.stringify(restB)) return false;
  return [...b].every(([id, story]) => {
    const old = a.get(id);
    return old !== undefined && Object.keys(story).every((key) => old[key] === story[key]);
  });
}

// Boards of 20,000 stories are looked through again at each drawing; what is the same project says the same.
const lookedAt = new WeakMap();

function look(project) {
  const known = lookedAt.get(project);
  if (known) return known;
  const found = { heldUp: [], inFlight: 0 };
  for (const story of project.stories.values()) {
    if (isInFlight(story)) found.inFlight += 1;
    if (story.blocked != null)
      found.heldUp.push(heldUp("blocked", project, story, story.blocked, story.blocked_since_ms));
    if (story.merge_failure != null)
      found.heldUp.push(heldUp("merge", project, story, story.merge_failure, story.merge_failure_since_ms));
  }
  lookedAt.set(project, found);
  return found;
}

const isInFlight = ({ stage }) => stage !== null && stage !== "1_backlog" && !FINISHED.has(stage);
export const isHeldUp = ({ blocked, merge_failure }) => blocked != null || merge_failure != null;

/** How many stories someone works on. */
export const inFlight = (board) => [...board.values()].reduce((sum, project) => sum + look(project).inFlight, 0);

/**
 * What needs a person, oldest first. Each has a `key` that stays the same for as long as it does.
 *
 * `limited`: agents that are rate-limited, as `limits.js` says.
 */
export function attention(board, limited, now) {
  const found = [...limited];
  for (const project of board.values()) found.push(...look(project).heldUp, ...sledTrouble(project, now));
  return found.sort((a, b) => (a.since ?? now) - (b.since ?? now) || (a.key < b.key ? -1 : 1));
}

function heldUp(kind, project, story, reason, since) {
  const key = JSON.stringify([kind, project.name, story.story_id]);
  return { key, kind, project: project.name, story, reason, since, note: "" };
}

function* sledTrouble(project, now) {
  const of = (kind, since, reason, note = "") => {
    return { key: JSON.stringify([kind, project.name]), kind, project: project.name, since, reason, note };
  };
  const silent = project.connected === false && project.last_seen_ms !== null;
  if (silent && now - project.last_seen_ms > SILENT_GRACE_MS)
    yield of("silent", project.last_seen_ms, "Its sled is not connected. What happens there shows here once it is back.");
  if (project.over_quota)
    yield of(
      "quota",
      project.quota_noticed,
      "It takes all of its quota of the log. Nothing more is taken of it; its events wait with its sled.",
      "since this page noticed it",
    );
  if (project.identity_used_twice)
    yield of(
      "twice",
      project.twice_noticed,
      "Two sleds run with one state directory and end each other's sessions. Stop one, or give it its own.",
      "since this page noticed it",
    );
  if (project.missing.length)
    yield of(
      "missing",
      project.missing_noticed,
      `Its sled recorded what no one holds any more: ${ranges(project.missing)}.`,
      "since this page noticed it",
    );
  if (project.quarantined.length)
    yield of(
      "quarantined",
      project.quarantined_noticed,
      `Two sleds with one identity pushed to different gateways. What one of them sent is set aside: ${ranges(project.quarantined)}.`,
      "since this page noticed it",
    );
}

function ranges(them) {
  const texts = them.map(({ epoch, first_seq, last_seq }) => {
    const which = first_seq === last_seq ? `event ${first_seq}` : `events ${first_seq} to ${last_seq}`;
    return `${which} of epoch ${epoch.slice(0, 8)}`;
  });
  return texts.join("; ");
}

/** Two lists of shown events as one, newest first, none twice. Both are newest first. */
export function mergeEvents(one, other) {
  if (!one.length || !other.length) return one.length ? one : other;
  const [a, b] = position(one[0].cursor) > position(other[0].cursor) ? [one, other] : [other, one];
  // The usual case: what is newer lies before all of what is older.
  if (position(a.at(-1).cursor) > position(b[0].cursor)) return [...a, ...b];
  const all = new Map([...one, ...other].map((shown) => [position(shown.cursor), shown]));
  return [...all].sort(([x], [y]) => y - x).map(([, shown]) => shown);
}
