"""A real gateway in a process of its own, to which a test pushes as an older sled does."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from tests.support.ports import reserved

if TYPE_CHECKING:
    from tests.cli.conftest import Process, Start

EVENT_MS = 1_700_000_000_000


def blocked(number: int, timestamp_ms: int = EVENT_MS) -> dict[str, Any]:
    return {
        "type": "story_blocked",
        "story_id": f"{number}_story_x",
        "story_name": f"Story {number}",
        "reason": f"reason {number}",
        "timestamp_ms": timestamp_ms,
    }


class Gateway:
    """A gateway process that keeps its port and its data when it is started again."""

    def __init__(self, start: Start, data_dir: Path) -> None:
        self._start = start
        self._data_dir = data_dir
        # Nobody else is to get the port while no process listens.
        kept = ExitStack()
        self._port = kept.enter_context(reserved())
        self.process = self._started()
        self.process.kept.push(kept)
        self.url = self.process.line("gateway").split()[1]

    def _started(self) -> Process:
        return self._start("gateway", "--port", str(self._port), "--data-dir", self._data_dir)

    def start_again(self) -> None:
        self.process = self._started()
        self.process.line("gateway")

    def push(self, *events: dict[str, Any], project: str = "web-shop") -> None:
        asyncio.run(self._push(events, project))

    async def _push(self, events: tuple[dict[str, Any], ...], project: str) -> None:
        async with aiohttp.ClientSession(self.url) as session:
            async with session.post("/gateway/tokens") as answer:
                token = (await answer.json())["token"]
            push = f"/gateway/events/push?token={token}&project={project}"
            async with session.ws_connect(push) as socket:
                for event in events:
                    await socket.send_str(json.dumps(event))
                # Closed by both sides, so everything before it was taken in.
                await socket.close()
