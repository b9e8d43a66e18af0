"""Stands between a bot and its homeserver, and loses requests, or replies to what the homeserver has done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

_HOP_BY_HOP: Final = {"connection", "content-encoding", "content-length", "host", "transfer-encoding"}


class LossyProxy:
    """`loses` says of which requests (method and path) the reply is lost, `drops` which do not get there.

    What was lost is in `lost`. `refuses`: the homeserver is away.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.url = ""
        self.loses: Callable[[str, str], bool] = lambda _method, _path: False
        self.drops: Callable[[str, str], bool] = lambda _method, _path: False
        self.lost: list[str] = []
        self.refuses = False
        self._open: set[asyncio.Transport] = set()
        self._changed = asyncio.Condition()
        self._session: aiohttp.ClientSession | None = None

    def cut_all(self) -> None:
        """End every connection."""
        for transport in self._open:
            transport.abort()

    async def until_lost(self, count: int = 1) -> None:
        """Wait until so many replies were lost."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: len(self.lost) >= count)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        assert self._session is not None
        if request.transport is not None:
            self._open.add(request.transport)
        if self.drops(request.method, request.path):
            return await self._lose(request)
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        target = URL(self._target + request.raw_path, encoded=True)
        try:
            if self.refuses:
                raise aiohttp.ClientConnectionError
            async with self._session.request(request.method, target, data=body, headers=headers) as answer:
                answered = await answer.read()
        except aiohttp.ClientError:
            return self._cut(request)
        if self.loses(request.method, request.path):
            return await self._lose(request)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        return web.Response(status=answer.status, body=answered, headers=kept)

    async def _lose(self, request: web.BaseRequest) -> web.Response:
        async with self._changed:
            self.lost.append(request.path)
            self._changed.notify_all()
        return self._cut(request)

    @staticmethod
    def _cut(request: web.BaseRequest) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LossyProxy]:
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        async with aiohttp.ClientSession() as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()
