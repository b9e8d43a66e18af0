"""Opens the log at its end: what every stream holds, and whether the newest blocks are sound.

What was acknowledged must not be asked for again, nor its number given to something else. So the heads follow
from the runs of all blocks since their last checkpoint; where a damaged block leaves a doubt about them, the
log is not opened.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from huskies.errors import CorruptLogError, StoreError
from huskies.gateway.store import log_store
from huskies.gateway.store.block_rows import blocks_after
from huskies.gateway.store.blocks import Run, Stream
from huskies.gateway.store.damage import Damage, load, plausible_runs
from huskies.storage.wal import find_damage, wal_path

# Checked at every start, however recent the checkpoint: what a machine that failed wrote last.
_CHECKED_BLOCKS: Final = 1_000

_log = logging.getLogger("huskies.log")

_ADVICE: Final = (
    "what sleds send next would be judged wrong; `huskies verify` says more. Restore a backup with "
    "`huskies restore`, or start with an empty data directory: sleds send again what they still hold, and "
    "other gateways what they have"
)


class Tail(NamedTuple):
    """Where the log ends; `advanced` are the streams that hold more than their rows say."""

    streams: list[Stream | None]
    position: int
    chain: int
    advanced: dict[int, Stream]


def unreadable(path: Path, error: sqlite3.Error) -> StoreError:
    """What is said of a log that SQLite cannot read."""
    return StoreError(f"{path}: the log cannot be read: {error}; {_ADVICE}")


def check_wal(path: Path) -> None:
    """Refuse a log whose newest commits SQLite would leave out; raises `StoreError`."""
    damage = find_damage(path)
    if damage is None:
        return
    wal = wal_path(path)
    aside = wal.with_name(f"{wal.name}.damaged")
    accepted = aside.is_file() and aside.stat().st_size == wal.stat().st_size
    if damage.proven and not accepted:
        raise StoreError(
            f"{wal}: damaged behind frame {damage.frames}: {damage.lost} commits that were acknowledged "
            f"cannot be read. Restore a backup with `huskies restore`; or copy this file to {aside.name} "
            "beside it and start again: sleds then send again what they still hold of them"
        )
    _log.warning(
        "%s: the newest %s not whole and left out; sleds send again what was acknowledged of it",
        wal,
        "commit is" if damage.lost == 1 else f"{damage.lost} commits are",
    )


def read_tail(connection: sqlite3.Connection, damage: Damage) -> Tail:
    """Check the newest blocks and work the heads out; what is damaged is noted in `damage`.

    Raises `CorruptLogError` where that leaves a doubt about what was acknowledged.
    """
    load(connection, damage)
    streams = log_store.read_streams(connection)
    since = log_store.heads_position(connection)
    advanced: dict[int, Stream] = {}
    doubtful: dict[int, int] = {}
    for block in damage.watch(blocks_after(connection, _start(connection, since)), connection):
        if block.position <= since:
            continue
        runs = block.runs
        if block.damage is not None:
            runs = _continuing(plausible_runs(connection, block, streams), streams)
            if not runs:
                doubtful[block.position] = block.count
        _settle(doubtful, _advance(streams, runs, advanced))
    position, chain = log_store.last_block(connection)
    if doubtful:
        raise CorruptLogError(min(doubtful), f"which events it held cannot be told any more; {_ADVICE}")
    if position < since:
        raise CorruptLogError(position + 1, f"the newest blocks, up to {since}, are gone; {_ADVICE}")
    return Tail(streams, position, chain, advanced)


def _start(connection: sqlite3.Connection, since: int) -> int:
    row = connection.execute(
        "SELECT position FROM blocks ORDER BY position DESC LIMIT 1 OFFSET ?", (_CHECKED_BLOCKS,)
    ).fetchone()
    return 0 if row is None else min(since, int(row[0]) - 1)


def _continuing(runs: Sequence[Run] | None, streams: Sequence[Stream | None]) -> list[Run]:
    """The runs of a damaged block, where they go on with what their streams hold; else none."""
    heads: dict[int, int] = {}
    for run in runs or ():
        stream = streams[run.stream_id]
        assert stream is not None  # noqa: S101 - that is what makes runs plausible
        if run.first_seq != heads.get(run.stream_id, stream.last_seq) + 1:
            return []
        heads[run.stream_id] = run.last_seq
    return list(runs or ())


def _advance(streams: Sequence[Stream | None], runs: Sequence[Run], advanced: dict[int, Stream]) -> int:
    """Bring the streams forward by these runs; how many events turn out to stand before them."""
    skipped = 0
    for run in runs:
        stream = streams[run.stream_id]
        assert stream is not None  # noqa: S101 - streams are committed before their first run
        skipped += max(0, run.first_seq - 1 - stream.last_seq)
        stream.last_seq, stream.digest = run.last_seq, run.digest
        advanced[stream.id] = stream
    return skipped


def _settle(doubtful: dict[int, int], events: int) -> None:
    """What later runs leave out stood in the damaged blocks before them: no doubt about so many."""
    for position in list(doubtful):
        settled = min(doubtful[position], events)
        doubtful[position] -= settled
        events -= settled
        if not doubtful[position]:
            del doubtful[position]
