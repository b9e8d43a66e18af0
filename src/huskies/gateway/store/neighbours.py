"""What the columns of single rows say of where blocks begin and end, and how they continue each other.

For blocks that are damaged, beside others that may be too: a column of another type counts as absent.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from huskies import limits
from huskies.gateway.store import stream_rows
from huskies.gateway.store.blocks import decode_runs
from huskies.gateway.store.log_store import typed

_BEFORE: Final = typed("before")
_CHAIN: Final = typed("chain")
_ENDS: Final = f"position, {typed('count')}, {_CHAIN}, {typed('runs', 'blob')}"


def chain_of_earlier(connection: sqlite3.Connection, position: int) -> int | None:
    """The checksum that the row before `position` says the log has with it; None where none says so."""
    found = connection.execute(
        f"SELECT {_CHAIN} FROM blocks WHERE position < ? ORDER BY position DESC LIMIT 1",  # noqa: S608 - constant
        (position,),
    ).fetchone()
    return None if found is None else found[0]


def begin_of_later(connection: sqlite3.Connection, position: int) -> tuple[int, int | None] | None:
    """Where the row behind `position` begins, and which checksum it continues, should it say one."""
    found: tuple[int, int | None] | None = connection.execute(
        f"SELECT position, {_BEFORE} FROM blocks WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608 - constant
        (position,),
    ).fetchone()
    return found


def last_block(connection: sqlite3.Connection) -> tuple[int, int]:
    """The position of the newest event and the log's checksum; (0, 0) for an empty log."""
    row = connection.execute(
        f"SELECT {_ENDS} FROM blocks ORDER BY position DESC LIMIT 1"  # noqa: S608 - constant
    ).fetchone()
    if row is None:
        return 0, 0
    start, count, chain, runs_json = row
    end = end_of_newest(connection, start, count, runs_json)
    if chain is None:
        heads = stream_rows.heads(connection)
        chain = heads.chain if heads.is_sound and heads.position == end else None
    return end, chain or 0


def end_of_newest(
    connection: sqlite3.Connection, start: int, count: int | None, runs_json: bytes | None
) -> int:
    """Where the newest block ends: as it says itself, or else as the checkpoint of the heads does."""
    count = count or 0
    if count == _held(runs_json):
        return start + count - 1
    heads = stream_rows.heads(connection)
    if heads.is_sound and heads.position >= start:
        return heads.position
    # A number that was damaged may be as large as numbers get, and nothing would ever stand there.
    return start + count - 1 if 0 < count < 2 * limits.BLOCK_EVENTS_MAX else start


def _held(runs_json: bytes | None) -> int | None:
    try:
        return sum(run.count for run in decode_runs(runs_json or b"")) or None
    except msgspec.DecodeError:
        return None
