"""Connections on which nothing is asked: whoever opens one and says nothing, or little, does not keep it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from huskies import limits

_SWEEP: Final = 5.0


class Idle:
    """Ends connections that have no request under way for `REQUEST_LIMIT` seconds.

    So it is with one whose request does not get ready, byte by byte; WebSockets and streams are under way.
    """

    def __init__(self) -> None:
        self._under_way: Counter[RequestHandler] = Counter()
        self._since: dict[RequestHandler, float] = {}

    def add_to(self, app: web.Application, runner: web.AppRunner) -> None:
        """Watch what the runner, which is not set up yet, will serve of the application."""

        @web.middleware
        async def under_way(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            connection = request.protocol
            self._under_way[connection] += 1
            self._since.pop(connection, None)
            try:
                return await handler(request)
            finally:
                self._under_way[connection] -= 1
                if not self._under_way[connection]:
                    del self._under_way[connection]

        async def watching(_: web.Application) -> AsyncIterator[None]:
            task = asyncio.create_task(self._watch(runner))
            yield
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        app.middlewares.insert(0, under_way)
        app.cleanup_ctx.append(watching)

    async def _watch(self, runner: web.AppRunner) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            connections = [] if runner.server is None else runner.server.connections
            self._sweep(connections, asyncio.get_running_loop().time())

    def _sweep(self, connections: list[RequestHandler], now: float) -> None:
        idle = [connection for connection in connections if connection not in self._under_way]
        # Those that are gone are forgotten.
        self._since = {connection: self._since.get(connection, now) for connection in idle}
        for connection, since in self._since.items():
            if now - since >= limits.REQUEST_LIMIT and connection.transport is not None:
                connection.transport.abort()
