"""One raw connection that keeps many requests in flight, for servers with protocols of lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from bench.counting import MarkerCount


@dataclass(frozen=True, kw_only=True)
class Requests:
    """How to ask a server for one thing, and how its answers look."""

    make: Callable[[int], bytes]
    answer: bytes
    error: bytes
    window: int = 5_000
    at_once: int = 250


class Pipeline(asyncio.Protocol):
    """Sends `count` requests, at most `window` of them unanswered."""

    def __init__(self, greeting: bytes, requests: Requests, count: int) -> None:
        self._greeting = greeting
        self._requests = requests
        self._count = count
        self._sent = 0
        self._paused = False
        self._answers = MarkerCount(requests.answer)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # At once: whatever the server says first makes more requests follow.
        self._transport.write(self._greeting)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.pump()

    def pump(self) -> None:
        requests = self._requests
        limit = min(self._count, self._answers.count + requests.window)
        while self._sent < limit and not self._paused:
            upto = min(limit, self._sent + requests.at_once)
            self._transport.write(b"".join([requests.make(number) for number in range(self._sent, upto)]))
            self._sent = upto

    def data_received(self, data: bytes) -> None:
        if self._requests.error in data and not self.done.done():
            self.done.set_exception(ConnectionError(data[:300].decode(errors="replace")))
        self._answers.feed(data)
        if self._answers.count >= self._count and not self.done.done():
            self.done.set_result(None)
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the server closed the connection: {exc}"))


async def pipelined(port: int, greeting: bytes, requests: Requests, count: int) -> float:
    """Answers a second."""
    transport, pipeline = await asyncio.get_running_loop().create_connection(
        lambda: Pipeline(greeting, requests, count), "127.0.0.1", port
    )
    started = time.perf_counter()
    pipeline.pump()
    await pipeline.done
    ended = time.perf_counter()
    transport.close()
    return count / (ended - started)
