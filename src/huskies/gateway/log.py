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
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from huskies import limits
from huskies.errors import StoreError
from huskies.events import codec
from huskies.events.model import RelayedEvent
from huskies.gateway import damage, log_store, repair, retention
from huskies.gateway.appends import (
    Append,
    AppendOwner,
    Claim,
    Conflict,
    Diverged,
    Lost,
    Settled,
    tell,
    tell_refused,
)
from huskies.gateway.blocks import Batch, Block, Run, Stream, extend_digest, pack
from huskies.gateway.damage import Damage, DamagedRange, describe
from huskies.gateway.stream_reader import Lookup, StreamReader
from huskies.gateway.streams import Streams
from huskies.gateway.tail import check_wal, read_tail, unreadable
from huskies.protocol import peer_wire
from huskies.protocol.branches import first_wins
from huskies.protocol.contiguity import Gap, Split, judge
from huskies.protocol.vectors import Origin, VersionVector
from huskies.protocol.wire import PreviousEpoch
from huskies.storage.commits import Commits, CommitThread, StartCommits
from huskies.storage.sqlite import open_writer

_log = logging.getLogger("huskies.log")
_T = TypeVar("_T")

# Checkpointing the heads this often keeps start-up short whatever the log's length.
_CHECKPOINT_EVENTS = 200_000
# What came within so many milliseconds is kept as having come at once.
_SAME_MOMENT_MS = 100

_Waiting: TypeAlias = dict[int, list[Batch]]
_Refusal: TypeAlias = Gap | Conflict | Lost | Diverged
_Result: TypeAlias = int | _Refusal


class _Call(msgspec.Struct):
    """Something else to do in the writer's transaction; `done` gets its result after the commit."""

    run: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any] | None


class Known(NamedTuple):
    """A sequence that another gateway named: this log's number for it, and whether the two agree so far."""

    theirs: peer_wire.Sequence
    stream: Stream
    agrees: bool


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
        commits: StartCommits = CommitThread,
    ) -> None:
        self.path = directory / log_store.FILE_NAME
        self._loop = asyncio.get_running_loop()
        check_wal(self.path)
        self._connection = open_writer(self.path, log_store.SCHEMA, log_store.VERSION, shrinks=True)
        self.damaged = Damage(self._keep_damage)
        # Called in the event loop with each damaged block that was repaired.
        self.on_repaired: list[Callable[[Block], None]] = []
        try:
            self._connection.executescript(log_store.ADDED)
            self.log_id = log_store.log_id(self._connection)
            tail = read_tail(self._connection, self.damaged)
        except sqlite3.Error as error:
            self._connection.close()
            raise unreadable(self.path, error) from None
        except BaseException:
            self._connection.close()
            raise
        self.position, self.chain = tail.position, tail.chain
        self.sequences = Streams(tail.streams)
        self.streams = self.sequences.rows
        self._reader = StreamReader(self._connection, lookup, self.sequences, self.damaged)
        self._published = published
        self.now_ms = now_ms
        self._failed = False
        self._refused: WeakKeyDictionary[AppendOwner, Gap | Conflict] = WeakKeyDictionary()
        self._unchecked = 0
        # What the last process did not checkpoint counts too: the next checkpoint covers all before it.
        self._dirty: dict[int, Stream] = tail.advanced
        self._fresh: deque[list[Block]] = deque()
        self.pending_events = 0
        self.pending_bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._thread: Commits[Append | _Call] = commits(
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
            owner = self.sequences.owner(sled_id, project)
            if owner != project:
                return owner
            for older in previous:
                self._close_epoch(connection, sled_id, older, project)
            stream = self.sequences.register(connection, sled_id, epoch, project)
            return stream, stream.last_seq

        return await self.call(run)

    def heads(self) -> VersionVector:
        """How much of each sequence the log holds."""
        return self.sequences.heads()

    async def compare(self, sequences: Sequence[peer_wire.Sequence]) -> list[Known]:
        """Register what another gateway names, and say where this log agrees with it so far."""
        return await self.call(lambda db: [self._compare_one(db, sequence) for sequence in sequences])

    async def adopt_base(self, stream: Stream, seq: int, digest: int) -> None:
        """Go on with a sequence beyond `seq`: another gateway no longer retains what comes before."""

        def run(connection: sqlite3.Connection) -> None:
            live = self.sequences.live(stream.origin) or stream
            self.sequences.adopt_base(connection, live, seq, digest)

        await self.call(run)

    async def held(self, origin: Origin, first_seq: int, last_seq: int) -> dict[int, RelayedEvent]:
        """What the log holds of these, by seq."""
        # It reads whole runs.
        found = await self.call(lambda _: self._reader.events(origin, first_seq, last_seq))
        return {seq: event for seq, event in found.items() if first_seq <= seq <= last_seq}

    async def digest(self, origin: Origin, seq: int) -> int | None:
        """The digest of a sequence up to `seq`; None where the log does not retain that."""
        return await self.call(lambda _: self._reader.digest(origin, seq))

    async def trim(self, rules: retention.Rules, up_to: int) -> retention.Dropped | None:
        """Drop some of the oldest blocks that are retained no more, none beyond position `up_to`."""
        return await self.call(lambda db: self._trim(db, rules, up_to))

    async def damaged_block(self, position: int) -> repair.Damaged | None:
        """What is known of the damaged block at `position`; None where none is."""

        def run(connection: sqlite3.Connection) -> repair.Damaged | None:
            found = self.damaged.at(position)
            return None if found is None else describe(connection, found, self.streams)

        return await self.call(run)

    async def repair(self, position: int, runs: Sequence[Run], events: Sequence[RelayedEvent]) -> str | None:
        """Put a damaged block back, if it held exactly these; else say why not, and change nothing."""
        result = await self.call(lambda db: self._repair(db, position, runs, events))
        if isinstance(result, str):
            return result
        _log.warning("a damaged block was repaired", extra={"position": position, "events": result.count})
        for listener in self.on_repaired:
            listener(result)
        return None

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
        waiting: _Waiting = {}
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

    def _append(self, job: Append, waiting: _Waiting, blocks: list[Block]) -> _Result:
        # What a session sent behind something that was refused continues another history than the log's,
        # also where its first seq would be the next in turn.
        refused = self._refused.get(job.owner) if self._refused else None
        if refused is not None:
            return refused
        stream = job.stream if job.claim is None else self.sequences.live(job.stream.origin) or job.stream
        first_seq = job.first_seq or stream.last_seq + 1
        verdict: Split | _Refusal = judge(stream.last_seq, first_seq, job.count)
        if stream.contested and job.claim is None:
            verdict = Conflict(first_seq)
        elif isinstance(verdict, Split):
            if verdict.held or (job.claim is not None and _waits_unclaimed(stream, waiting)):
                self._flush(waiting, blocks)
            stream, verdict = self._compare(stream, job, verdict, waiting.get(stream.id))
        if isinstance(verdict, Gap | Conflict):
            self._refused[job.owner] = verdict
        if not isinstance(verdict, Split):
            return verdict
        fresh = job.events[verdict.held :] if verdict.held else job.events
        last_seq = first_seq + job.count - 1
        if fresh:
            stream.last_seq = last_seq
            self._dirty[stream.id] = stream
            batch = Batch(stream, first_seq + verdict.held, job.received_ms, job.replayed_through, fresh)
            batch.claimed = None if job.claim is None else job.claim.after
            _wait(batch, waiting)
        return last_seq

    def _flush(self, waiting: _Waiting, blocks: list[Block]) -> None:
        batches = [batch for of_stream in waiting.values() for batch in of_stream]
        for block, runs_json in pack(batches, self.position + 1, self.chain):
            log_store.insert_block(self._connection, block, runs_json)
            self.position, self.chain = block.last_position, block.chain
            self._unchecked += block.count
            self._reader.appended(block)
            blocks.append(block)
        for last in (of_stream[-1] for of_stream in waiting.values()):
            if last.claimed not in (None, last.stream.digest):
                _log.error("another gateway's digest of a sled's events is wrong", extra=_names(last.stream))
        waiting.clear()

    def _compare(
        self, stream: Stream, job: Append, split: Split, waiting: list[Batch] | None
    ) -> tuple[Stream, Split | _Refusal]:
        """Compares what is held already, and says under which number and how the batch goes on.

        What a sled sends that differs goes into quarantine, with all that was sent behind. Of two branches
        that differ between logs, the same one wins everywhere, and the other goes into quarantine.
        """
        if job.claim is not None and self._is_elsewhere(stream, job, job.claim, split, waiting):
            return stream, Diverged()
        if not split.held:
            return stream, split
        held = self._reader.events(stream.origin, job.first_seq, job.first_seq + split.held - 1)
        for seq, event in enumerate(job.events[: split.held], job.first_seq):
            # What is no longer retained cannot be compared; it was when it came.
            if seq not in held or held[seq] == event:
                continue
            if job.claim is not None and first_wins(event, held[seq]):
                return self._cut(stream, job, seq), Split(seq - job.first_seq)
            self._quarantine(job, seq)
            if job.claim is None:
                return stream, Conflict(seq)
            self.sequences.contest(self._connection, stream)
            return stream, Lost(seq, self._digest_before(stream, job, seq))
        return stream, split

    def _is_elsewhere(
        self, stream: Stream, job: Append, claim: Claim, split: Split, waiting: list[Batch] | None
    ) -> bool:
        """Whether what another gateway sends continues something else than is held here."""
        if not split.held:
            return claim.before != (waiting[-1].claimed if waiting else stream.digest)
        before = self._reader.digest(stream.origin, job.first_seq - 1)
        if before is not None:
            return claim.before != before
        # Of what was dropped only the digest at its end is known.
        dropped = stream.dropped_seq + 1 - job.first_seq
        if 0 < dropped <= split.held:
            return _extended(claim, job.events[:dropped]) != stream.dropped_digest
        return False

    def _digest_before(self, stream: Stream, job: Append, seq: int) -> int:
        digest = self._reader.digest(stream.origin, seq - 1)
        if digest is not None:
            return digest
        # Where what is held cannot be read, what agrees with it tells.
        if job.claim is None:
            raise StoreError(f"{self.path}: what a sled's seq {seq} continues is not there")
        return _extended(job.claim, job.events[: seq - job.first_seq])

    def _cut(self, stream: Stream, job: Append, seq: int) -> Stream:
        digest = self._digest_before(stream, job, seq)
        _log.error(
            "another branch of a sled's history won; what was held from there on is in quarantine",
            extra={**_names(stream), "from": seq, "to": stream.last_seq},
        )
        return self.sequences.cut(self._connection, stream, seq, digest)

    def _quarantine(self, job: Append, seq: int) -> None:
        events = job.events[seq - job.first_seq :]
        self._connection.execute(
            "INSERT INTO quarantine (stream_id, first_seq, received_ms, events) VALUES (?, ?, ?, ?)",
            (job.stream.id, seq, job.received_ms, codec.encode_batch(events)),
        )

    def _compare_one(self, connection: sqlite3.Connection, theirs: peer_wire.Sequence) -> Known:
        stream = self.sequences.register(connection, theirs.sled_id.lower(), theirs.epoch, theirs.project)
        if theirs.closed_seq is not None and theirs.closed_seq > (stream.closed_seq or -1):
            self.sequences.close_epoch(connection, stream, theirs.closed_seq)
        if theirs.contested:
            self.sequences.contest(connection, stream)
        agrees = True
        if 0 < theirs.last_seq <= stream.last_seq:
            digest = self._reader.digest(stream.origin, theirs.last_seq)
            # What is no longer retained cannot be compared.
            agrees = digest is None or digest == theirs.digest
        return Known(theirs, stream, agrees)

    def _close_epoch(
        self, connection: sqlite3.Connection, sled_id: str, older: PreviousEpoch, project: str
    ) -> None:
        stream = self.sequences.register(connection, sled_id, older.epoch, project)
        news = self.sequences.close_epoch(connection, stream, older.last_seq)
        if news and older.last_seq > stream.last_seq:
            _log.error(
                "events are missing: their sled no longer holds them",
                extra={**_names(stream), "from": stream.last_seq + 1, "to": older.last_seq},
            )

    def _trim(
        self, connection: sqlite3.Connection, rules: retention.Rules, up_to: int
    ) -> retention.Dropped | None:
        dropped = retention.drop(connection, self.sequences, rules, self.now_ms(), up_to)
        if dropped is not None:
            # The next start works the heads out from the blocks beyond this position.
            if dropped.last_position > log_store.heads_position(connection):
                self._write_heads()
            for position in self.damaged.dropped(dropped.last_position, self.sequences):
                damage.remove(connection, position)
        retention.shrink(connection)
        return dropped

    def _repair(
        self,
        connection: sqlite3.Connection,
        position: int,
        runs: Sequence[Run],
        events: Sequence[RelayedEvent],
    ) -> Block | str:
        found = self.damaged.at(position)
        if found is None:
            return f"nothing is damaged at position {position}"
        rebuilt = repair.rebuild(describe(connection, found, self.streams), runs, events)
        if isinstance(rebuilt, str):
            return rebuilt
        connection.execute("DELETE FROM blocks WHERE position = ?", (position,))
        log_store.insert_block(connection, rebuilt.block, rebuilt.runs_json)
        damage.remove(connection, position)
        self.damaged.forget(position)
        return rebuilt.block

    def _keep_damage(self, found: DamagedRange) -> None:
        # In whichever thread read it; an event loop that has ended has no use for it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.later, lambda db: damage.save(db, found))

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


def _wait(batch: Batch, waiting: _Waiting) -> None:
    """Let a batch wait for the end of the commit, joined with what waits of the same stream."""
    batches = waiting.setdefault(batch.stream.id, [])
    if batches and _are_alike(batches[-1], batch):
        batches[-1].events.extend(batch.events)
        batches[-1].claimed = batch.claimed
    else:
        batches.append(batch)


def _waits_unclaimed(stream: Stream, waiting: _Waiting) -> bool:
    """Whether a digest of what waits of the stream is not known yet."""
    batches = waiting.get(stream.id, [])
    return bool(batches) and batches[-1].claimed is None


def _extended(claim: Claim, events: Sequence[RelayedEvent]) -> int:
    """The digest of another gateway's sequence with these events, the first of those that it sent."""
    return extend_digest(claim.before, codec.encode_batch(events)[1:-1]) if events else claim.before


def _are_alike(before: Batch, batch: Batch) -> bool:
    return (
        before.replayed_through == batch.replayed_through
        and abs(batch.received_ms - before.received_ms) <= _SAME_MOMENT_MS
    )


def _names(stream: Stream) -> dict[str, object]:
    return {"project": stream.project, "sled_id": stream.sled_id, "epoch": stream.epoch}


def _cost(job: Append | _Call) -> int:
    """What a job adds to a commit, in events; those that are large count for more."""
    if isinstance(job, _Call):
        return 1
    return max(job.count, job.size * limits.COMMIT_EVENTS_MAX // limits.COMMIT_BYTES_MAX)
