"""Speaking v1 to an older gateway: one event a frame, nothing acknowledged, each event sent at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp

from huskies import limits
from huskies.protocol import wire
from huskies.sled.outbox import Outbox
from huskies.sockets import clean, close_socket, first_of

# Marked as sent by one commit, and lost with the connection at worst.
_GROUP: Final = 16


class V1Session:
    """One session on an open WebSocket."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, outbox: Outbox, *, clock: Callable[[], float]
    ) -> None:
        self._socket = socket
        self._outbox = outbox
        self._clock = clock
        self._wake = asyncio.Event()
        self._leaving = False
        # None until the gateway has answered a ping: one that never does is not judged by its silence.
        self._ponged_at: float | None = None

    async def run(self) -> str:
        """Until the connection ends; says why. Raises `StoreError`."""
        try:
            with self._outbox.listening(self._wake.set):
                return clean(await first_of(self._read(), self._write(), self._ping()))
        finally:
            await close_socket(self._socket, wire.CLOSE_GOING_AWAY, "")

    def leave(self) -> None:
        """Send nothing more than what is marked as sent, and end."""
        self._leaving = True
        self._wake.set()

    async def _read(self) -> str:
        while True:
            message = await self._socket.receive()
            match message.type:
                case aiohttp.WSMsgType.PING:
                    await self._socket.pong(message.data)
                case aiohttp.WSMsgType.PONG:
                    self._ponged_at = self._clock()
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    pass  # v1 has no frames from the gateway
                case _:
                    return f"the connection ended (close code {self._socket.close_code})"

    async def _write(self) -> str:
        while True:
            self._wake.clear()
            while not self._leaving and (first := self._outbox.head.acked + 1) <= self._outbox.head.last_seq:
                events = self._outbox.read(first, _GROUP)
                await self._outbox.mark_sent_v1(first + len(events) - 1)
                for json, is_known in events:
                    if is_known:
                        await self._socket.send_frame(json, aiohttp.WSMsgType.TEXT)
            if self._leaving:
                return "an earlier gateway answers again"
            await self._wake.wait()

    async def _ping(self) -> str:
        while True:
            await asyncio.sleep(limits.PING_INTERVAL)
            if self._ponged_at is not None and self._clock() - self._ponged_at > limits.SILENCE_LIMIT:
                return "the gateway has gone silent"
            await self._socket.ping()
