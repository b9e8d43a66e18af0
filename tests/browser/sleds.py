"""What browser tests let a sled do: one connection for each project, events with a seq of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
from tests.gateway.conftest import until
from tests.support.relay_client import RelayClient, connect, new_epoch, new_key


def moved(
    story_id: str, before: str, after: str, *, name: str = "", timestamp_ms: int = 1_700_000_000_000
) -> dict[str, Any]:
    return {
        "type": "stage_transition", "story_id": story_id, "story_name": name,
        "from_stage": before, "to_stage": after, "timestamp_ms": timestamp_ms,
    }  # fmt: skip


def held(
    story_id: str,
    reason: str,
    *,
    kind: str = "story_blocked",
    name: str = "",
    timestamp_ms: int = 1_700_000_000_000,
) -> dict[str, Any]:
    return {
        "type": kind, "story_id": story_id, "story_name": name, "reason": reason,
        "timestamp_ms": timestamp_ms,
    }  # fmt: skip


class Sled:
    """A connected sled; `replays`: how many of its first events it recorded while it was cut off."""

    def __init__(self, client: RelayClient) -> None:
        self._client = client
        self._seq = 0
        self._acked = 0

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, project: str, replays: int = 0) -> AsyncIterator[Self]:
        async with await connect(url, project, new_key(), new_epoch(), replays) as client:
            sled = cls(client)
            listening = asyncio.create_task(sled._listen())
            try:
                yield sled
            finally:
                listening.cancel()

    async def say(self, *events: dict[str, Any]) -> None:
        """These events are in the gateway's log when this returns."""
        for start in range(0, len(events), 1_000):
            part = events[start : start + 1_000]
            await self._client.send_events(self._seq + 1, *part)
            self._seq += len(part)
        await until(lambda: self._acked >= self._seq)

    async def stands(self, *stories: dict[str, Any]) -> None:
        """Say where all stories stand."""
        await self._client.send_snapshot(self._seq, *stories)

    async def _listen(self) -> None:
        # Pings are answered while someone reads.
        async for message in self._client.socket:
            frame = msgspec.json.decode(message.data)
            if frame["type"] == "ack":
                self._acked = frame["seq"]
