"""Collections: events that are told together, later, as one message a channel. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from huskies.events.model import event_type
from huskies.notify import texts
from huskies.notify.ids import delivery_id, digest_with
from huskies.notify.model import Received
from huskies.notify.rules import Doubtful, Rules
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
    """The collection, a new one where there is none."""
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
    not_before_ms: int = 0,
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
        not_before_ms=max(found.not_before_ms, not_before_ms),
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
    waiting: dict[str, list[Problem]] = {}
    ready = [found for found in state.collections.rows() if _is_due(state, found, now_ms, at_rest=at_rest)]
    if ready:
        for problem in state.problems.rows():
            for key in problem.waits:
                waiting.setdefault(key, []).append(problem)
    for found in sorted(ready, key=lambda one: (one.due_ms, one.key)):
        held_up = [state.problems.get(problem.key) or problem for problem in waiting.get(found.key, [])]
        held_up.sort(key=lambda problem: (problem.since_ms, problem.key))
        state.collections.drop(found.key)
        if found.project and found.why != "mute" and state.muted_until(found.project, now_ms) is not None:
            _silence(state, found, held_up, now_ms)
            if found.wanted:
                drafts.append(msgspec.structs.replace(_draft(found, held_up, rules, now_ms), state="muted"))
        elif held_up or (found.wanted and found.why not in {"mute", "start"}):
            draft = _draft(found, held_up, rules, now_ms)
            _note_told(state, found, held_up, draft)
            drafts.append(draft)
    return drafts


def _is_due(state: State, found: Collection, now_ms: int, *, at_rest: bool) -> bool:
    if now_ms < found.not_before_ms:
        return False
    if found.why == "mute":
        return state.muted_until(found.project, now_ms) is None
    return found.due_ms <= now_ms and (at_rest or found.why != "replay")


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


def _note_told(state: State, found: Collection, held_up: list[Problem], draft: Draft) -> None:
    told = Told(draft.delivery_id, alone=_is_alone(found, held_up))
    for problem in held_up:
        after = msgspec.structs.replace(
            problem,
            told={**problem.told, found.channel: problem.told.get(found.channel, told)},
            waits=tuple(key for key in problem.waits if key != found.key),
        )
        state.problems.put(after.key, after)


def _silence(state: State, found: Collection, held_up: list[Problem], now_ms: int) -> None:
    """A project was muted meanwhile: what holds its stories up waits for the end of that."""
    if not held_up:
        return
    muted = opened(state, found.channel, "mute", found.project, now_ms, due_ms=now_ms, project=found.project)
    for problem in held_up:
        waits = (*(key for key in problem.waits if key != found.key), muted.key)
        state.problems.put(problem.key, msgspec.structs.replace(problem, waits=waits))


def _with_identity(found: Collection, identity: str) -> Collection:
    about = found.about if len(found.about) >= ABOUT_MAX else (*found.about, identity)
    return msgspec.structs.replace(found, digest=digest_with(found.digest, identity), about=about)


def _with_line(found: Collection, line: str) -> tuple[str, ...]:
    return (*found.lines, line) if line and len(found.lines) < LINES_MAX else found.lines
