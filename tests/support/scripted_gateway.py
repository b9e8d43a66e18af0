"""A server that says what a gateway rarely says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web
from tests.support.told import NOON


class Script:
    """Gives the scripted answers to who asks for the stream, one a connection, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[bytes | int] = []
        self.asked: list[str | None] = []
        self.tokens: list[str | None] = []
        self.board: Any = {"projects": [], "cursor": "a-0"}
        self.boards = 0
        self.board_waits = 0.0
        self.over = asyncio.Event()
        self.end = asyncio.Event()
        # Whether the stream stays open behind the last of the answers.
        self.stays = False
        self.stream: web.StreamResponse | None = None
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/gateway/events", self._events)
        app.router.add_get("/gateway/projects", self._projects)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Last-Event-ID"))
        self.tokens.append(request.headers.get("Authorization"))
        if not self.answers:
            self.over.set()
            await self.end.wait()
            return web.Response(status=503)
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return web.Response(status=answer, text="no")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(answer)
        if self.stays and not self.answers:
            self.stream = response
            await self.end.wait()
        return response

    async def _projects(self, _: web.Request) -> web.Response:
        self.boards += 1
        await asyncio.sleep(self.board_waits)
        return web.json_response(self.board)


def event(seq: int, kind: str = "story_blocked", **more: Any) -> bytes:
    """A block of the stream; `more` are fields of the event."""
    said = {
        "cursor": f"a-{seq}", "project": "shop", "sled_id": "aa", "epoch": "e1", "seq": seq,
        "received_ms": NOON, "replayed": False, "more": 1,
        "event": {"type": kind, "story_id": "1_x", "reason": "x", "timestamp_ms": NOON, **more},
    }  # fmt: skip
    return b"id: a-%d\nevent: status\ndata: %b\n\n" % (seq, json.dumps(said).encode())
