"""Retention: drops whole blocks from the log's beginning, a few at a time, by age or by size.

Carried out in the writer's thread, so that what is dropped and what is noted of it are one transaction.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from huskies.gateway.store.blocks import Run, decode_runs
from huskies.gateway.store.log_store import typed
from huskies.gateway.store.streams import Streams

# At a time: a commit that has this to do as well takes a few milliseconds longer.
STEP_BLOCKS: Final = 64
# Room in the file that the log does not need for what comes next is given back, so much at a time.
_SPARE_PAGES: Final = 2_048
_SHRINK_PAGES: Final = 256
_DAY_MS: Final = 24 * 3_600_000
_RUNS: Final = f"ifnull({typed('runs', 'blob')}, x'')"


class Rules(msgspec.Struct, frozen=True):
    """How long events are retained (ms since they were received) and how large the log may be (bytes)."""

    age_ms: int | None = None
    size: int | None = None


class Dropped(NamedTuple):
    """What one step dropped: everything up to `last_position`; `more`: there may be more to drop."""

    last_position: int
    events: int
    runs: list[Run]
    more: bool


def used_bytes(connection: sqlite3.Connection) -> int:
    """How much of the log's file is in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def is_due(connection: sqlite3.Connection, rules: Rules, now_ms: int) -> bool:
    """Whether the oldest block is to be dropped."""
    rows = connection.execute(f"SELECT {_RUNS} FROM blocks ORDER BY position LIMIT 2").fetchall()  # noqa: S608 - constant
    excess = 0 if rules.size is None else used_bytes(connection) - rules.size
    return len(rows) > 1 and (excess > 0 or _are_older(_runs(rows[0][0]), rules, now_ms))


def drop(
    connection: sqlite3.Connection, streams: Streams, rules: Rules, now_ms: int, up_to: int
) -> Dropped | None:
    """Drop some of the oldest blocks, none beyond position `up_to`; None where nothing is due.

    The newest block stays. Part of the caller's transaction.
    """
    rows = connection.execute(
        f"SELECT position, {_RUNS}, ifnull(length(events), 0) FROM blocks ORDER BY position LIMIT ?",  # noqa: S608 - constant
        (STEP_BLOCKS + 1,),
    ).fetchall()
    excess = 0 if rules.size is None else used_bytes(connection) - rules.size
    last, taken, size = 0, 0, 0
    runs: list[Run] = []
    for (position, runs_json, length), following in pairwise(rows):
        of_block = _runs(runs_json)
        due = excess > 0 or _are_older(of_block, rules, now_ms)
        if not due or following[0] - 1 > up_to:
            break
        last, taken = following[0] - 1, taken + following[0] - position
        size += length + len(runs_json)
        excess -= length + len(runs_json)
        runs += of_block
    if not taken:
        return None
    connection.execute("DELETE FROM blocks WHERE position <= ?", (last,))
    for run in _newest(runs):
        # A damaged block may name sequences that are not there.
        if 0 < run.stream_id < len(streams.rows):
            streams.drop(connection, run)
    _note(connection, now_ms, last, taken, size)
    return Dropped(last, taken, runs, len(rows) > STEP_BLOCKS and last == rows[-1][0] - 1)


def shrink(connection: sqlite3.Connection) -> bool:
    """Give a little of the file's free room back; whether there is more. Part of the caller's transaction.

    Logs made by older versions cannot; in them the room is used again.
    """
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    if free <= max(_SPARE_PAGES, pages // 8):
        return False
    for _ in range(_SHRINK_PAGES):
        # Python's sqlite3 carries out only the first step of this statement, whatever it is asked for.
        connection.execute("PRAGMA incremental_vacuum(1)")
    return bool(connection.execute("PRAGMA freelist_count").fetchone()[0] < free)


def _runs(runs_json: bytes) -> list[Run]:
    try:
        return decode_runs(runs_json)
    except msgspec.DecodeError:
        # A damaged block that was not repaired until now.
        return []


def _are_older(runs: list[Run], rules: Rules, now_ms: int) -> bool:
    return rules.age_ms is not None and all(run.received_ms < now_ms - rules.age_ms for run in runs)


def _newest(runs: list[Run]) -> list[Run]:
    """Of each stream the last of these."""
    return list({run.stream_id: run for run in runs}.values())


def _note(connection: sqlite3.Connection, now_ms: int, last: int, events: int, size: int) -> None:
    """Keep what was dropped when, by the day."""
    connection.execute(
        "INSERT INTO dropped VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "last_position = excluded.last_position, events = events + excluded.events, "
        "bytes = bytes + excluded.bytes",
        (now_ms // _DAY_MS, last, events, size),
    )
