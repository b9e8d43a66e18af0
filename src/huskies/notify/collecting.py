"""Collections: events that are told together, later, as one message a channel. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from huskies.events.model import event_type
from huskies.notify import texts
from huskies.notify.ids import delivery_id, digest_with
from huskies.notify.model import Received
from huskies.notify.rules import HELD_UP_KINDS, Doubtful, Night, Rule, Rules
from huskies.notify.state import (
    ABOUT_MAX,
    LINES_MAX,
    Collection,
    Draft,
    Problem,
    Recent,
    State,
    Told,
    Why,
    collection_key,
)

# What replays has come to rest where nothing more of it came for so long; it is told after the longest in
# any case.
REST_MS: Final = 10_000
LONGEST_REPLAY_MS: Final = 600_000
# Of one project a channel hears so much in so long by itself, and the rest as one message: whoever may push
# for a project cannot drown what is of others.
FLOOD_MAX: Final = 100
FLOOD_MS: Final = 60_000
# Damage is found block by block.
GAP_REST_MS: Final = 10_000


def opened(
    state: State, channel: str, why: Why, scope: str, now_ms: int, *, due_ms: int, project: str = ""
) -> Collection:
    """The collection, a new one where there is none.

    With a group in place of a scope (`scope_within`) it is told together with those of other projects.
    """
    found = state.collections.get(collection_key(channel, why, scope))
    if found is None:
        found = Collection(channel, why, scope, project, first_ms=now_ms, due_ms=due_ms)
        state.collections.put(found.key, found)
    return found


def add(
    state: State,
    found: Collection,
    received: Received,
    *,
    wanted: bool = True,
    line: str = "",
    doubtful: Doubtful | None = None,
) -> Collection:
    """Count one event in, and name it where there is a line for it."""
    kind, at_ms = event_type(received.event), received.event.timestamp_ms
    found = msgspec.structs.replace(
        _with_identity(found, received.identity),
        counts={**found.counts, kind: found.counts.get(kind, 0) + 1},
        events=found.events + 1,
        wanted=found.wanted + wanted,
        lines=_with_line(found, line),
        from_ms=min(found.from_ms or at_ms, at_ms),
        to_ms=max(found.to_ms, at_ms),
        sled_id=received.sled_id,
        doubtful=found.doubtful or doubtful,
    )
    state.collections.put(found.key, found)
    return found


def add_line(state: State, found: Collection, identity: str, line: str) -> None:
    """Name something that is told with the others."""
    found = msgspec.structs.replace(
        _with_identity(found, identity), lines=_with_line(found, line), wanted=found.wanted + 1
    )
    state.collections.put(found.key, found)


def flooded(state: State, draft: Draft) -> Collection | None:
    """Where a message went instead, after so many of its project in its channel; None: it is to be sent."""
    now_ms, key = draft.queued_ms, f"{draft.channel}/{draft.project}"
    recent = state.recents.get(key)
    if recent is None or now_ms >= recent.at_ms + FLOOD_MS:
        recent = Recent(now_ms)
    state.recents.put(key, Recent(recent.at_ms, held=recent.held + 1))
    if recent.held < FLOOD_MAX:
        return None
    project, due_ms = draft.project, recent.at_ms + FLOOD_MS
    found = opened(state, draft.channel, "flood", project, now_ms, due_ms=due_ms, project=project)
    add_line(state, found, draft.delivery_id, texts.line_of_subject(draft.subject))
    return found


def replaying(state: State, channel: str, project: str, now_ms: int) -> Collection:
    """The collection of what a project's sleds replay, which waits until they come to rest."""
    found = opened(state, channel, "replay", project, now_ms, due_ms=now_ms + REST_MS, project=project)
    latest_ms = found.first_ms + LONGEST_REPLAY_MS
    return msgspec.structs.replace(found, due_ms=min(now_ms + REST_MS, latest_ms))


def replay_is_over(state: State, rules: Rules, received: Received, now_ms: int) -> None:
    """A sled sends what happens now: it has sent all from before."""
    if not len(state.collections):
        return
    for channel in rules.interested(received.project):
        found = state.collections.get(collection_key(channel, "replay", received.project))
        if found is not None and found.sled_id == received.sled_id and found.due_ms > now_ms:
            state.collections.put(found.key, msgspec.structs.replace(found, due_ms=now_ms))


def postpone_replays(state: State, now_ms: int) -> None:
    """The stream begins again, and so may what was being replayed."""
    for found in state.collections.rows():
        if found.why == "replay":
            state.collections.put(found.key, msgspec.structs.replace(found, due_ms=now_ms + REST_MS))


def due(state: State, rules: Rules, now_ms: int, *, at_rest: bool) -> list[Draft]:
    """What is to be told now; `at_rest`: the stream is connected, so that silence means something."""
    drafts: list[Draft] = []
    ready = _ready(state, now_ms, at_rest=at_rest)
    waiting: dict[str, list[Problem]] = {}
    if ready:
        for problem in state.problems.rows():
            for key in problem.waits:
                waiting.setdefault(key, []).append(problem)
    night = Night(now_ms)
    for members in ready:
        told: list[_Part] = []
        for found in members:
            held_up = [state.problems.get(problem.key) or problem for problem in waiting.get(found.key, [])]
            part = _Part(found, sorted(held_up, key=lambda problem: (problem.since_ms, problem.key)))
            if _is_muted(state, found, now_ms):
                drafts += _silence(state, rules, part, now_ms)
            else:
                told.append(part)
        if told and not _is_held_back(rules, night, told):
            drafts += _tell(state, rules, told, now_ms)
    return drafts


class _Part(NamedTuple):
    """A collection that is told with others, and what it names as held up."""

    found: Collection
    held_up: list[Problem]


def _ready(state: State, now_ms: int, *, at_rest: bool) -> list[list[Collection]]:
    """What comes due together: with one of a group all of it."""
    groups: dict[tuple[str, str, str], list[Collection]] = {}
    rows = state.collections.rows()
    keys = {found.group for found in rows if _is_due(state, found, now_ms, at_rest=at_rest)}
    for found in sorted(rows, key=lambda one: (one.due_ms, one.key)) if keys else ():
        if found.group in keys:
            groups.setdefault(found.group, []).append(found)
    return list(groups.values())


def _is_due(state: State, found: Collection, now_ms: int, *, at_rest: bool) -> bool:
    if found.why == "mute":
        return state.muted_until(found.project, now_ms) is None
    return found.due_ms <= now_ms and (at_rest or found.why != "replay")


def _is_muted(state: State, found: Collection, now_ms: int) -> bool:
    return bool(found.project) and state.muted_until(found.project, now_ms) is not None


def _is_held_back(rules: Rules, night: Night, told: list[_Part]) -> bool:
    """Whether quiet hours are in the way of all of it; what is urgent takes the rest along."""
    channel, why = told[0].found.channel, told[0].found.why
    if why == "flood":
        # It goes on for a minute after what was told.
        return False
    found = [rule for part in told for rule in _rules_of(rules, part)]
    if not found and why == "gap":
        return any(night.covers(rule) for rule in rules.of_channel(channel))
    return bool(found) and all(night.covers(rule) for rule in found)


def _rules_of(rules: Rules, part: _Part) -> list[Rule]:
    """By which rules its channel is told of it."""
    project, channel = part.found.project, part.found.channel
    found = [rules.telling(channel, problem.project, problem.kind) for problem in part.held_up]
    if part.found.why in {"replay", "digest"}:
        found += (rules.telling(channel, project, kind) for kind in part.found.counts)
        if not any(found):
            # It tells of what is over, by events that it is not told of itself.
            found = [rules.telling(channel, project, kind) for kind in HELD_UP_KINDS]
    return [rule for rule in found if rule is not None]


def _tell(state: State, rules: Rules, told: list[_Part], now_ms: int) -> list[Draft]:
    """The message that all of it becomes, if there is something to say."""
    joined = _joined([part.found for part in told])
    held_up = [problem for part in told for problem in part.held_up]
    held_up.sort(key=lambda problem: (problem.since_ms, problem.key))
    for part in told:
        state.collections.drop(part.found.key)
    if not held_up and (not joined.wanted or joined.why in {"mute", "start", "board"}):
        return []
    draft = _draft(joined, held_up, rules, now_ms)
    _note_told(state, {part.found.key for part in told}, joined, held_up, draft)
    return [draft]


def _joined(members: list[Collection]) -> Collection:
    """One collection of several; what may be of several projects says of each line which it is of."""
    first, *others = members
    if not others and first.scope == first.project:
        return first
    whole = msgspec.structs.replace(first, project="")
    for found in others:
        times = [at_ms for at_ms in (whole.from_ms, found.from_ms) if at_ms]
        kinds = {**whole.counts, **found.counts}
        whole = msgspec.structs.replace(
            whole,
            first_ms=min(whole.first_ms, found.first_ms),
            counts={kind: whole.counts.get(kind, 0) + found.counts.get(kind, 0) for kind in kinds},
            events=whole.events + found.events,
            wanted=whole.wanted + found.wanted,
            digest=digest_with(whole.digest, found.digest),
            about=(*whole.about, *found.about)[:ABOUT_MAX],
            lines=(*whole.lines, *found.lines)[:LINES_MAX],
            from_ms=min(times, default=0),
            to_ms=max(whole.to_ms, found.to_ms),
            doubtful=whole.doubtful or found.doubtful,
        )
    return whole


def _is_alone(found: Collection, held_up: list[Problem]) -> bool:
    """Whether the message tells of one story that is held up, and of nothing else."""
    return len(held_up) == 1 and found.events <= 1 and len(found.lines) <= found.events and found.why != "gap"


def _draft(found: Collection, held_up: list[Problem], rules: Rules, now_ms: int) -> Draft:
    if _is_alone(found, held_up):
        said = texts.of_problem(held_up[0])
    else:
        said = texts.of_collection(found, held_up, rules.zone, now_ms)
    about, digest = found.about, digest_with(found.digest, str(found.first_ms))
    for problem in held_up:
        digest = digest_with(digest, problem.identity)
        if not found.events and len(about) < ABOUT_MAX:
            about = (*about, problem.identity)
    return Draft(
        delivery_id=delivery_id(found.channel, found.why, digest),
        channel=found.channel,
        project=found.project or (held_up[0].project if _is_alone(found, held_up) else ""),
        kind=found.why,
        subject=said.subject,
        text=said.text,
        html=said.html,
        about=about,
        queued_ms=now_ms,
        doubtful=found.doubtful,
    )


def _note_told(state: State, keys: set[str], found: Collection, held_up: list[Problem], draft: Draft) -> None:
    told = Told(draft.delivery_id, alone=_is_alone(found, held_up))
    for problem in held_up:
        after = msgspec.structs.replace(
            problem,
            told={**problem.told, found.channel: problem.told.get(found.channel, told)},
            waits=tuple(key for key in problem.waits if key not in keys),
        )
        state.problems.put(after.key, after)


def _silence(state: State, rules: Rules, part: _Part, now_ms: int) -> list[Draft]:
    """The project was muted meanwhile: what holds its stories up waits for the end of that."""
    found = part.found
    state.collections.drop(found.key)
    for problem in part.held_up:
        others = tuple(key for key in problem.waits if key != found.key)
        silence(state, found.channel, msgspec.structs.replace(problem, waits=others), now_ms)
    if not found.wanted:
        return []
    return [msgspec.structs.replace(_draft(found, part.held_up, rules, now_ms), state="muted")]


def silence(state: State, channel: str, problem: Problem, now_ms: int) -> Collection:
    """Let the end of a project's muting name what holds a story up, if it does so still."""
    project = problem.project
    found = opened(state, channel, "mute", project, now_ms, due_ms=now_ms, project=project)
    let_wait(state, problem, found)
    return found


def let_wait(state: State, problem: Problem, found: Collection) -> None:
    """What holds a story up is named by the collection, if it does so then."""
    if found.key not in problem.waits:
        problem = msgspec.structs.replace(problem, waits=(*problem.waits, found.key))
    state.problems.put(problem.key, problem)


def _with_identity(found: Collection, identity: str) -> Collection:
    about = found.about if len(found.about) >= ABOUT_MAX else (*found.about, identity)
    return msgspec.structs.replace(found, digest=digest_with(found.digest, identity), about=about)


def _with_line(found: Collection, line: str) -> tuple[str, ...]:
    return (*found.lines, line) if line and len(found.lines) < LINES_MAX else found.lines
