"""Connections that each send a message when the one before was answered."""

from __future__ import annotations

import asyncio
import time
from typing import cast
from urllib.parse import urlsplit

from bench.driver import address


class Lockstep(asyncio.Protocol):
    def __init__(self, message: bytes, rounds: int) -> None:
        self._message = message
        self._left = rounds
        self._missing = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def go_on(self) -> None:
        if self._left == 0:
            self._transport.close()
            self.done.set_result(None)
            return
        self._left -= 1
        self._missing = len(self._message)
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing == 0:
            self.go_on()

    @staticmethod
    async def all(url: str, message: bytes, connections: int, rounds: int) -> float:
        """Answers a second over all connections."""
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        protocols = []
        for _ in range(connections):
            _, protocol = await loop.create_connection(lambda: Lockstep(message, rounds), *address(parts))
            protocols.append(protocol)
        started = time.perf_counter()
        for protocol in protocols:
            protocol.go_on()
        await asyncio.gather(*(protocol.done for protocol in protocols))
        return connections * rounds / (time.perf_counter() - started)
