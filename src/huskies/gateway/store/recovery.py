"""Puts damaged blocks back from what is sound in the log itself: their own row, and the rows around it.

Where the row's content fits the checksums around it, the column that is damaged follows from the others. One
bit can be turned back too; what was found so counts only if each run goes on with its sequence and has the
digest of its events, which are checksums of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from huskies.gateway.store import log_store
from huskies.gateway.store.blocks import Block, Stream, decode_runs, extend_digest, split_runs
from huskies.gateway.store.damage import DamagedRange, describe, remove
from huskies.gateway.store.repair import Rebuilt, candidate

_RUNS: Final = log_store.typed("runs", "blob")


def recover(
    connection: sqlite3.Connection, found: DamagedRange, streams: Sequence[Stream | None]
) -> Block | None:
    """Put a damaged block back, if its own row proves what it was; part of the caller's transaction.

    Also where it is sound as this connection sees it: others may read another page from the disk than the one
    that this one, which wrote it, still has in memory.
    """
    # As they are stored: a flipped bit may also have made text of them.
    own = connection.execute(
        "SELECT CAST(runs AS BLOB), CAST(events AS BLOB) FROM blocks WHERE position = ?", (found.position,)
    ).fetchone()
    if own is None or None in own:
        return None
    proposed = candidate(describe(connection, found, streams), *own)
    if proposed is None or not (proposed.proven or _digests_fit(connection, proposed.rebuilt.block, streams)):
        return None
    put_back(connection, proposed.rebuilt)
    return proposed.rebuilt.block


def put_back(connection: sqlite3.Connection, rebuilt: Rebuilt) -> None:
    """Store the block as it was; part of the caller's transaction, and to be forgotten as damaged after it.

    That is noted: what follows the log may have passed the block while it was damaged.
    """
    position = rebuilt.block.position
    connection.execute("DELETE FROM blocks WHERE position = ?", (position,))
    log_store.insert_block(connection, rebuilt.block, rebuilt.runs_json)
    connection.execute("INSERT OR IGNORE INTO repaired VALUES (?)", (position,))
    remove(connection, position)


def _digests_fit(connection: sqlite3.Connection, block: Block, streams: Sequence[Stream | None]) -> bool:
    """Whether every run goes on where its sequence stood, with the digest that its events make."""
    stood: dict[int, tuple[int, int]] = {}
    for run in reversed(block.runs):
        stream = streams[run.stream_id] if 0 < run.stream_id < len(streams) else None
        if stream is None:
            return False
        stood.pop(run.stream_id, None)
        # What begins with this run is not looked for in all of the log.
        if run.first_seq == stream.beginning[0] + 1:
            stood[run.stream_id] = stream.beginning
    earlier = {run.stream_id for run in block.runs} - stood.keys()
    stood.update(_stood(connection, block.position, earlier))
    for run, _, events_json in split_runs(block):
        seq, digest = stood.get(run.stream_id, (None, 0))
        if seq is None or run.first_seq != seq + 1 or run.digest != extend_digest(digest, events_json):
            return False
        stood[run.stream_id] = run.last_seq, run.digest
    return True


def _stood(connection: sqlite3.Connection, position: int, numbers: set[int]) -> dict[int, tuple[int, int]]:
    """The last seq and digest of these before `position`, where the log has runs of them there."""
    found: dict[int, tuple[int, int]] = {}
    query = f"SELECT {_RUNS} FROM blocks WHERE position < ? ORDER BY position DESC"  # noqa: S608 - constant
    for (runs_json,) in connection.execute(query, (position,)) if numbers else ():
        if found.keys() == numbers:
            break
        try:
            runs = decode_runs(runs_json or b"")
        except msgspec.DecodeError:
            continue
        for run in reversed(runs):
            if run.stream_id in numbers:
                found.setdefault(run.stream_id, (run.last_seq, run.digest))
    return found
