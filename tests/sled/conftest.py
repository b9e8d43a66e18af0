"""A project, its outbox, and a small gateway that can misbehave; all real files, sockets and databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from aiohttp import WSMessage, WSMsgType, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from huskies.errors import StoreError
from huskies.events.model import STAGES, StatusEvent
from huskies.protocol import backoff, wire
from huskies.sled.keys import Keyring
from huskies.sled.layout import Layout, ensure_state, lay_out
from huskies.sled.opening import open_store
from huskies.sled.outbox import Outbox, draw_epoch
from huskies.sled.outbox_store import Keeping

TIMEOUT = 8.0
GATEWAY_ID = "ab" * 32
Sleds = dict[tuple[str, str], list[dict[str, Any]]]


class Eventually(Protocol):
    async def __call__(self, holds: Callable[[], object]) -> None: ...


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds, or fails after `TIMEOUT`."""

    async def wait(holds: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not holds():  # noqa: ASYNC110 - what files and peers hold has no event to wait for
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A project that `huskies init` has laid out."""
    (tmp_path / "shop").mkdir()
    layout = Layout(tmp_path / "shop")
    lay_out(layout)
    return layout


class Opened:
    """An open outbox with what it told."""

    def __init__(self, outbox: Outbox, announced: list[StatusEvent], failures: list[StoreError]) -> None:
        self.outbox = outbox
        self.announced = announced
        self.failures = failures

    def held(self) -> list[dict[str, Any]]:
        head = self.outbox.head
        first = self.outbox.view().oldest
        if first > head.last_seq:
            return []
        return [json.loads(data) for data, _ in self.outbox.read(first, head.last_seq - first + 1)]


class OpenOutbox(Protocol):
    def __call__(
        self,
        layout: Layout,
        name: str = "shop",
        *,
        now_ms: Callable[[], int] = ...,
        relay_rate_limits: bool = ...,
        keep: Keeping = ...,
    ) -> Awaitable[Opened]: ...


@pytest.fixture
async def open_outbox() -> AsyncIterator[OpenOutbox]:
    """Opens outboxes as a sled that starts does, and closes them."""
    opened: list[Outbox] = []

    async def open_(
        layout: Layout,
        name: str = "shop",
        *,
        now_ms: Callable[[], int] = lambda: 1_700_000_000_000,
        relay_rate_limits: bool = False,
        keep: Keeping = Keeping(),  # noqa: B008 - frozen
    ) -> Opened:
        ensure_state(layout)
        keyring = Keyring(layout.keys)
        store, identity = open_store(layout, name, keyring, draw_epoch)
        announced: list[StatusEvent] = []
        failures: list[StoreError] = []
        outbox = Outbox(
            store,
            identity=identity,
            keyring=keyring,
            relay_rate_limits=relay_rate_limits,
            keep=keep,
            now_ms=now_ms,
            announce=announced.append,
            failed=failures.append,
        )
        opened.append(outbox)
        return Opened(outbox, announced, failures)

    yield open_
    for outbox in opened:
        await outbox.stop()


class Peer:
    """A gateway: keeps what it is sent, and does what a test tells it to."""

    def __init__(self) -> None:
        self.url = ""
        self.gateway_id = GATEWAY_ID
        self.log: Sleds = {}
        self.v1_frames: list[dict[str, Any]] = []
        self.hellos: list[dict[str, Any]] = []
        self.snapshots: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.tokens_given: list[str] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.ready = True
        self.speaks_v2 = True
        self.takes_header = True
        self.acks = True
        self.said_with_acks: dict[str, int] = {}
        self.answers_pings = True
        self.pings = 0
        self.pongs: list[bytes] = []
        self.on_token: Callable[[web.Request], web.StreamResponse] | None = None
        self.on_upgrade: Callable[[web.Request], web.StreamResponse | None] = lambda _: None
        self.on_hello: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
        self.on_events: Callable[[int, list[dict[str, Any]]], dict[str, Any] | None] = lambda _, __: None

    def events(self) -> list[dict[str, Any]]:
        """All events held, epoch by epoch in the order in which the epochs came."""
        return [event for events in self.log.values() for event in events]

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"token {request.headers.get('Authorization')}")
        if self.on_token is not None:
            return self.on_token(request)
        token = f"join-{len(self.tokens_given)}"
        self.tokens_given.append(token)
        return web.json_response({"token": token})

    async def readyz(self, _: web.Request) -> web.StreamResponse:
        self.requests.append("ready?")
        return web.json_response({}, status=200 if self.ready else 503)

    async def push(self, request: web.Request) -> web.StreamResponse:
        way = "query" if "token" in request.query else "header"
        self.requests.append(f"push {way} {request.query['project']}")
        answer = self.on_upgrade(request)
        if answer is not None:
            return answer
        given = request.query.get("token") or request.headers["Authorization"].removeprefix("Bearer ")
        if given not in self.tokens_given or (way == "header" and not self.takes_header):
            return web.json_response({"error": "no"}, status=401)
        self.tokens_given.remove(given)
        protocols = (wire.SUBPROTOCOL,) if self.speaks_v2 else ()
        socket = web.WebSocketResponse(protocols=protocols, autoping=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        await (self._v2(socket) if self.speaks_v2 else self._v1(socket))
        return socket

    async def _v1(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.v1_frames.append(json.loads(message.data))
            else:
                await self._heard(socket, message)

    async def _v2(self, socket: web.WebSocketResponse) -> None:
        nonce = f"nonce-{len(self.hellos)}"
        await socket.send_json({"type": "challenge", "gateway_id": self.gateway_id, "nonce": nonce})
        hello = await socket.receive_json()
        self.hellos.append(hello)
        _verify(hello, nonce, self.gateway_id)
        events = self.log.setdefault((hello["sled_id"], hello["epoch"]), [])
        answer = self.on_hello(hello)
        await socket.send_json(answer or {"type": "welcome", "last_seq": len(events), "max_in_flight": 5000})
        if answer is not None and answer["type"] == "refused":
            await socket.close(code=1008)
            return
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await self._take(socket, json.loads(message.data), events)
            else:
                await self._heard(socket, message)

    async def _heard(self, socket: web.WebSocketResponse, message: WSMessage) -> None:
        if message.type is WSMsgType.PONG:
            self.pongs.append(bytes(message.data))
        elif message.type is WSMsgType.PING:
            self.pings += 1
            if self.answers_pings:
                await socket.pong(message.data)

    async def _take(
        self, socket: web.WebSocketResponse, frame: dict[str, Any], events: list[dict[str, Any]]
    ) -> None:
        if frame["type"] == "snapshot":
            self.snapshots.append(frame)
            return
        first = frame["first_seq"]
        refusal = self.on_events(first, frame["events"]) or _compare(events, first, frame["events"])
        if refusal is not None:
            await socket.send_json(refusal)
            await socket.close(code=1008)
            return
        events.extend(frame["events"][len(events) + 1 - first :])
        if self.acks:
            seq = first + len(frame["events"]) - 1
            await socket.send_json({"type": "ack", "seq": seq, **self.said_with_acks})


def _verify(hello: dict[str, Any], nonce: str, gateway_id: str) -> None:
    text = "\n".join(
        ("huskies.relay.v2", gateway_id, nonce, hello["project"], hello["sled_id"], hello["epoch"])
    )
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(hello["sled_id"]))
    key.verify(bytes.fromhex(hello["signature"]), text.encode())


def _compare(events: list[dict[str, Any]], first: int, sent: list[dict[str, Any]]) -> dict[str, Any] | None:
    assert first <= len(events) + 1, "the sled left a gap"
    for seq, event in enumerate(sent, first):
        if seq <= len(events) and events[seq - 1] != event:
            return {"type": "refused", "code": "conflict", "seq": seq}
    return None


@asynccontextmanager
async def running_peer() -> AsyncIterator[Peer]:
    peer = Peer()
    app = web.Application()
    app.router.add_post("/base/gateway/tokens", peer.token)
    app.router.add_get("/base/gateway/events/push", peer.push)
    app.router.add_get("/base/readyz", peer.readyz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/base/"
    yield peer
    for socket in peer.sockets:
        await socket.close()
    await runner.cleanup()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A gateway that runs."""
    async with running_peer() as peer:
        yield peer


@pytest.fixture
async def other_peer() -> AsyncIterator[Peer]:
    """Another gateway that runs."""
    async with running_peer() as peer:
        yield peer


@pytest.fixture
def quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnects after about 10 ms instead of a second."""
    monkeypatch.setattr(backoff, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(backoff, "BACKOFF_MAX", 0.05)


@pytest.fixture
def put(layout: Layout) -> Callable[..., Path]:
    """Writes a story's file: `put("3_qa", "42_story_login", "---\\nname: Login\\n---\\n")`."""

    def write(stage: str, story_id: str, text: str = "# A story\n") -> Path:
        assert stage in STAGES
        path = layout.stage(stage) / f"{story_id}.md"
        path.write_text(text)
        return path

    return write
