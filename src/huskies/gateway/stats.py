"""What happened when, and how long it took: a projection of the log that pictures are drawn of. Pure.

Events are counted by project and quarter of an hour, since every time zone's days begin at one. An event
counts at the time that the fleet takes it for: its own, and where that is ahead, when it was received.
Replayed and late events so count when they happened, and what was counted stays so when retention drops the
event. Rate limits count nothing.

In whichever order a log has its sequences, and so at every gateway, the same comes out, because nothing is
decided between two of them:

- `moves`, `done`, `blocked` and `failed` are counted event by event. A story is done when it goes to 5_done
  or 6_archived from any other stage: one that goes back and is done again counts again, and so does what two
  sleds of a project say.
- `arrived` is a story once, at the earliest time that any event tells of it. An earlier one that comes later
  moves it. A story that is only known from snapshots has not arrived, and one of which nothing came for a
  year arrives anew.
- A visit of a stage, and the time for which a story was held up (from a block or failed merge to the next
  transition, whichever that is), begins and ends in one sequence, where the order is given. What begins in
  one and ends in another is left out, and so is a visit whose beginning no event tells of: a new story is
  none, so most of 1_backlog are such. What is held up now is not counted here: the fleet knows that.

What may differ from a projection that is made anew from the log: events that were dropped or are in
quarantine by then stay counted here and are not there; those of a block that was damaged in its turn are
counted when it is repaired, but neither begin nor end anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from huskies.events.model import (
    STAGES,
    RelayedEvent,
    StoredEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.gateway.bins import bin_of

QUARTER_MS: Final = 900_000
QUARTERS_A_DAY: Final = 96
DAY_MS: Final = QUARTER_MS * QUARTERS_A_DAY
# Visits of the other stages do not end.
VISITED: Final = STAGES[:4]
_STAGE_NUMBERS: Final = {stage: number for number, stage in enumerate(VISITED)}
_DONE: Final = frozenset(STAGES[4:])
# In the key of a visit the stage stands above the bin; the longest time has bin 1,567.
_STAGE_SHIFT: Final = 11


class Told(msgspec.Struct, frozen=True):
    """Consecutive events of one sequence, and when they were received."""

    project: str
    stream_id: int
    received_ms: int
    events: Sequence[RelayedEvent]


class Counts(msgspec.Struct, gc=False):
    """What happened in one project within some span of time.

    `held` counts times for which stories were held up: +1 where one begins, -1 where one ends. `held_ms` is
    the sum of how long after the span's beginning those were, with the same signs. So no such time is spread
    over the spans that it goes through, and all of it between two times is had from sums alone.
    """

    arrived: int = 0
    done: int = 0
    moves: int = 0
    blocked: int = 0
    failed: int = 0
    held: int = 0
    held_ms: int = 0

    def add(self, other: Counts, later_ms: int = 0) -> None:
        """Count another span's with this one's, which begins `later_ms` before it."""
        self.arrived += other.arrived
        self.done += other.done
        self.moves += other.moves
        self.blocked += other.blocked
        self.failed += other.failed
        self.held += other.held
        self.held_ms += other.held_ms + other.held * later_ms


class Seen(msgspec.Struct, gc=False):
    """When the first and the last event of a story were."""

    first_ms: int
    last_ms: int


class Open(msgspec.Struct, gc=False):
    """What a story began in a sequence and has not ended: visiting `stage`, and being held up."""

    stage: int | None = None
    since_ms: int = 0
    held_since_ms: int | None = None


# A project with a story, and a sequence's number with one.
StoryKey: TypeAlias = tuple[str, str]
OpenKey: TypeAlias = tuple[int, str]
Cell: TypeAlias = tuple[str, int]
Visits: TypeAlias = dict[int, int]


def visit_key(stage: int, ms: int) -> int:
    """Under which key visits of a stage (its place in `VISITED`) are counted that took about so long."""
    return (stage << _STAGE_SHIFT) + bin_of(ms)


def by_stage(visits: Visits) -> list[dict[int, int]]:
    """For each of `VISITED` how many visits are in which bin."""
    found: list[dict[int, int]] = [{} for _ in VISITED]
    for key, count in visits.items():
        found[key >> _STAGE_SHIFT][key & ((1 << _STAGE_SHIFT) - 1)] = count
    return found


class Fold:
    """Folds events; `seen` and `opened` hold what is known of each story that they name.

    Afterwards `cells` and `visits` hold what is to be added, by project and quarter.
    """

    def __init__(self, seen: dict[StoryKey, Seen], opened: dict[OpenKey, Open]) -> None:
        self.seen = seen
        self.opened = opened
        self.cells: dict[Cell, Counts] = {}
        self.visits: dict[Cell, Visits] = {}

    def take(self, told: Told, *, late: bool = False) -> None:
        """Fold these; `late`: others of their sequence that follow them were folded before."""
        for event in told.events:
            if isinstance(event, (StoredStageTransition, StoredStoryBlocked, StoredMergeFailure)):
                at_ms = min(event.timestamp_ms, told.received_ms)
                self._count(told.project, event, at_ms)
                if not late:
                    self._follow(told, event, at_ms)

    def _count(self, project: str, event: StoredEvent, at_ms: int) -> None:
        cell = self._cell(project, at_ms)
        if isinstance(event, StoredStageTransition):
            if event.from_stage != event.to_stage:
                cell.moves += 1
                cell.done += event.to_stage in _DONE and event.from_stage not in _DONE
        elif isinstance(event, StoredStoryBlocked):
            cell.blocked += 1
        else:
            cell.failed += 1
        key = project, event.story_id
        seen = self.seen.get(key)
        if seen is None:
            self.seen[key] = Seen(at_ms, at_ms)
            cell.arrived += 1
            return
        if at_ms < seen.first_ms:
            self._cell(project, seen.first_ms).arrived -= 1
            cell.arrived += 1
            seen.first_ms = at_ms
        seen.last_ms = max(seen.last_ms, at_ms)

    def _follow(self, told: Told, event: StoredEvent, at_ms: int) -> None:
        key = told.stream_id, event.story_id
        opened = self.opened.get(key)
        if opened is None:
            opened = self.opened[key] = Open()
        if opened.held_since_ms is not None:
            self._mark(told.project, opened.held_since_ms, 1)
            # A clock that was put back makes it no time, and not less than none.
            self._mark(told.project, max(at_ms, opened.held_since_ms), -1)
            opened.held_since_ms = None
        if not isinstance(event, StoredStageTransition):
            # What it was held up by before counts up to here: the fleet knows since when the newest is so.
            opened.held_since_ms = at_ms
        elif event.from_stage != event.to_stage:
            if opened.stage is not None and opened.stage == _STAGE_NUMBERS.get(event.from_stage):
                visits = self.visits.setdefault((told.project, at_ms // QUARTER_MS), {})
                visit = visit_key(opened.stage, max(0, at_ms - opened.since_ms))
                visits[visit] = visits.get(visit, 0) + 1
            opened.stage, opened.since_ms = _STAGE_NUMBERS.get(event.to_stage), at_ms

    def _mark(self, project: str, at_ms: int, change: int) -> None:
        cell = self._cell(project, at_ms)
        cell.held += change
        cell.held_ms += change * (at_ms % QUARTER_MS)

    def _cell(self, project: str, at_ms: int) -> Counts:
        key = project, at_ms // QUARTER_MS
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Counts()
        return cell


def named(told: Iterable[Told]) -> tuple[dict[str, set[str]], dict[int, set[str]]]:
    """Which stories these tell of: by project, and by sequence."""
    by_project: dict[str, set[str]] = {}
    by_stream: dict[int, set[str]] = {}
    for some in told:
        stories = {event.story_id for event in some.events}
        by_project.setdefault(some.project, set()).update(stories)
        by_stream.setdefault(some.stream_id, set()).update(stories)
    return by_project, by_stream


def held_ms(before: int, within: Counts, length_ms: int) -> int:
    """How long stories were held up within a span of time, all together.

    `before`: the sum of `held` before the span; `within`: all that is in it, counted from its beginning.
    """
    return (before + within.held) * length_ms - within.held_ms
