"""What `GET /gateway/stats` is asked and answers: a viewer's days, as sums of what `stats` counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final

import msgspec

from huskies.config import PROJECT_NAME_RULE
from huskies.events.names import is_project_name
from huskies.gateway.bins import percentile
from huskies.gateway.stats import QUARTER_MS, QUARTERS_A_DAY, VISITED, Counts, Visits, by_stage

STATS_PATH: Final = "/gateway/stats"
DAYS_MAX: Final = 366
DAYS_DEFAULT: Final = 30
OFFSET_MAX: Final = 840
_QUARTER_MINUTES: Final = QUARTER_MS // 60_000
_WHOLE: Final = re.compile(r"-?[0-9]{1,3}")
_1970: Final = date(1970, 1, 1).toordinal()


class DayStats(msgspec.Struct, frozen=True):
    """One day of the viewer's. `done`: how often a story got to 5_done, or from another stage to 6_archived.

    `arrived`: stories of which the first event came; `moves`: from one stage to another.
    """

    day: str
    arrived: int
    done: int
    moves: int
    blocked: int
    failed: int


class StageStats(msgspec.Struct, frozen=True):
    """How long visits of a stage took that ended in the range and whose beginning is known, within 1/64."""

    stage: str
    visits: int
    median_ms: int | None
    p90_ms: int | None


class ProjectStats(msgspec.Struct, frozen=True):
    """One project in the range; `blocked_ms`: how long stories were held up, all together.

    A story is held up from a block or a failed merge to its next transition. `blocked_now`: so many are.
    """

    project: str
    arrived: int
    done: int
    blocked_ms: int
    blocked_now: int


class StatsAnswer(msgspec.Struct, frozen=True):
    """What happened from `from_ms` on and before `to_ms`, with which the viewer's today ends.

    Counted are all events up to `cursor`; what is held up now is as of the newest.
    """

    from_ms: int
    to_ms: int
    cursor: str
    days: list[DayStats]
    stages: list[StageStats]
    projects: list[ProjectStats]


class Asked(msgspec.Struct, frozen=True):
    """How many days, of which project (None: of all), and how far the viewer's clock is ahead of UTC."""

    days: int = DAYS_DEFAULT
    project: str | None = None
    offset_minutes: int = 0


class Range(msgspec.Struct, frozen=True):
    """Quarters of an hour since 1970, from `first` to before `end`; `day` is the number of the first day."""

    first: int
    end: int
    day: int

    @property
    def from_ms(self) -> int:
        """Where it begins."""
        return self.first * QUARTER_MS

    @property
    def to_ms(self) -> int:
        """Where it ends."""
        return self.end * QUARTER_MS

    @property
    def length_ms(self) -> int:
        """How long it is."""
        return self.to_ms - self.from_ms

    def overlap_ms(self, from_ms: int, to_ms: int) -> int:
        """How much of it lies between these two times."""
        return max(0, min(to_ms, self.to_ms) - max(from_ms, self.from_ms))


class ProjectSums(msgspec.Struct, frozen=True):
    """What was counted of one project in the range, and how long stories were held up that are no more."""

    arrived: int = 0
    done: int = 0
    held_ms: int = 0


class Sums(msgspec.Struct, frozen=True):
    """What was counted: by day of the range, and of the whole of it. `position`, `chain`: up to there."""

    position: int
    chain: int
    days: Mapping[int, Counts]
    visits: Visits
    projects: Mapping[str, ProjectSums]


def parse(query: Mapping[str, str]) -> Asked:
    """What is asked for; raises `ValueError` with what was expected."""
    project = query.get("project")
    if project is not None and not is_project_name(project):
        raise ValueError(f"project: {PROJECT_NAME_RULE}")
    return Asked(
        _number(query, "days", 1, DAYS_MAX, DAYS_DEFAULT),
        project,
        _number(query, "offset_minutes", -OFFSET_MAX, OFFSET_MAX, 0),
    )


def _number(query: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f"{name}: expected a whole number from {least} to {most}")
    return int(text)


def range_of(asked: Asked, now_ms: int) -> Range:
    """The viewer's last days, today as the last of them.

    An offset that is no whole number of quarters, as no time zone's is, counts as the next below.
    """
    offset = asked.offset_minutes // _QUARTER_MINUTES
    today = (now_ms // QUARTER_MS + offset) // QUARTERS_A_DAY
    first = today - asked.days + 1
    return Range(first * QUARTERS_A_DAY - offset, (today + 1) * QUARTERS_A_DAY - offset, first)


def answer(
    asked_for: Range, now_ms: int, cursor: str, sums: Sums, held: Mapping[str, Sequence[int]]
) -> StatsAnswer:
    """The answer; `held` says of each project since when the stories are held up that are so now."""
    return StatsAnswer(
        asked_for.from_ms,
        asked_for.to_ms,
        cursor,
        list(_days(asked_for, sums.days)),
        [
            StageStats(stage, sum(bins.values()), percentile(bins, 50), percentile(bins, 90))
            for stage, bins in zip(VISITED, by_stage(sums.visits), strict=True)
        ],
        [
            _project(name, sums.projects.get(name, ProjectSums()), held.get(name, ()), asked_for, now_ms)
            for name in sorted({*sums.projects, *held})
        ],
    )


def _days(asked_for: Range, days: Mapping[int, Counts]) -> Iterable[DayStats]:
    for number in range((asked_for.end - asked_for.first) // QUARTERS_A_DAY):
        counts = days.get(number, Counts())
        day = date.fromordinal(_1970 + asked_for.day + number).isoformat()
        yield DayStats(day, counts.arrived, counts.done, counts.moves, counts.blocked, counts.failed)


def _project(
    name: str, sums: ProjectSums, held: Sequence[int], asked_for: Range, now_ms: int
) -> ProjectStats:
    still_ms = sum(asked_for.overlap_ms(since_ms, now_ms) for since_ms in held)
    return ProjectStats(name, sums.arrived, sums.done, sums.held_ms + still_ms, len(held))
