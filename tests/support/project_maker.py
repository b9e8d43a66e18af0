"""A gateway's side of `/gateway/projects` as the bot sees it: makes nothing, and answers as it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class ProjectMaker:
    """`lines` are what the making of a project streams, each after `go` was set once more."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.names = ["web-shop"]
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.breaks_off = False
        self.started = asyncio.Event()
        self.go = asyncio.Semaphore(0)

    async def _projects(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"projects": [{"name": name, "connected": True} for name in self.names]})

    async def _make(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        if self.refusal is not None:
            status, body = self.refusal
            return web.json_response(body, status=status)
        assert request.headers["Accept"] == "application/x-ndjson"
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        self.started.set()
        for line in self.lines:
            await self.go.acquire()
            await response.write(json.dumps(line).encode() + b"\n")
        if self.breaks_off:
            assert request.transport is not None
            request.transport.abort()
        return response

    async def _remove(self, request: web.Request) -> web.Response:
        self.removed.append(request.match_info["name"])
        return web.json_response({"removed": ["container huskies-web-shop"]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ProjectMaker]:
        app = web.Application()
        app.add_routes(
            [
                web.get("/gateway/projects", self._projects),
                web.post("/gateway/projects", self._make),
                web.delete("/gateway/projects/{name}", self._remove),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
