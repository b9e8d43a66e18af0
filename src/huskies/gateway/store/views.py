"""The views that follow the log from their own position: the fleet and the index. Both can be made again."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from huskies.errors import ConfigError, StoreError
from huskies.gateway.board_store import snapshot_of
from huskies.gateway.fairness import Fairness
from huskies.gateway.feed import Feed
from huskies.gateway.fleet import Fleet
from huskies.gateway.metrics import Metrics
from huskies.gateway.quota import Quota
from huskies.gateway.store import log_store
from huskies.gateway.store.blocks import Block
from huskies.gateway.store.history import History
from huskies.gateway.store.index import FILE_NAME, Index, IndexRows, rows_of
from huskies.gateway.store.log import Log
from huskies.gateway.store.refold import refold_cut
from huskies.protocol.peer_wire import BoardStory

_log = logging.getLogger("huskies.views")

# While sleds push, the index gets at most this share of the event loop's time: acks do not wait for it.
_SHARE: Final = 0.2
# What writing it may take of the time while some push much and others little, whose commits would wait for
# the disk: the index of what a flood leaves is made when it is over.
_SHARE_OF_DISK: Final = 0.02
# What is looked at between two turns of the event loop, and what is written in one transaction: the larger
# that is, the fewer pages are written for each row, and the longer the log waits for the processor.
_SLICE_EVENTS: Final = 2_000
_WRITE_EVENTS: Final = 20_000
_WRITE_EVENTS_BUSY: Final = 4_000
# Commits that follow each other quickly are indexed together.
_PAUSE: Final = 0.05
# Keeping the fleet this often bounds how much of the log is folded at the next start.
_KEEP_FLEET_EVENTS: Final = 250_000
_IDLE: Final = 3_600.0

_stories = msgspec.json.Decoder(list[BoardStory])


def open_index(directory: Path) -> Index:
    """The index of the log in `directory`; one that cannot be read is made again."""
    try:
        return Index(directory)
    except (ConfigError, sqlite3.DatabaseError) as error:
        _log.warning("the index is made again: %s", error)
        discard_index(directory)
        return Index(directory)


def discard_index(directory: Path) -> None:
    """Remove the index's files."""
    for suffix in ("", "-wal", "-shm"):
        (directory / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)


async def restore(index: Index, history: History, log: Log) -> Fleet:
    """The fleet as of the log's end: as it was kept last, and then what the log and its snapshots add."""
    if index.position and not await _agrees(history, index.position, index.chain()):
        _log.warning("the index is of another log; it is made again")
        index.clear()
    fleet = index.read_fleet()
    if fleet.position and not await _agrees(history, fleet.position, fleet.chain):
        fleet = Fleet()
    snapshots = await _snapshots(log, fleet.position)
    while blocks := await history.blocks_after(fleet.position):
        for block in blocks:
            while snapshots and snapshots[0][0] < block.position:
                _apply(fleet, snapshots.pop(0), log)
            fleet.apply_block(block, log.streams)
    for snapshot in snapshots:
        _apply(fleet, snapshot, log)
    # Whether the views that were kept passed them before or after they were repaired is not known.
    for position in await log.repaired():
        for block in await history.blocks_after(position - 1, 1):
            if block.position == position and block.damage is None:
                take_repaired(index, fleet, block, log)
    await refold_cut(fleet, log)
    return fleet


def keep(index: Index, fleet: Fleet) -> None:
    """Keep the fleet for the next start."""
    try:
        index.write_fleet(msgspec.msgpack.encode(fleet))
    except sqlite3.Error as error:
        _log.warning("the fleet could not be kept, and is folded from the log at the next start: %s", error)


async def measured(index: Index, log: Log, limit: int) -> Quota:
    """What each project takes of the log, as far as it is indexed; `follow` counts the rest of it."""
    quarantined = await log.call(
        lambda db: db.execute(
            "SELECT stream_id, sum(length(events)) FROM quarantine GROUP BY stream_id"
        ).fetchall()
    )
    # What was dropped just before the gateway ended is forgotten now.
    dropped = {stream.id: stream.dropped_seq for stream in log.streams if stream and stream.dropped_seq}
    first_position = await log.call(log_store.first_position)
    index.forget(first_position, dropped)
    for project, ids in log.sequences.forgotten_numbers().items():
        # Unless that was done when it was forgotten.
        if not index.has_forgotten(ids):
            index.forget_project(project, ids)
    quota = Quota(limit)
    quota.opened(log.streams, index.sizes(), log.position)
    for stream_id, size in quarantined:
        quota.dropped({stream_id: -size}, log.streams)
    return quota


async def follow(
    *,
    index: Index,
    fleet: Fleet,
    feed: Feed,
    history: History,
    log: Log,
    quota: Quota,
    metrics: Metrics,
    fairness: Fairness,
) -> None:
    """Index the log as it grows, at a pace that leaves the event loop to those who push and read."""
    kept_at = fleet.position
    rows, events, position = IndexRows(), 0, index.position
    while not feed.closed:
        blocks = feed.recent(position)
        if blocks is None:
            blocks = await history.blocks_after(position, _SLICE_EVENTS)
        if blocks:
            started = time.perf_counter()
            some = _slice(blocks)
            rows.extend(rows_of(some, log.streams))
            quota.indexed(some, log.streams)
            events += sum(block.count for block in some)
            position = rows.position
            # While others push, the index is made in the time that they leave.
            share = _SHARE if log.pending_events else 1.0
            await asyncio.sleep((time.perf_counter() - started) * (1 / share - 1))
        enough = _WRITE_EVENTS_BUSY if log.pending_events else _WRITE_EVENTS
        if events >= enough or (events and position == feed.head.position):
            kept = None
            if fleet.position - kept_at >= _KEEP_FLEET_EVENTS:
                kept, kept_at = msgspec.msgpack.encode(fleet), fleet.position
            started = time.perf_counter()
            counting = await _write(index, rows, kept, log.now_ms())
            took = time.perf_counter() - started
            metrics.indexed(position)
            rows, events = IndexRows(), 0
            # Counting is done in Python: the event loop waits for its thread as for itself.
            busy = counting if log.pending_events else 0.0
            pause = took * (1 / _SHARE_OF_DISK - 1) if fairness.is_needed else busy * (1 / _SHARE - 1)
            await asyncio.sleep(max(pause, _PAUSE))
        elif not blocks:
            await feed.wait(None, _IDLE)


async def _write(index: Index, rows: IndexRows, fleet: bytes | None, now_ms: int) -> float:
    try:
        return await asyncio.to_thread(index.write, rows, fleet, now_ms)
    except sqlite3.Error as error:
        problem = f"{index.path}: the index cannot be written: {error}"
        if not isinstance(error, sqlite3.OperationalError):
            discard_index(index.path.parent)
            problem += "; it is made again at the next start"
        raise StoreError(problem) from None


def _slice(blocks: Sequence[Block]) -> Sequence[Block]:
    events = 0
    for number, block in enumerate(blocks, 1):
        events += block.count
        if events >= _SLICE_EVENTS:
            return blocks[:number]
    return blocks


def take_repaired(index: Index, fleet: Fleet, block: Block, log: Log) -> None:
    """Let the views know a block that was damaged when they passed it."""
    fleet.apply_late(block, log.streams)
    try:
        index.add(block.position, rows_of([block], log.streams))
    except sqlite3.Error as error:
        _log.warning("a repaired block could not be indexed: %s", error)


async def _agrees(history: History, position: int, chain: int) -> bool:
    """Whether the log still holds at `position` what it held when the view was there."""
    blocks = await history.blocks_after(position - 1, 1)
    if blocks and blocks[0].position > position:
        # That was dropped meanwhile, and cannot be compared any more.
        return True
    return bool(blocks) and blocks[0].last_position == position and blocks[0].chain == chain


_Snapshot = tuple[int, str, int, int, int, bytes]


async def _snapshots(log: Log, position: int) -> list[_Snapshot]:
    return await log.call(
        lambda db: db.execute(
            "SELECT position, project, stream_id, seq, received_ms, stories FROM snapshots "
            "WHERE position >= ? ORDER BY position",
            (position,),
        ).fetchall()
    )


def _apply(fleet: Fleet, snapshot: _Snapshot, log: Log) -> None:
    _, project, stream_id, seq, received_ms, stories = snapshot
    stream = log.streams[stream_id]
    assert stream is not None  # noqa: S101 - a stream is registered before its first board
    fleet.apply_snapshot(project, snapshot_of(stream, seq, received_ms, _stories.decode(stories)))
