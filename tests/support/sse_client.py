"""A reader of `GET /gateway/events` as Server-Sent Events, block by block."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

PATIENCE = 10.0


class Block(NamedTuple):
    """One block; `data` is decoded JSON, and what the block does not carry is None."""

    id: str | None
    event: str | None
    data: Any


class EventReader:
    """One open stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id: str | None = None

    async def next_event(self) -> Block:
        """The next block that is more than an id."""
        while (block := await self.next_block()) is not None and block.event is None:
            pass
        assert block is not None
        return block

    async def next_block(self) -> Block | None:
        """The next block; None where the stream has ended."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    self.last_id = fields.get("id", self.last_id)
                    data = json.loads(fields["data"]) if "data" in fields else None
                    return Block(fields.get("id"), fields.get("event"), data)
                name, _, value = line.rstrip("\n").partition(": ")
                assert name not in fields
                fields[name] = value
        return None

    async def take(self, count: int) -> list[dict[str, Any]]:
        """The next `count` events; other blocks may only be those that carry an id alone."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                block = await self.next_block()
                assert block is not None, "the stream ended"
                if block.event is None:
                    assert block.data is None
                    continue
                assert block.event == "status", block
                assert block.data["cursor"] == block.id
                found.append(block.data)
        return found


@asynccontextmanager
async def open_stream(
    url: str,
    *,
    last_event_id: str | None = None,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    **query: str,
) -> AsyncIterator[EventReader]:
    headers = {"Accept": "text/event-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    async with (
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=1 << 20,
            connector=aiohttp.TCPConnector(ssl=tls or True),
        ) as session,
        session.get(f"{url}/gateway/events", params=query, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        yield EventReader(response)
