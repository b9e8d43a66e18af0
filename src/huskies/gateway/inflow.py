"""What the sleds of one project push, on its way into the log."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from huskies import limits
from huskies.events.model import RelayedEvent
from huskies.gateway.fairness import Fairness
from huskies.gateway.store.appends import Append, AppendOwner
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log


class ProjectInflow:
    """What all connections of a project have on the way: bounded, and the log's turn goes round among them.

    Where others go first, the log gets it in short pieces, the next some time after the one before is
    committed, so that few commits of others have to wait for it, and none for much.
    """

    def __init__(self, log: Log, fairness: Fairness, project: str) -> None:
        self.log = log
        self._fairness = fairness
        self._project = project
        # Of all that is taken and not committed.
        self.bytes = 0
        # Events that the log has.
        self.in_log = 0
        self._submitted_at = 0.0
        self._resting = False
        self._waiting: deque[Inflow] = deque()
        self._settled: asyncio.Future[None] | None = None

    @property
    def gives_way(self) -> bool:
        """Whether others go first now."""
        return self._fairness.gives_way(self._project)

    @property
    def may_submit(self) -> bool:
        """Whether the log may have something now."""
        return not self.gives_way or not (self.in_log or self._resting)

    def wait(self, inflow: Inflow) -> None:
        """It has something for the log, when that may have something."""
        self._waiting.append(inflow)

    def settle(self, events: int, size: int) -> None:
        """So much was committed or refused."""
        self.in_log -= events
        self.bytes -= size
        if not self.in_log and self._waiting and self.gives_way:
            self._rest()
        self._feed()
        if self._settled is not None:
            if not self._settled.done():
                self._settled.set_result(None)
            self._settled = None

    def submit(self, job: Append) -> None:
        """Hand this to the log."""
        self.in_log += job.count
        self._submitted_at = time.perf_counter()
        self.log.append(job)

    def _rest(self) -> None:
        now = time.perf_counter()
        self._resting = True
        pause = self._fairness.rest(self._project, now - self._submitted_at, now)
        asyncio.get_running_loop().call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        self._feed()

    def _feed(self) -> None:
        while self._waiting and self.may_submit:
            self._waiting.popleft().feed()

    async def settled(self) -> None:
        """Wait until something was settled."""
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._settled)


class Inflow:
    """Joins what comes from one connection in one turn of the event loop, and hands it to the log.

    `owner` is told what became of them, `received` how many came.
    """

    def __init__(
        self,
        project: ProjectInflow,
        owner: AppendOwner,
        *,
        now_ms: Callable[[], int],
        received: Callable[[int], None],
    ) -> None:
        self._project = project
        self._owner = owner
        self._now_ms = now_ms
        self._received = received
        # Events that are taken and not committed.
        self._in_flight = 0
        self._joined: Append | None = None
        self._waiting: deque[Append] = deque()
        # Events and bytes of each job that the log has.
        self._submitted: deque[tuple[int, int]] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether nothing came in this turn of the event loop yet."""
        return self._joined is None

    @property
    def is_crowded(self) -> bool:
        """Whether nothing more is to be read from the connection now."""
        return self._is_full or self._project.log.crowded

    @property
    def _is_full(self) -> bool:
        return self._in_flight >= limits.MAX_IN_FLIGHT or self._project.bytes >= limits.IN_FLIGHT_BYTES_MAX

    async def room(self, is_closing: Callable[[], bool]) -> None:
        """Wait while more is in flight than may be: not reading is how a sled is slowed down."""
        while self._is_full and not is_closing():
            await self._project.settled()
        await self._project.log.room()

    def append(
        self,
        stream: Stream,
        first_seq: int,
        events: list[RelayedEvent],
        size: int,
        replayed: int,
    ) -> None:
        """Take a batch; `first_seq` 0: whatever comes next."""
        count = len(events)
        self._in_flight += count
        self._project.bytes += size
        joined = self._joined
        if joined is not None:
            if joined.count + count <= limits.BATCH_EVENTS_MAX and first_seq in (
                0,
                joined.first_seq + joined.count,
            ):
                joined.events += events
                joined.count += count
                joined.size += size
                joined.batches += 1
                return
            self._end_turn()
        self._joined = Append(stream, first_seq, events, self._now_ms(), replayed, self._owner, count, size)
        asyncio.get_running_loop().call_soon(self._end_turn)

    def hand_over(self) -> None:
        """Hand everything that was taken to the log now, ahead of what it is asked next."""
        self._end_turn()
        while self._waiting:
            self._submit(self._waiting.popleft())

    def settle(self, events: int) -> None:
        """So many events were committed or refused."""
        self._in_flight -= events
        size, left = 0, events
        while left:
            count, job_size = self._submitted.popleft()
            left -= count
            size += job_size
        self._project.settle(events, size)

    def feed(self) -> None:
        """Hand over what the log may have now."""
        while self._waiting:
            if not self._project.may_submit:
                self._project.wait(self)
                return
            if self._project.gives_way:
                self._submit(self._next_piece())
            else:
                self._submit(self._waiting.popleft())

    def _end_turn(self) -> None:
        if self._joined is None:
            return
        self._received(self._joined.count)
        self._waiting.append(self._joined)
        self._joined = None
        if len(self._waiting) == 1:
            # Else it waits for its turn already.
            self.feed()

    def _next_piece(self) -> Append:
        whole = self._waiting.popleft()
        most = min(limits.PIECE_EVENTS, max(1, limits.PIECE_BYTES * whole.count // max(1, whole.size)))
        if whole.count <= most:
            return whole
        piece, rest = _cut(whole, most)
        self._waiting.appendleft(rest)
        return piece

    def _submit(self, job: Append) -> None:
        self._submitted.append((job.count, job.size))
        self._project.submit(job)


def _cut(whole: Append, count: int) -> tuple[Append, Append]:
    """The first `count` events of a job, and the rest, with which its batches are settled."""
    size = whole.size * count // whole.count
    common = (whole.received_ms, whole.replayed_through, whole.owner)
    rest_seq = whole.first_seq + count if whole.first_seq else 0
    return (
        Append(whole.stream, whole.first_seq, whole.events[:count], *common, count, size, batches=0),
        Append(
            whole.stream,
            rest_seq,
            whole.events[count:],
            *common,
            whole.count - count,
            whole.size - size,
            whole.batches,
        ),
    )
