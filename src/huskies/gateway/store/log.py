"""The log: appends batches durably, in one thread, and says where everything stands.

An append is acknowledged to its owner only after the commit that holds it was fsynced.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from huskies import limits
from huskies.errors import StoreError
from huskies.events.model import RelayedEvent
from huskies.gateway.store import repair, retention
from huskies.gateway.store.appends import Append, Settled, tell, tell_refused
from huskies.gateway.store.blocks import Block, Run, Stream
from huskies.gateway.store.damage import Damage, DamagedRange
from huskies.gateway.store.log_writer import Known, LogWriter, Standing
from huskies.gateway.store.stream_reader import HeldRun, Lookup
from huskies.gateway.store.streams import Forgotten
from huskies.protocol import peer_wire
from huskies.protocol.vectors import Origin, VersionVector
from huskies.protocol.wire import PreviousEpoch
from huskies.storage.commits import Commits, CommitThread, StartCommits

_log = logging.getLogger("huskies.log")
_T = TypeVar("_T")


class _Call(msgspec.Struct):
    """Something else to do in the writer's transaction; `done` gets its result after the commit."""

    run: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any] | None


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
        self._loop = asyncio.get_running_loop()
        self._is_open = False
        self.damaged = Damage(self._keep_damage)
        self._writer = LogWriter(directory, lookup=lookup, damaged=self.damaged, cut=self._cut, now_ms=now_ms)
        self.path = self._writer.path
        self.log_id = self._writer.log_id
        self.sequences = self._writer.sequences
        self.streams = self.sequences.rows
        self._published = published
        self._failed = failed
        self._failure: StoreError | None = None
        self._calls: set[asyncio.Future[Any]] = set()
        # Called in the event loop with each damaged block that was repaired, and with each number of a
        # sequence under which another branch lost.
        self.on_repaired: list[Callable[[Block], None]] = []
        self.on_cut: list[Callable[[Stream], None]] = []
        self._fresh: deque[list[Block]] = deque()
        self.pending_events = 0
        self.pending_bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._thread: Commits[Append | _Call] = commits(
            name="huskies-log",
            commit=self._commit,
            deliver=self._deliver,
            failed=self._fail,
            cost=_cost,
            max_cost=limits.COMMIT_EVENTS_MAX,
        )
        self._is_open = True

    def now_ms(self) -> int:
        """The wall clock that retention goes by."""
        return self._writer.now_ms()

    @property
    def position(self) -> int:
        """Where the log ends, what is being committed included."""
        return self._writer.appender.position

    @property
    def chain(self) -> int:
        """The log's checksum there."""
        return self._writer.appender.chain

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
        """Do something in the writer's transaction, after everything that was handed over before.

        Raises `StoreError` where the log cannot be written any more.
        """
        if self._failure is not None:
            raise self._failure
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._calls.add(done)
        done.add_done_callback(self._calls.discard)
        self._thread.submit(_Call(run, done))
        return await done

    async def admit(
        self, sled_id: str, epoch: str, project: str, previous: Sequence[PreviousEpoch] = ()
    ) -> tuple[Stream, int] | str:
        """The stream of this identity and the newest seq it holds, with all earlier appends settled.

        It is registered where it is new, and what the sled says of its older epochs is noted, before this
        returns. A sled of another project gets that one's name instead, and nothing is noted.
        """
        return await self.call(lambda _: self._writer.admit(sled_id, epoch, project, previous))

    def heads(self) -> VersionVector:
        """How much of each sequence the log holds."""
        return self.sequences.heads()

    async def standing(self) -> list[Standing]:
        """How far each sequence is committed, and its digest there."""
        return await self.call(lambda _: self._writer.standing())

    async def compare(self, sequences: Sequence[peer_wire.Sequence]) -> list[Known]:
        """Register what another gateway names, and say where this log agrees with it so far."""
        return await self.call(lambda _: [self._writer.compare(sequence) for sequence in sequences])

    async def adopt_base(self, stream: Stream, seq: int, digest: int) -> None:
        """Go on with a sequence beyond `seq`: another gateway no longer retains what comes before."""
        await self.call(lambda _: self._writer.adopt_base(stream, seq, digest))

    async def held(self, origin: Origin, first_seq: int, last_seq: int) -> dict[int, RelayedEvent]:
        """What the log holds of these, by seq."""
        # It reads whole runs.
        found = await self.call(lambda _: self._writer.reader.events(origin, first_seq, last_seq))
        return {seq: event for seq, event in found.items() if first_seq <= seq <= last_seq}

    async def held_runs(self, origin: Origin, first_seq: int, last_seq: int) -> list[HeldRun]:
        """The same in whole runs, of which some may lie outside, or come twice."""
        return await self.call(lambda _: self._writer.reader.runs(origin, first_seq, last_seq))

    async def digest(self, origin: Origin, seq: int) -> int | None:
        """The digest of a sequence up to `seq`; None where the log does not retain that."""
        return await self.call(lambda _: self._writer.reader.digest(origin, seq))

    async def trim(self, rules: retention.Rules, up_to: int) -> retention.Dropped | None:
        """Drop some of the oldest blocks that are retained no more, none beyond position `up_to`."""
        return await self.call(lambda _: self._writer.trim(rules, up_to))

    async def forget(self, project: str) -> Forgotten:
        """Show nothing more of what a project's sleds have said: it stays in its blocks, hidden."""
        return await self.call(lambda _: self._writer.forget(project))

    async def damaged_block(self, position: int) -> repair.Damaged | None:
        """What is known of the damaged block at `position`; None where none is."""
        return await self.call(lambda _: self._writer.damaged_block(position))

    async def repair(self, position: int, runs: Sequence[Run], events: Sequence[RelayedEvent]) -> str | None:
        """Put a damaged block back, if it held exactly these; else say why not, and change nothing."""
        result = await self.call(lambda _: self._writer.repair(position, runs, events))
        if isinstance(result, str):
            return result
        self._repaired(result)
        return None

    async def repaired(self) -> list[int]:
        """The positions of blocks that are retained and were damaged once."""
        query = "SELECT position FROM repaired ORDER BY position"
        return await self.call(lambda db: [row[0] for row in db.execute(query)])

    async def stop(self) -> None:
        """Commit what was handed over, checkpoint and close."""
        await self._thread.stop()
        self._writer.close()

    # --- in the writer's thread --------------------------------------------------------------------

    def _commit(self, jobs: Sequence[Append | _Call]) -> list[Any]:
        writer = self._writer
        results: list[Any] = []
        with writer.transaction() as connection:
            for job in jobs:
                if isinstance(job, _Call):
                    writer.appender.flush()
                    results.append(job.run(connection))
                else:
                    results.append(writer.appender.append(job))
        self._fresh.append(writer.appender.take_blocks())
        return results

    def _keep_damage(self, found: DamagedRange) -> None:
        # In whichever thread read it; an event loop that has ended has no use for it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._examine, found)

    def _cut(self, stream: Stream) -> None:
        self._loop.call_soon_threadsafe(lambda: [listener(stream) for listener in self.on_cut])

    # --- back in the event loop --------------------------------------------------------------------

    def _examine(self, found: DamagedRange) -> None:
        """What can be put back from the log itself is; the rest is kept for the next start."""
        if not self._is_open:
            # It was found at a start that was refused.
            return
        done: asyncio.Future[Block | None] = self._loop.create_future()
        done.add_done_callback(self._examined)
        self._calls.add(done)
        self._thread.submit(_Call(lambda _: self._writer.examine(found), done))

    def _examined(self, done: asyncio.Future[Block | None]) -> None:
        self._calls.discard(done)
        # Where the log failed, everyone is told elsewhere.
        if not done.cancelled() and done.exception() is None and (recovered := done.result()) is not None:
            self._repaired(recovered)

    def _repaired(self, block: Block) -> None:
        # Only now: readers that began before the commit still see it damaged.
        self.damaged.forget(block.position)
        said = {"position": block.position, "events": block.count}
        _log.warning("a damaged block was repaired", extra=said)
        for listener in self.on_repaired:
            listener(block)

    def _fail(self, error: StoreError) -> None:
        self._failure = error
        for waiting in list(self._calls):
            if not waiting.done():
                waiting.set_exception(error)
        self._failed(error)

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
