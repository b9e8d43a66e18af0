"""Another gateway's end of a peer connection, frame by frame: does what a test says, nothing by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.relay_client import sled_id_of

SUBPROTOCOL = "huskies.peer.v1"
PATIENCE = 10.0


class PeerClient:
    """A connection on which both sides have proven who they are."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def receive(self, kind: str) -> dict[str, Any]:
        """The next frame of this kind; others are passed over."""
        while (frame := await self.next_frame())["type"] != kind:
            pass
        return frame

    async def next_frame(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, message
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def greet(self, key: Ed25519PrivateKey) -> None:
        await self.send("hello", gateway_id=sled_id_of(key), nonce="n" * 32)
        hello = await self.receive("hello")
        text = f"{SUBPROTOCOL}\n{sled_id_of(key)}\n{hello['gateway_id']}\n{hello['nonce']}".encode()
        await self.send("proof", signature=key.sign(text).hex())
        await self.receive("proof")

    async def hold(self, *sequences: list[Any]) -> None:
        """Say that this gateway holds these, and hear what the other one does."""
        await self.send("sequences", sequences=sequences)
        await self.send("ready")
        await self.receive("ready")


@contextlib.asynccontextmanager
async def peer_client(url: str, key: Ed25519PrivateKey | None = None) -> AsyncIterator[PeerClient]:
    """A gateway that connects to the one at `url`, with this key or a new one."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/gateway/peers", protocols=[SUBPROTOCOL]) as socket,
    ):
        client = PeerClient(socket)
        await client.greet(key or Ed25519PrivateKey.generate())
        yield client
