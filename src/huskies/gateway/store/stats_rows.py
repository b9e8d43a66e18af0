"""The counts of `gateway.stats` as views.db keeps them beside the index: in quarters of an hour and in days.

What spans many days is added up from days, and from quarters only where it begins and ends. Under `EVERY`
stands the sum of all projects. Of stories there is a row for each of which something came within the last
year; what a story began and has not ended has one as long as that is so.

Everything here is part of the transaction in which the index takes the same events: each is counted once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from huskies.gateway.stats import (
    DAY_MS,
    QUARTER_MS,
    QUARTERS_A_DAY,
    Cell,
    Counts,
    Fold,
    Open,
    OpenKey,
    Seen,
    StoryKey,
    Told,
    Visits,
    named,
)

SCHEMA: Final = """
CREATE TABLE stats_projects (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
                             held INTEGER NOT NULL DEFAULT 0);
CREATE TABLE stats_counts (span INTEGER NOT NULL, project INTEGER NOT NULL, number INTEGER NOT NULL,
                           arrived INTEGER NOT NULL, done INTEGER NOT NULL, moves INTEGER NOT NULL,
                           blocked INTEGER NOT NULL, failed INTEGER NOT NULL, held INTEGER NOT NULL,
                           held_ms INTEGER NOT NULL, PRIMARY KEY (span, project, number)) WITHOUT ROWID;
CREATE TABLE stats_visits (span INTEGER NOT NULL, project INTEGER NOT NULL, number INTEGER NOT NULL,
                           counts BLOB NOT NULL, PRIMARY KEY (span, project, number)) WITHOUT ROWID;
CREATE TABLE stats_stories (project INTEGER NOT NULL, story TEXT NOT NULL, first_ms INTEGER NOT NULL,
                            last_ms INTEGER NOT NULL, PRIMARY KEY (project, story)) WITHOUT ROWID;
CREATE TABLE stats_open (stream_id INTEGER NOT NULL, story TEXT NOT NULL, stage INTEGER,
                         since_ms INTEGER NOT NULL, held_since_ms INTEGER,
                         PRIMARY KEY (stream_id, story)) WITHOUT ROWID;
CREATE TABLE stats_passed (position INTEGER PRIMARY KEY)
"""
TABLES: Final = (
    "stats_projects",
    "stats_counts",
    "stats_visits",
    "stats_stories",
    "stats_open",
    "stats_passed",
)
# The project that stands for all of them, and the spans that are counted by.
EVERY: Final = 0
QUARTERS: Final = 0
DAYS: Final = 1
# A year of days of any time zone, the longest, and what is cut off at both ends.
KEPT_DAYS: Final = 368
# When something of a story came last is written anew only where it is so much later.
_LAST_MS_STEP: Final = 30 * DAY_MS
_ASKED: Final = 128
_THESE: Final = f"AND story IN ({', '.join('?' * _ASKED)})"
_STORIES: Final = f"SELECT story, first_ms, last_ms FROM stats_stories WHERE project = ? {_THESE}"  # noqa: S608 - constant
_OPEN: Final = f"SELECT story, stage, since_ms, held_since_ms FROM stats_open WHERE stream_id = ? {_THESE}"  # noqa: S608 - constant

# Of what span, of which project, and the span's number since 1970.
_Row: TypeAlias = tuple[int, int, int]
_visits = msgspec.msgpack.Decoder(Visits)


def prepare(connection: sqlite3.Connection) -> None:
    """Let this connection write counts."""
    connection.create_function("with_visits", 2, _with_visits, deterministic=True)
    connection.create_function("without_visits", 2, _without_visits, deterministic=True)


def take(
    connection: sqlite3.Connection, told: Sequence[Told], passed: Iterable[int], *, late: bool = False
) -> None:
    """Count these events; at the positions `passed` begin blocks that were damaged when their turn came.

    `late`: such a block after it was repaired.
    """
    connection.executemany("INSERT OR IGNORE INTO stats_passed VALUES (?)", [(each,) for each in passed])
    if not told:
        return
    by_project, by_stream = named(told)
    ids = _ids(connection, by_project)
    seen = {
        (project, story): Seen(first_ms, last_ms)
        for project, stories in by_project.items()
        for story, first_ms, last_ms in _known(connection, _STORIES, ids[project], stories)
    }
    opened = {
        (stream_id, story): Open(stage, since_ms, held_since_ms)
        for stream_id, stories in by_stream.items()
        for story, stage, since_ms, held_since_ms in _known(connection, _OPEN, stream_id, stories)
    }
    known = {key: (each.first_ms, each.last_ms) for key, each in seen.items()}
    fold = Fold(seen, opened)
    for some in told:
        fold.take(some, late=late)
    _write_stories(connection, ids, known, fold.seen)
    _write_open(connection, fold.opened)
    _add_counts(connection, ids, fold.cells)
    _add_visits(connection, ids, fold.visits)


def take_late(connection: sqlite3.Connection, position: int, told: Sequence[Told]) -> None:
    """Count a block that was repaired, where it was passed when its turn came, and was not counted since."""
    found = connection.execute("DELETE FROM stats_passed WHERE position = ?", (position,))
    if found.rowcount:
        take(connection, told, (), late=True)


def forget(connection: sqlite3.Connection, now_ms: int) -> None:
    """Drop what is older than a year by the clock, and by what was counted: one of them may be wrong."""
    newest = connection.execute(
        "SELECT max(number) FROM stats_counts WHERE span = ? AND project = ?", (DAYS, EVERY)
    ).fetchone()[0]
    before = min(now_ms // DAY_MS, newest or 0) - KEPT_DAYS
    if before <= 0:
        return
    for span, number in ((DAYS, before), (QUARTERS, before * QUARTERS_A_DAY)):
        for project in (EVERY, *_projects(connection)):
            where = (span, project, number)
            if span == DAYS:
                # What began before and ended since goes on being counted from its end.
                connection.execute(
                    "UPDATE stats_projects SET held = held + (SELECT ifnull(sum(held), 0) FROM stats_counts "
                    "WHERE span = ?1 AND project = ?2 AND number < ?3) WHERE id = ?2",
                    where,
                )
            for table in ("stats_counts", "stats_visits"):
                connection.execute(
                    f"DELETE FROM {table} WHERE span = ? AND project = ? AND number < ?",  # noqa: S608 - constant
                    where,
                )
    connection.execute("DELETE FROM stats_stories WHERE last_ms < ?", (before * DAY_MS - _LAST_MS_STEP,))
    connection.execute(
        "DELETE FROM stats_open WHERE max(since_ms, ifnull(held_since_ms, 0)) < ?", (before * DAY_MS,)
    )


def forget_project(connection: sqlite3.Connection, name: str, stream_ids: Iterable[int]) -> None:
    """Remove what was counted of a project, also from the sum of all; `stream_ids` are its sequences."""
    connection.executemany("DELETE FROM stats_open WHERE stream_id = ?", [(each,) for each in stream_ids])
    found = connection.execute("SELECT id FROM stats_projects WHERE name = ?", (name,)).fetchone()
    if found is None:
        return
    project = found[0]
    less = ", ".join(f"{each} = {each} - ?" for each in Counts.__struct_fields__)
    counted = ", ".join(Counts.__struct_fields__)
    connection.executemany(
        f"UPDATE stats_counts SET {less} WHERE span = ? AND number = ? AND project = {EVERY}",  # noqa: S608 - constants
        connection.execute(
            f"SELECT {counted}, span, number FROM stats_counts WHERE project = ?",  # noqa: S608 - constants
            (project,),
        ).fetchall(),
    )
    connection.executemany(
        f"UPDATE stats_visits SET counts = without_visits(counts, ?) WHERE span = ? AND number = ? "  # noqa: S608 - constant
        f"AND project = {EVERY}",
        connection.execute(
            "SELECT counts, span, number FROM stats_visits WHERE project = ?", (project,)
        ).fetchall(),
    )
    for table in ("stats_counts", "stats_visits", "stats_stories"):
        connection.execute(f"DELETE FROM {table} WHERE project = ?", (project,))  # noqa: S608 - constant
    connection.execute("DELETE FROM stats_projects WHERE id = ?", (project,))


def _projects(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM stats_projects")]


def _ids(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for name in names:
        connection.execute("INSERT OR IGNORE INTO stats_projects (name) VALUES (?)", (name,))
        [ids[name]] = connection.execute("SELECT id FROM stats_projects WHERE name = ?", (name,)).fetchone()
    return ids


def _known(
    connection: sqlite3.Connection, query: str, value: int, stories: Iterable[str]
) -> Iterator[tuple[Any, ...]]:
    asked = sorted(stories)
    for start in range(0, len(asked), _ASKED):
        some = asked[start : start + _ASKED]
        # Always as many: the statement is prepared once.
        some += some[-1:] * (_ASKED - len(some))
        yield from connection.execute(query, (value, *some))


def _write_stories(
    connection: sqlite3.Connection,
    ids: Mapping[str, int],
    known: Mapping[StoryKey, tuple[int, int]],
    seen: Mapping[StoryKey, Seen],
) -> None:
    def is_news(key: StoryKey, story: Seen) -> bool:
        before = known.get(key)
        return before is None or story.first_ms < before[0] or story.last_ms >= before[1] + _LAST_MS_STEP

    connection.executemany(
        "INSERT OR REPLACE INTO stats_stories VALUES (?, ?, ?, ?)",
        [
            (ids[project], story_id, story.first_ms, story.last_ms)
            for (project, story_id), story in seen.items()
            if is_news((project, story_id), story)
        ],
    )


def _write_open(connection: sqlite3.Connection, opened: Mapping[OpenKey, Open]) -> None:
    ended: list[OpenKey] = []
    rows: list[tuple[int, str, int | None, int, int | None]] = []
    for key, each in opened.items():
        if each.stage is None and each.held_since_ms is None:
            ended.append(key)
        else:
            rows.append((*key, each.stage, each.since_ms, each.held_since_ms))
    connection.executemany("DELETE FROM stats_open WHERE stream_id = ? AND story = ?", ended)
    connection.executemany("INSERT OR REPLACE INTO stats_open VALUES (?, ?, ?, ?, ?)", rows)


def _add_counts(connection: sqlite3.Connection, ids: Mapping[str, int], cells: Mapping[Cell, Counts]) -> None:
    rows: dict[_Row, Counts] = {}
    for (name, quarter), counts in cells.items():
        day, rest = divmod(quarter, QUARTERS_A_DAY)
        project, later_ms = ids[name], rest * QUARTER_MS
        rows[QUARTERS, project, quarter] = counts
        _sum(rows, (QUARTERS, EVERY, quarter)).add(counts)
        _sum(rows, (DAYS, project, day)).add(counts, later_ms)
        _sum(rows, (DAYS, EVERY, day)).add(counts, later_ms)
    connection.executemany(
        "INSERT INTO stats_counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "arrived = arrived + excluded.arrived, done = done + excluded.done, moves = moves + excluded.moves, "
        "blocked = blocked + excluded.blocked, failed = failed + excluded.failed, "
        "held = held + excluded.held, held_ms = held_ms + excluded.held_ms",
        [(*key, *msgspec.structs.astuple(rows[key])) for key in sorted(rows)],
    )


def _add_visits(
    connection: sqlite3.Connection, ids: Mapping[str, int], visits: Mapping[Cell, Visits]
) -> None:
    rows: dict[_Row, Visits] = {}
    for (name, quarter), counts in visits.items():
        day, project = quarter // QUARTERS_A_DAY, ids[name]
        rows[QUARTERS, project, quarter] = counts
        for key in ((QUARTERS, EVERY, quarter), (DAYS, project, day), (DAYS, EVERY, day)):
            add_visits(rows.setdefault(key, {}), counts)
    connection.executemany(
        "INSERT INTO stats_visits VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "counts = with_visits(counts, excluded.counts)",
        [(*key, msgspec.msgpack.encode(rows[key])) for key in sorted(rows)],
    )


def _with_visits(one: bytes, other: bytes) -> bytes:
    visits = decode_visits(one)
    add_visits(visits, decode_visits(other))
    return msgspec.msgpack.encode(visits)


def _without_visits(one: bytes, other: bytes) -> bytes:
    visits = decode_visits(one)
    add_visits(visits, {key: -count for key, count in decode_visits(other).items()})
    return msgspec.msgpack.encode({key: count for key, count in visits.items() if count})


def add_visits(to: Visits, counts: Visits) -> None:
    """Count these with the others."""
    for key, count in counts.items():
        to[key] = to.get(key, 0) + count


def decode_visits(data: bytes) -> Visits:
    """Visits as a row keeps them."""
    return _visits.decode(data)


def _sum(rows: dict[_Row, Counts], key: _Row) -> Counts:
    found = rows.get(key)
    if found is None:
        found = rows[key] = Counts()
    return found
