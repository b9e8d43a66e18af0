"""Adds up what `stats_rows` keeps, for a range of quarters of an hour. In a reading thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from huskies.gateway.stats import DAY_MS, QUARTER_MS, QUARTERS_A_DAY, Counts, Visits, held_ms
from huskies.gateway.stats_view import ProjectSums, Range, Sums
from huskies.gateway.store.stats_rows import DAYS, EVERY, QUARTERS, add_visits, decode_visits
from huskies.storage.sqlite import open_reader

_OF: Final = "WHERE span = ? AND project = ? AND number >= ? AND number < ?"
_BY_DAY: Final = (
    "SELECT (number - ?) / ? AS day, sum(arrived), sum(done), sum(moves), sum(blocked), sum(failed) "  # noqa: S608 - constant
    f"FROM stats_counts {_OF} GROUP BY day"
)
_WITHIN: Final = (
    "SELECT ifnull(sum(arrived), 0), ifnull(sum(done), 0), ifnull(sum(held), 0), "  # noqa: S608 - constant
    f"ifnull(sum(held_ms + held * (number - ?) * ?), 0) FROM stats_counts {_OF}"
)
_BEFORE: Final = f"SELECT ifnull(sum(held), 0) FROM stats_counts {_OF}"  # noqa: S608 - constant
_VISITS: Final = f"SELECT counts FROM stats_visits {_OF}"  # noqa: S608 - constant


class _Part(NamedTuple):
    """Spans of one length, from `first` to before `end`."""

    span: int
    first: int
    end: int

    @property
    def span_ms(self) -> int:
        return DAY_MS if self.span == DAYS else QUARTER_MS


def read_sums(path: Path, asked: Range, names: Callable[[str], bool] | None) -> Sums:
    """What the index at `path` has counted; `names` says which projects (None: all)."""
    with closing(open_reader(path)) as connection:
        # As of one moment.
        connection.execute("BEGIN")
        known = connection.execute("SELECT id, name, held FROM stats_projects").fetchall()
        projects = [row for row in known if names is None or names(row[1])]
        ids = [EVERY] if names is None else [row[0] for row in projects]
        return Sums(
            _meta(connection, "position"),
            _meta(connection, "chain"),
            _days(connection, ids, asked),
            _visits(connection, ids, asked),
            {name: _project(connection, number, held, asked) for number, name, held in projects},
        )


def _meta(connection: sqlite3.Connection, key: str) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return 0 if row is None else int(row[0])


def _parts(first: int, end: int) -> list[_Part]:
    """Whole days, and quarters at both ends of them, that together are just this range."""
    day, last_day = -(-first // QUARTERS_A_DAY), end // QUARTERS_A_DAY
    if day > last_day:
        return [_Part(QUARTERS, first, end)]
    return [
        _Part(QUARTERS, first, day * QUARTERS_A_DAY),
        _Part(DAYS, day, last_day),
        _Part(QUARTERS, last_day * QUARTERS_A_DAY, end),
    ]


def _days(connection: sqlite3.Connection, ids: Sequence[int], asked: Range) -> dict[int, Counts]:
    days: dict[int, Counts] = {}
    for project in ids:
        for day, *sums in connection.execute(
            _BY_DAY,
            (asked.first, QUARTERS_A_DAY, QUARTERS, project, asked.first, asked.end),
        ):
            days.setdefault(day, Counts()).add(Counts(*sums))
    return days


def _visits(connection: sqlite3.Connection, ids: Sequence[int], asked: Range) -> Visits:
    visits: Visits = {}
    for part in _parts(asked.first, asked.end):
        for project in ids:
            for (counts,) in connection.execute(_VISITS, (part.span, project, part.first, part.end)):
                add_visits(visits, decode_visits(counts))
    return visits


def _project(connection: sqlite3.Connection, project: int, held: int, asked: Range) -> ProjectSums:
    within = Counts()
    for part in _parts(asked.first, asked.end):
        arrived, done, marks, marks_ms = connection.execute(
            _WITHIN,
            (part.first, part.span_ms, part.span, project, part.first, part.end),
        ).fetchone()
        later_ms = part.first * part.span_ms - asked.from_ms
        within.add(Counts(arrived=arrived, done=done, held=marks, held_ms=marks_ms), later_ms)
    before = held + sum(
        connection.execute(_BEFORE, (part.span, project, part.first, part.end)).fetchone()[0]
        for part in _parts(0, asked.first)
    )
    return ProjectSums(within.arrived, within.done, held_ms(before, within, asked.length_ms))
