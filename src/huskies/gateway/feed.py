"""The feed: recent blocks in memory, and readers who wait for what comes next.

Every reader has its own position and takes what is beyond it, from here while it keeps up and from the log
otherwise. So a slow reader costs the others nothing, and between history and live there is no seam to lose
an event in.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress

from huskies import limits
from huskies.gateway.store.blocks import Block, Stream
from huskies.gateway.store.cursors import Cursor


class Feed:
    """The live end of the log; `position` and `chain` say where the log ends. For the event loop alone."""

    def __init__(self, log_id: str, position: int, chain: int) -> None:
        self._log_id = log_id
        self._position = position
        self._chain = chain
        self._blocks: list[Block] = []
        self._starts: list[int] = []
        self._events = 0
        self._bytes = 0
        self._waiting: dict[str | None, dict[_Waiter, None]] = {}
        self.closed = False

    @property
    def head(self) -> Cursor:
        """The newest event."""
        return Cursor(self._log_id, self._position, self._chain)

    def publish(self, blocks: Sequence[Block], streams: Sequence[Stream | None]) -> None:
        """The log now ends with these blocks: whoever waits for one of their projects is woken."""
        if not blocks:
            return
        self._blocks.extend(blocks)
        self._starts.extend(block.position for block in blocks)
        self._events += sum(block.count for block in blocks)
        self._bytes += sum(len(block.events_json) for block in blocks)
        self._position, self._chain = blocks[-1].last_position, blocks[-1].chain
        self._trim()
        if self._waiting:
            self._wake(blocks, streams)

    def recent(self, position: int) -> list[Block] | None:
        """The blocks with events beyond `position`; None where that reaches back further than memory does."""
        if position >= self._position:
            return []
        if not self._starts or position + 1 < self._starts[0]:
            return None
        return self._blocks[bisect_right(self._starts, position + 1) - 1 :]

    async def wait(self, project: str | None, seconds: float) -> int:
        """Wait for an event of the project (None: of any); the position that nothing wanted lies before.

        A reader that has seen everything may go on from the position returned. After `seconds`, or
        when the feed closes, it is the head's.
        """
        waiters = self._waiting.setdefault(project, {})
        waiter = _Waiter()
        waiters[waiter] = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter.woken.wait()
        finally:
            waiters.pop(waiter, None)
            if not waiters:
                self._waiting.pop(project, None)
        # An event may have come in the very turn in which the time ran out.
        return self._position if waiter.position is None else waiter.position

    def close(self) -> None:
        """Nothing more will come: every reader is woken, and finds `closed` set."""
        self.closed = True
        for waiters in self._waiting.values():
            _release(waiters, self._position)

    def _wake(self, blocks: Sequence[Block], streams: Sequence[Stream | None]) -> None:
        touched = {
            stream.project: None
            for block in blocks
            for run in block.runs
            if (stream := streams[run.stream_id]) is not None
        }
        before = blocks[0].position - 1
        for project in (None, *touched):
            _release(self._waiting.get(project, {}), before)

    def _trim(self) -> None:
        drop = 0
        # The newest block always stays, however large.
        while drop < len(self._blocks) - 1 and (
            self._events > limits.RECENT_EVENTS_MAX or self._bytes > limits.RECENT_BYTES_MAX
        ):
            self._events -= self._blocks[drop].count
            self._bytes -= len(self._blocks[drop].events_json)
            drop += 1
        if drop:
            del self._blocks[:drop]
            del self._starts[:drop]


class _Waiter:
    """A reader that waits; `position` is set with the first event that it waits for."""

    __slots__ = ("position", "woken")

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.position: int | None = None


def _release(waiters: Iterable[_Waiter], position: int) -> None:
    for waiter in waiters:
        if waiter.position is None:
            waiter.position = position
        waiter.woken.set()
