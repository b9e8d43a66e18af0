"""An SSE reader in the driver's own process, which notes when each event came."""

from __future__ import annotations

import asyncio
import time
from typing import cast
from urllib.parse import urlsplit

from bench.counting import OPENED, STATUS, MarkerCount
from bench.driver import address


class Arrivals(asyncio.Protocol):
    """Sends a request, and notes when each marker of what comes back arrived, once another has."""

    def __init__(self, request: bytes, marker: bytes, expected: int, opened_by: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._seen = MarkerCount(marker)
        self._expected = expected
        self._opening = MarkerCount(opened_by)
        self.times: list[float] = []
        self.opened: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.opened.done():
            if self._opening.feed(data):
                self.opened.set_result(None)
            return
        self.times.extend([now] * self._seen.feed(data))
        if len(self.times) >= self._expected and not self.finished.done():
            self.finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiter in (self.opened, self.finished):
            if not waiter.done():
                waiter.set_exception(ConnectionError(f"a reader's connection was closed: {exc}"))


async def follow(url: str, expected: int, project: str | None = None) -> Arrivals:
    """An open event stream that follows a project, or everything."""
    parts = urlsplit(url)
    query = "" if project is None else f"?project={project}"
    request = (
        f"GET /gateway/events{query} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    ).encode()
    _, reader = await asyncio.get_running_loop().create_connection(
        lambda: Arrivals(request, STATUS, expected, OPENED), *address(parts)
    )
    await reader.opened
    return reader
