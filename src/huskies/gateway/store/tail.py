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
from huskies.gateway.store import stream_rows
from huskies.gateway.store.block_rows import blocks_after
from huskies.gateway.store.blocks import Block, Run, Stream
from huskies.gateway.store.damage import Damage, DamagedRange, load, plausible_runs
from huskies.gateway.store.neighbours import last_block
from huskies.gateway.store.recovery import recover
from huskies.gateway.store.stream_rows import RowProblem
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


def refuse_damaged(problems: Sequence[RowProblem], path: Path) -> None:
    """Raise `StoreError` where rows of sequences are damaged: they say whose events the log holds."""
    if problems:
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise StoreError(f"{path}: the log is damaged: {problems[0]}{more}; {_ADVICE}")


def read_tail(connection: sqlite3.Connection, damage: Damage, path: Path) -> Tail:
    """Check the newest blocks and work the heads out; what is damaged is noted in `damage`, or put back.

    Raises `StoreError` where that leaves a doubt about what was acknowledged, or whose it was.
    """
    rows = stream_rows.read(connection)
    refuse_damaged([problem for problem in rows.problems if not problem.head], path)
    load(connection, damage)
    for found in damage.ranges():
        _put_back(connection, damage, found, rows.streams)
    heads = stream_rows.heads(connection)
    # A head that is not sound follows from the runs of the whole log, if they are.
    unknown = {problem.number for problem in rows.problems}
    is_whole = bool(unknown) or not heads.is_sound
    since = heads.position if heads.is_sound else 0
    tail = _Walk(path, rows.streams)
    for walked in damage.watch(
        blocks_after(connection, 0 if is_whole else _start(connection, since)), connection
    ):
        block = _recovered(connection, damage, walked, rows.streams)
        if is_whole and block.damage is not None:
            problem = rows.problems[0] if rows.problems else "the checkpoint of the heads does not fit"
            raise StoreError(f"{path}: {problem}, and neither is position {block.position} sound; {_ADVICE}")
        if block.position > since:
            tail.go_on(connection, block)
        else:
            tail.advance([run for run in block.runs if run.stream_id in unknown])
    unmoved = [problem for problem in rows.problems if problem.number not in tail.advanced]
    refuse_damaged([problem for problem in unmoved if not tail.begin(problem.number, damage)], path)
    position, chain = last_block(connection)
    if tail.doubtful:
        raise CorruptLogError(min(tail.doubtful), f"which events it held cannot be told any more; {_ADVICE}")
    if position < since:
        raise CorruptLogError(position + 1, f"the newest blocks, up to {since}, are gone; {_ADVICE}")
    return Tail(rows.streams, position, chain, tail.advanced)


def _recovered(
    connection: sqlite3.Connection, damage: Damage, block: Block, streams: Sequence[Stream | None]
) -> Block:
    """The block; where it was damaged and could be put back, as it was."""
    found = None if block.damage is None else damage.at(block.position)
    return block if found is None else _put_back(connection, damage, found, streams) or block


def _put_back(
    connection: sqlite3.Connection, damage: Damage, found: DamagedRange, streams: Sequence[Stream | None]
) -> Block | None:
    connection.execute("BEGIN IMMEDIATE")
    block = recover(connection, found, streams)
    connection.execute("COMMIT")
    if block is not None:
        damage.forget(found.position)
        _log.warning(
            "a damaged block was repaired", extra={"position": found.position, "events": block.count}
        )
    return block


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


class _Walk:
    """What the streams hold, as more and more blocks are walked.

    `advanced` are those that hold more than their rows say; `doubtful`, by position, how many events of
    damaged blocks are not accounted for.
    """

    def __init__(self, path: Path, streams: Sequence[Stream | None]) -> None:
        self._path = path
        self._streams = streams
        self.advanced: dict[int, Stream] = {}
        self.doubtful: dict[int, int] = {}

    def go_on(self, connection: sqlite3.Connection, block: Block) -> None:
        """The next block, behind the checkpoint."""
        runs = block.runs
        if block.damage is not None:
            runs = _continuing(plausible_runs(connection, block, self._streams), self._streams)
            if not runs:
                self.doubtful[block.position] = block.count
        self._settle(self.advance(runs))

    def advance(self, runs: Sequence[Run]) -> int:
        """Bring the streams forward by these runs; how many events turn out to stand before them."""
        skipped = 0
        for run in runs:
            stream = self._streams[run.stream_id] if 0 < run.stream_id < len(self._streams) else None
            if stream is None:
                refuse_damaged([RowProblem(run.stream_id, "it is not there")], self._path)
                continue
            skipped += max(0, run.first_seq - 1 - stream.last_seq)
            stream.last_seq, stream.digest = run.last_seq, run.digest
            self.advanced[stream.id] = stream
        return skipped

    def begin(self, number: int, damage: Damage) -> bool:
        """Where nothing is retained of a stream its head is its beginning; whether that is beyond doubt."""
        stream = self._streams[number]
        if stream is None:
            return False
        seq, digest = stream.beginning
        # What was damaged when it was dropped is beyond the beginning, and nothing else is left to say it.
        if stream.cut_seq is not None or damage.hidden(stream.origin, seq + 1, seq + 1):
            return False
        stream.last_seq, stream.digest = seq, digest
        self.advanced[number] = stream
        return True

    def _settle(self, events: int) -> None:
        """What later runs leave out stood in the damaged blocks before them: no doubt about so many."""
        for position in list(self.doubtful):
            settled = min(self.doubtful[position], events)
            self.doubtful[position] -= settled
            events -= settled
            if not self.doubtful[position]:
                del self.doubtful[position]
