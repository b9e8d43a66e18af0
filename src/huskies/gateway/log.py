"""The log: appends batches durably, in one thread, and says where everything stands.

An append is acknowledged to its owner only after the commit that holds it was fsynced. Contiguity and content
are checked in that thread, where commits are serialised (SPEC 5, rule 2).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from huskies import limits
from huskies.errors import StoreError
from huskies.events import codec
from huskies.events.model import RelayedEvent
from huskies.gateway import log_store
from huskies.gateway.appends import Append, AppendOwner, Conflict, Settled, tell, tell_refused
from huskies.gateway.blocks import Batch, Block, Stream, pack
from huskies.protocol.contiguity import Gap, Split, judge
from huskies.protocol.vectors import VersionVector
from huskies.protocol.wire import PreviousEpoch
from huskies.storage.commits import CommitThread
from huskies.storage.sqlite import open_writer

_log = logging.getLogger("huskies.log")
_T = TypeVar("_T")

# Checkpointing the heads this often keeps start-up short whatever the log's length.
_CHECKPOINT_EVENTS = 200_000


class _Call(msgspec.Struct):
    """Something else to do in the writer's transaction; `done` gets its result after the commit."""

    run: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any] | None


class Lookup(Protocol):
    """Finds blocks by stream; only as fresh as it says."""

    def run_positions(self, stream_id: int, first_seq: int, last_seq: int) -> tuple[list[int], int]:
        """Positions of blocks that may hold these, and the position up to which that is the whole truth."""


class Log:
    """The gateway's log in `directory`. `published` is called in the event loop with each commit's blocks."""

    def __init__(
        self,
        directory: Path,
        *,
        lookup: Lookup,
        published: Callable[[list[Block]], None],
        failed: Callable[[StoreError], None],
        now_ms: Callable[[], int],
    ) -> None:
        self.path = directory / log_store.FILE_NAME
        self._connection = open_writer(self.path, log_store.SCHEMA, log_store.VERSION)
        self.log_id = log_store.log_id(self._connection)
        self.streams = log_store.read_streams(self._connection)
        self._by_origin = {(s.sled_id, s.epoch): s for s in self.streams if s is not None}
        self._projects = {sled_id: stream.project for (sled_id, _), stream in self._by_origin.items()}
        self.position, self.chain = log_store.last_block(self._connection)
        self._lookup = lookup
        self._published = published
        self._now_ms = now_ms
        self._failed = False
        self._refused: WeakKeyDictionary[AppendOwner, Gap | Conflict] = WeakKeyDictionary()
        self._unchecked = 0
        self._dirty: dict[int, Stream] = {}
        self._fresh: deque[list[Block]] = deque()
        self.pending_events = 0
        self.pending_bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._thread: CommitThread[Append | _Call, Any] = CommitThread(
            name="huskies-log",
            commit=self._commit,
            deliver=self._deliver,
            failed=failed,
            cost=_cost,
            max_cost=limits.COMMIT_EVENTS_MAX,
        )

    # --- in the event loop -------------------------------------------------------------------------

    def append(self, job: Append) -> None:
        """Hand over a batch; its owner is told what became of it."""
        self.pending_events += job.count
        self.pending_bytes += job.size
        self._thread.submit(job)

    @property
    def crowded(self) -> bool:
        """Whether so much is accepted and not yet committed that sleds must wait."""
        return (
            self.pending_events >= limits.PENDING_EVENTS_MAX or self.pending_bytes >= limits.PENDING_BYTES_MAX
        )

    async def room(self) -> None:
        """Wait while too much is accepted and not yet committed."""
        while self.crowded:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def later(self, run: Callable[[sqlite3.Connection], object]) -> None:
        """Do something in the writer's transaction without waiting for it."""
        self._thread.submit(_Call(run, None))

    async def call(self, run: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do something in the writer's transaction, after everything that was handed over before."""
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._thread.submit(_Call(run, done))
        return await done

    async def admit(
        self, sled_id: str, epoch: str, project: str, previous: Sequence[PreviousEpoch] = ()
    ) -> tuple[Stream, int] | str:
        """The stream of this identity and the newest seq it holds, with all earlier appends settled.

        It is registered where it is new, and what the sled says of its older epochs is noted, before this
        returns. A sled of another project gets that one's name instead, and nothing is noted.
        """

        def run(connection: sqlite3.Connection) -> tuple[Stream, int] | str:
            owner = self._projects.setdefault(sled_id, project)
            if owner != project:
                return owner
            for older in previous:
                self._close_epoch(connection, sled_id, older, project)
            stream = self._register(connection, sled_id, epoch, project)
            return stream, stream.last_seq

        return await self.call(run)

    def heads(self) -> VersionVector:
        """How much of each sequence the log holds."""
        return VersionVector({origin: stream.last_seq for origin, stream in list(self._by_origin.items())})

    async def stop(self) -> None:
        """Commit what was handed over, checkpoint and close."""
        await self._thread.stop()
        try:
            # After a commit that failed, memory is ahead of the disk; what is there is what counts.
            if not self._failed:
                self._checkpoint_heads()
                # A copy of log.db alone is then a copy of the log.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
        except sqlite3.Error as error:
            _log.warning("the log could not be checkpointed: %s", error)

    # --- in the writer's thread --------------------------------------------------------------------

    def _commit(self, jobs: Sequence[Append | _Call]) -> list[Any]:
        connection = self._connection
        blocks: list[Block] = []
        waiting: dict[int, Batch] = {}
        results: list[Any] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                if isinstance(job, _Call):
                    self._flush(waiting, blocks)
                    results.append(job.run(connection))
                else:
                    results.append(self._append(job, waiting, blocks))
            self._flush(waiting, blocks)
            if self._unchecked >= _CHECKPOINT_EVENTS:
                self._write_heads()
            connection.execute("COMMIT")
        except BaseException as error:
            self._failed = True
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.path}: {error}") from error
            raise
        self._fresh.append(blocks)
        return results

    def _append(self, job: Append, waiting: dict[int, Batch], blocks: list[Block]) -> int | Gap | Conflict:
        # What a session sent behind something that was refused continues another history than the log's,
        # also where its first seq would be the next in turn.
        refused = self._refused.get(job.owner) if self._refused else None
        if refused is not None:
            return refused
        stream = job.stream
        first_seq = job.first_seq or stream.last_seq + 1
        last_seq = first_seq + job.count - 1
        verdict: Gap | Split | Conflict = judge(stream.last_seq, first_seq, job.count)
        if isinstance(verdict, Split) and verdict.held:
            self._flush(waiting, blocks)
            verdict = self._compare(stream, job, verdict)
        if not isinstance(verdict, Split):
            self._refused[job.owner] = verdict
            return verdict
        fresh = job.events[verdict.held :] if verdict.held else job.events
        if fresh:
            stream.last_seq = last_seq
            self._dirty[stream.id] = stream
            self._wait(
                Batch(stream.id, first_seq + verdict.held, job.received_ms, job.replayed_through, fresh),
                waiting,
                blocks,
            )
        return last_seq

    def _wait(self, batch: Batch, waiting: dict[int, Batch], blocks: list[Block]) -> None:
        """Let a batch wait for the end of the commit, joined with what waits of the same stream."""
        before = waiting.get(batch.stream_id)
        if before is not None and before.replayed_through == batch.replayed_through:
            before.events.extend(batch.events)
            return
        if before is not None:
            self._flush(waiting, blocks)
        waiting[batch.stream_id] = batch

    def _flush(self, waiting: dict[int, Batch], blocks: list[Block]) -> None:
        for block, runs_json in pack(waiting.values(), self.position + 1, self.chain):
            log_store.insert_block(self._connection, block, runs_json)
            self.position, self.chain = block.last_position, block.chain
            self._unchecked += block.count
            blocks.append(block)
        waiting.clear()

    def _compare(self, stream: Stream, job: Append, split: Split) -> Split | Conflict:
        """Compares what is held already; what differs goes into quarantine, with all that was sent behind."""
        held = self._held(stream, job.first_seq, job.first_seq + split.held - 1)
        for seq, event in enumerate(job.events[: split.held], job.first_seq):
            if held[seq] != event:
                self._quarantine(job, seq)
                return Conflict(seq)
        return split

    def _held(self, stream: Stream, first_seq: int, last_seq: int) -> dict[int, RelayedEvent]:
        """What the log holds of a stream from `first_seq` to `last_seq`, all of which it holds."""
        wanted = range(first_seq, last_seq + 1)
        indexed, known_to = self._lookup.run_positions(stream.id, first_seq, last_seq)
        held: dict[int, RelayedEvent] = {}
        # The index follows the log; what it has not seen yet is looked through. Should it ever lack what it
        # ought to know, the whole log is: taking what is held for something else would store it twice.
        for positions in (indexed, self._positions(stream, known_to), self._positions(stream, 0)):
            for position in positions:
                self._collect(stream.id, position, held)
            if held.keys() >= set(wanted):
                return held
        missing = next(seq for seq in wanted if seq not in held)
        raise StoreError(f"{self.path}: seq {missing} of a sled ought to be there and is not")

    def _positions(self, stream: Stream, after: int) -> list[int]:
        mark = f"[{stream.id},".encode()
        return [
            position
            for position, runs_json in log_store.runs_after(self._connection, after)
            if mark in runs_json
        ]

    def _collect(self, stream_id: int, position: int, held: dict[int, RelayedEvent]) -> None:
        block = log_store.block_at(self._connection, position)
        if block is None:
            return
        start = 0
        for run in block.runs:
            if run.stream_id == stream_id:
                held.update(enumerate(block.events()[start : start + run.count], run.first_seq))
            start += run.count

    def _quarantine(self, job: Append, seq: int) -> None:
        events = job.events[seq - job.first_seq :]
        self._connection.execute(
            "INSERT INTO quarantine (stream_id, first_seq, received_ms, events) VALUES (?, ?, ?, ?)",
            (job.stream.id, seq, job.received_ms, codec.encode_batch(events)),
        )

    def _register(self, connection: sqlite3.Connection, sled_id: str, epoch: str, project: str) -> Stream:
        known = self._by_origin.get((sled_id, epoch))
        if known is not None:
            return known
        stream = Stream(len(self.streams), sled_id, epoch, project)
        connection.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?, 0, NULL)", (stream.id, sled_id, epoch, project)
        )
        self.streams.append(stream)
        self._by_origin[sled_id, epoch] = stream
        return stream

    def _close_epoch(
        self, connection: sqlite3.Connection, sled_id: str, older: PreviousEpoch, project: str
    ) -> None:
        stream = self._register(connection, sled_id, older.epoch, project)
        if stream.closed_seq == older.last_seq:
            return
        stream.closed_seq = older.last_seq
        connection.execute("UPDATE streams SET closed_seq = ? WHERE id = ?", (older.last_seq, stream.id))
        if older.last_seq > stream.last_seq:
            _log.error(
                "events are missing: their sled no longer holds them",
                extra={
                    "project": project,
                    "epoch": older.epoch,
                    "from": stream.last_seq + 1,
                    "to": older.last_seq,
                },
            )

    def _write_heads(self) -> None:
        log_store.write_heads(self._connection, list(self._dirty.values()), self.position)
        self._dirty.clear()
        self._unchecked = 0

    def _checkpoint_heads(self) -> None:
        if self._dirty:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write_heads()
            self._connection.execute("COMMIT")

    # --- back in the event loop --------------------------------------------------------------------

    def _deliver(self, jobs: Sequence[Append | _Call], results: Sequence[Any]) -> None:
        blocks = self._fresh.popleft()
        settled: dict[int, Settled] = {}
        for job, result in zip(jobs, results, strict=True):
            if isinstance(job, _Call):
                if job.done is not None and not job.done.done():
                    job.done.set_result(result)
                continue
            self.pending_events -= job.count
            self.pending_bytes -= job.size
            if isinstance(result, int):
                told = settled.setdefault(id(job.owner), Settled(job.owner))
                told.last_seq = result
                told.batches += job.batches
                told.events += job.count
            else:
                before = settled.pop(id(job.owner), None)
                if before is not None:
                    tell(before)
                tell_refused(job, result)
        for told in settled.values():
            tell(told)
        self._published(blocks)
        if self._room is not None:
            self._room.set_result(None)
            self._room = None


def _cost(job: Append | _Call) -> int:
    """What a job adds to a commit, in events; those that are large count for more."""
    if isinstance(job, _Call):
        return 1
    return max(job.count, job.size * limits.COMMIT_EVENTS_MAX // limits.COMMIT_BYTES_MAX)
