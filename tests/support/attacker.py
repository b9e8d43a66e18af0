"""A web server of someone who means ill, and what it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class Attacker:
    """Serves an empty page at every path; `/redirect?to=URL` passes a request on as it is."""

    def __init__(self, port: int) -> None:
        self.port = port

    def origin(self, name: str) -> str:
        """Its origin under one of the names that are pointed at this machine."""
        return f"http://{name}:{self.port}"


async def _answer(request: web.Request) -> web.Response:
    if request.path == "/redirect":
        return web.Response(status=307, headers={"Location": request.query["to"]})
    return web.Response(
        text="<!doctype html><title>Win a husky</title><link rel=icon href=data:,><p>Win a husky!",
        content_type="text/html",
        headers={"Referrer-Policy": request.query.get("referrer", "unsafe-url")},
    )


@asynccontextmanager
async def attacking() -> AsyncIterator[Attacker]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Attacker(runner.addresses[0][1])
    finally:
        await runner.cleanup()
