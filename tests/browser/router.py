"""A router between a page and its gateway, which can forget a connection as routers do: without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit

_STREAM = b"text/event-stream"


class Router:
    """Passes on what comes; `url` is where the gateway is reached through it."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self._lines: set[_Line] = set()
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def before(cls, upstream: str) -> AsyncIterator[Self]:
        router = cls(upstream)
        server = await asyncio.start_server(router._serve, "127.0.0.1", 0)
        router.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield router
        finally:
            server.close()
            for line in list(router._lines):
                line.close()

    def forget(self) -> int:
        """Streams stay open, and nothing comes through them any more; how many. Other connections end."""
        streams = [line for line in self._lines if line.is_stream]
        for line in list(self._lines):
            line.forget()
        return len(streams)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(*self._upstream)
        line = _Line(writer, upstream[1])
        self._lines.add(line)
        await asyncio.gather(line.pass_on(reader, upstream[1]), line.pass_on(upstream[0], writer))
        self._lines.discard(line)


class _Line:
    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self._ends = ends
        self._forgotten = False
        self.is_stream = False

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.is_stream = self.is_stream or _STREAM in data
                if not self._forgotten:
                    writer.write(data)
                    await writer.drain()
        if not self._forgotten:
            self.close()

    def forget(self) -> None:
        self._forgotten = self.is_stream
        if not self.is_stream:
            self.close()

    def close(self) -> None:
        for end in self._ends:
            end.close()
