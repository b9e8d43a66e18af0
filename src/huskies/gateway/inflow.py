"""What one connection pushes, on its way into the log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from huskies import limits
from huskies.events.model import RelayedEvent
from huskies.gateway.store.appends import Append, AppendOwner
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log


class Inflow:
    """Joins what comes in one turn of the event loop, and hands it to the log.

    `gives_way` says whether others go first now: then the log gets it in short pieces, the next when one
    before is committed, so that no commit of others has to wait for much of it. `received` is told how many
    events came.
    """

    def __init__(self, log: Log, *, gives_way: Callable[[], bool], received: Callable[[int], None]) -> None:
        self._log = log
        self._gives_way = gives_way
        self._received = received
        # Events that are taken and not committed, and those of them that the log has.
        self._in_flight = 0
        self._in_log = 0
        self._joined: Append | None = None
        self._waiting: deque[Append] = deque()
        self._waiting_bytes = 0
        self._settled: asyncio.Future[None] | None = None

    @property
    def is_crowded(self) -> bool:
        """Whether nothing more is to be read from the connection now."""
        return self._is_full or self._log.crowded

    @property
    def _is_full(self) -> bool:
        # What the log has is bounded there.
        return self._in_flight >= limits.MAX_IN_FLIGHT or self._waiting_bytes >= limits.WAITING_BYTES_MAX

    async def room(self, is_closing: Callable[[], bool]) -> None:
        """Wait while more is in flight than may be: not reading is how a sled is slowed down."""
        while self._is_full and not is_closing():
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled
        await self._log.room()

    def append(
        self,
        stream: Stream,
        first_seq: int,
        events: list[RelayedEvent],
        *,
        size: int,
        replayed: int,
        owner: AppendOwner,
        now_ms: int,
    ) -> None:
        """Take a batch; `first_seq` 0: whatever comes next."""
        count = len(events)
        self._in_flight += count
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
        self._joined = Append(stream, first_seq, events, now_ms, replayed, owner, count, size)
        asyncio.get_running_loop().call_soon(self._end_turn)

    def hand_over(self) -> None:
        """Hand everything that was taken to the log now, ahead of what it is asked next."""
        self._end_turn()
        while self._waiting:
            self._submit(self._next_whole())

    def settle(self, events: int) -> None:
        """So many events were committed or refused."""
        self._in_flight -= events
        self._in_log -= events
        self._feed()
        if self._settled is not None:
            if not self._settled.done():
                self._settled.set_result(None)
            self._settled = None

    def _end_turn(self) -> None:
        if self._joined is not None:
            self._received(self._joined.count)
            self._wait(self._joined, self._waiting.append)
            self._joined = None
            self._feed()

    def _feed(self) -> None:
        """Hand over what the log may have now."""
        while self._waiting:
            if not self._gives_way():
                self._submit(self._next_whole())
            elif not self._in_log:
                self._submit(self._next_piece())
            else:
                return

    def _next_piece(self) -> Append:
        whole = self._next_whole()
        most = min(limits.PIECE_EVENTS, max(1, limits.PIECE_BYTES * whole.count // max(1, whole.size)))
        if whole.count <= most:
            return whole
        piece, rest = _cut(whole, most)
        self._wait(rest, self._waiting.appendleft)
        return piece

    def _next_whole(self) -> Append:
        job = self._waiting.popleft()
        self._waiting_bytes -= job.size
        return job

    def _wait(self, job: Append, put: Callable[[Append], None]) -> None:
        self._waiting_bytes += job.size
        put(job)

    def _submit(self, job: Append) -> None:
        self._in_log += job.count
        self._log.append(job)


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
