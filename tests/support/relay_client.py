"""A sled's end of a push connection, frame by frame: does what a test says, and nothing by itself."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUBPROTOCOL = "huskies.relay.v2"
PATIENCE = 10.0


class ClosedError(Exception):
    """The gateway closed the connection with this code."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"closed with {code}: {reason}")
        self.code = code
        self.reason = reason


def new_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def sled_id_of(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def new_epoch() -> str:
    return secrets.token_hex(16)


def blocked(reason: str = "stuck", story_id: str = "1_bug_x", timestamp_ms: int = 1) -> dict[str, Any]:
    return {
        "type": "story_blocked", "story_id": story_id, "story_name": "", "reason": reason,
        "timestamp_ms": timestamp_ms,
    }  # fmt: skip


async def join_token(session: aiohttp.ClientSession, url: str, sled_token: str | None = None) -> str:
    headers = {} if sled_token is None else {"Authorization": f"Bearer {sled_token}"}
    async with session.post(f"{url}/gateway/tokens", headers=headers) as answer:
        answer.raise_for_status()
        return str((await answer.json())["token"])


class PushSocket:
    """One push connection; `connect_v1` and `RelayClient` open them."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._session = session
        self.socket = socket

    @classmethod
    async def open(
        cls,
        url: str,
        project: str,
        *,
        token: str | None = None,
        sled_token: str | None = None,
        protocols: Sequence[str] = (SUBPROTOCOL,),
        in_query: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect with `token`, or with one that is asked for; raises `aiohttp.WSServerHandshakeError`."""
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True))
        try:
            token = token if token is not None else await join_token(session, url, sled_token)
            query = {"project": project, **({"token": token} if in_query else {})}
            headers = {} if in_query else {"Authorization": f"Bearer {token}"}
            socket = await session.ws_connect(
                f"{url}/gateway/events/push",
                params=query,
                headers=headers,
                protocols=protocols,
                max_msg_size=0,
            )
        except BaseException:
            await session.close()
            raise
        return cls(session, socket)

    async def send(self, frame: object) -> None:
        """Any JSON as a text frame; text and bytes as they are."""
        if isinstance(frame, bytes):
            await self.socket.send_bytes(frame)
        else:
            await self.socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def next_frame(self) -> dict[str, Any]:
        """The gateway's next frame; raises `ClosedError` where there is none any more."""
        message = await self.socket.receive(PATIENCE)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ClosedError(self.socket.close_code, str(message.extra or ""))
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def until_closed(self) -> tuple[list[dict[str, Any]], ClosedError]:
        """All frames up to the close, and the close."""
        frames: list[dict[str, Any]] = []
        while True:
            try:
                frames.append(await self.next_frame())
            except ClosedError as closed:
                return frames, closed

    async def close(self) -> None:
        await self.socket.close()
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class RelayClient(PushSocket):
    """A v2 session; after `connect` the welcome has been read."""

    challenge: dict[str, Any]
    welcome: dict[str, Any]

    async def greet(
        self,
        project: str,
        key: Ed25519PrivateKey,
        epoch: str,
        last_seq: int,
        *,
        previous: Sequence[tuple[str, int]] = (),
        falsified: Mapping[str, object] | None = None,
        copies: int = 1,
        oldest: int = 1,
    ) -> None:
        """Read the challenge and answer it; `falsified` is changed after the hello was signed."""
        self.challenge = await self.next_frame()
        sled_id = sled_id_of(key)
        given = (self.challenge["gateway_id"], self.challenge["nonce"])
        lines = (SUBPROTOCOL, *given, project, sled_id, epoch)
        hello = {
            "type": "hello", "project": project, "sled_id": sled_id, "epoch": epoch,
            "last_seq": last_seq, "signature": key.sign("\n".join(lines).encode()).hex(),
        }  # fmt: skip
        if previous:
            hello["previous"] = [{"epoch": older, "last_seq": seq} for older, seq in previous]
        if copies > 1:
            hello["copies"] = copies
        if oldest > 1:
            hello["oldest"] = oldest
        await self.send({**hello, **(falsified or {})})

    async def send_events(self, first_seq: int, *events: dict[str, Any]) -> None:
        await self.send({"type": "events", "first_seq": first_seq, "events": events})

    async def send_snapshot(self, seq: int, *stories: dict[str, Any]) -> None:
        await self.send({"type": "snapshot", "seq": seq, "stories": stories})

    async def acked(self, seq: int) -> None:
        """Wait for the ack of `seq`."""
        while (frame := await self.next_frame()) != {"type": "ack", "seq": seq}:
            assert frame["type"] == "ack", frame


async def connect(
    url: str,
    project: str,
    key: Ed25519PrivateKey,
    epoch: str,
    last_seq: int = 0,
    *,
    previous: Sequence[tuple[str, int]] = (),
    sled_token: str | None = None,
    copies: int = 1,
    tls: ssl.SSLContext | None = None,
) -> RelayClient:
    """A v2 session that was welcomed; raises `ClosedError` where it was not."""
    client = await RelayClient.open(url, project, sled_token=sled_token, tls=tls)
    try:
        await client.greet(project, key, epoch, last_seq, previous=previous, copies=copies)
        client.welcome = await client.next_frame()
    except BaseException:
        await client.close()
        raise
    if client.welcome["type"] == "welcome":
        return client
    _, closed = await client.until_closed()
    await client.close()
    raise ClosedError(closed.code, client.welcome.get("code", ""))


async def connect_v1(
    url: str, project: str, sled_token: str | None = None, *, tls: ssl.SSLContext | None = None
) -> PushSocket:
    """An older sled: no subprotocol, the token in the query."""
    return await PushSocket.open(url, project, sled_token=sled_token, protocols=(), in_query=True, tls=tls)


async def push(url: str, project: str, *events: dict[str, Any], **options: Any) -> None:
    """Bring events in under an identity of their own, acknowledged when this returns."""
    async with await connect(url, project, new_key(), new_epoch(), **options) as client:
        for start in range(0, len(events), 1_000):
            await client.send_events(start + 1, *events[start : start + 1_000])
        async with asyncio.timeout(PATIENCE):
            await client.acked(len(events))
