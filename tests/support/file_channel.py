"""A channel that keeps its messages in a file, as durable as the ledger is."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from huskies.notify.channel import Outgoing, Receipt


class FileChannel:
    """Appends each message to a file, durably, and finds it there; `before` and `after` may fail."""

    def __init__(self, name: str, directory: Path, *, can_look: bool = False) -> None:
        self.name = name
        self.can_look = can_look
        self._path = directory / f"{name}.jsonl"
        self.before: Callable[[Outgoing], Awaitable[None]] | None = None
        self.after: Callable[[Outgoing], Awaitable[None]] | None = None
        self.looked = 0

    async def send(self, message: Outgoing) -> Receipt:
        if self.before is not None:
            await self.before(message)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(message) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if self.after is not None:
            await self.after(message)
        return Receipt(f"{self.name}-{len(self.sent())}")

    async def look_for(self, message: Outgoing) -> Receipt | None:
        self.looked += 1
        for number, sent in enumerate(self.sent(), 1):
            if sent["delivery_id"] == message.delivery_id:
                return Receipt(f"{self.name}-{number}")
        return None

    async def close(self) -> None:
        pass

    def sent(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]
