"""A fleet of made-up sleds in one process, which costs as little as can be: raw sockets, frames made once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.events import event_json, frame_tails
from bench.websocket import PING, PONG, frame_head, text_frame, token_request, upgrade_request
from huskies.protocol import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

# So many sleds greet at once: enough to be quick, few enough for the backlog of a listening socket.
_GREETING_AT_ONCE = 64
_V1_WRITE = 64
_WRITE_FRAMES = 256


@dataclass(kw_only=True)
class SledRun:
    """What a made-up sled does: `frames` of `events` each, at most `window` frames unacknowledged (v2)."""

    project: str
    frames: int = 0
    events: int = 1
    window: int = 0
    v1: bool = False
    stories: int = 200


@dataclass
class Latencies:
    """Seconds from when a frame was due until it was acknowledged."""

    seconds: list[float] = field(default_factory=list)


class Sled(asyncio.Protocol):
    """One made-up sled, v2 or v1."""

    def __init__(self, url: SplitResult, run: SledRun, token: str, tails: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        self.url = url
        self.run = run
        self.token = token
        self.ready: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.sent = 0
        self.acked = 0
        self.latencies: list[float] = []
        self._due: deque[tuple[int, float]] = deque()
        self._tails = tails
        self._buffer = b""
        self._upgraded = False
        self._paused = False
        self._started = False
        self._closed = False

    # --- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(upgrade_request(self.url, self.run.project, self.token, v2=not self.run.v1))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        last = self._buffer[-200:].decode(errors="replace")
        for waiter in (self.ready, self.done):
            if not waiter.done():
                waiter.set_exception(ConnectionError(f"the gateway closed the connection: {exc} {last}"))

    def close(self) -> None:
        self._closed = True
        self.transport.close()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._started:
            self.pump()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._upgraded and self.ready.done():
            self._hear()
            return
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head:
                raise ConnectionError(head.decode())
            self._upgraded = True
            self._buffer = rest
            if self.run.v1:
                self.ready.set_result(None)
                return
        self._greet()

    # --- the greeting ------------------------------------------------------------------------------

    def _greet(self) -> None:
        if not self._buffer.endswith(b"}"):
            return
        if b'"challenge"' in self._buffer:
            challenge = wire.decode_from_gateway(self._buffer[self._buffer.index(b"{") :])
            assert isinstance(challenge, wire.Challenge)
            self.transport.write(text_frame(wire.encode(_hello(challenge, self.run.project))))
        elif b'"welcome"' in self._buffer:
            self.ready.set_result(None)
        self._buffer = b""

    # --- sending -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._started = True
        self.pump()

    def frame(self, number: int) -> bytes:
        """The frame with this number, from 0."""
        tail = self._tails[number % len(self._tails)]
        head = b'{"type":"events","first_seq":%d,"events":' % (number * self.run.events + 1)
        return b"".join((frame_head(len(head) + len(tail)), head, tail))

    def pump(self) -> None:
        """Send what may be sent."""
        run = self.run
        if run.v1:
            self._pump_v1()
            return
        limit = min(run.frames, self.acked // run.events + run.window)
        while self.sent < limit and not self._paused:
            upto = min(limit, self.sent + max(1, _WRITE_FRAMES // run.events))
            self.transport.write(b"".join([self.frame(number) for number in range(self.sent, upto)]))
            self.sent = upto

    def _pump_v1(self) -> None:
        run = self.run
        while self.sent < run.frames and not self._paused:
            upto = min(run.frames, self.sent + _V1_WRITE)
            self.transport.write(b"".join(_v1_frame(self._tails, n) for n in range(self.sent, upto)))
            self.sent = upto
        if self.sent == run.frames and not self.done.done():
            self.done.set_result(None)

    def send_due(self, number: int, due: float) -> None:
        """Write a frame that was due at a time straight to the socket: for a thread with a schedule."""
        self._due.append(((number + 1) * self.run.events, due))
        write_all(self.transport.get_extra_info("socket").fileno(), self.frame(number))

    # --- hearing -----------------------------------------------------------------------------------

    def _hear(self) -> None:
        buffer = self._buffer
        if PING in buffer:
            self.transport.write(PONG)
        at = buffer.rfind(b'"seq":')
        end = buffer.find(b"}", at)
        if at < 0 or end < 0:
            # The rest of it is to come, or it was a ping.
            self._buffer = buffer[-64:].replace(PING, b"")
            return
        self._buffer = buffer[end + 1 :][-64:].replace(PING, b"")
        if b'"ack"' in buffer[max(0, at - 16) : at]:
            self._on_ack(int(buffer[at + 6 : end]))

    def _on_ack(self, seq: int) -> None:
        if self._due:
            now = time.perf_counter()
            while self._due and self._due[0][0] <= seq:
                self.latencies.append(now - self._due.popleft()[1])
        self.acked = max(self.acked, seq)
        if self.acked >= self.run.frames * self.run.events:
            if not self.done.done():
                self.done.set_result(None)
        elif self._started:
            self.pump()


def _hello(challenge: wire.Challenge, project: str) -> wire.Hello:
    key = Ed25519PrivateKey.generate()
    sled_id = key.public_key().public_bytes_raw().hex()
    epoch = os.urandom(8).hex()
    text = wire.signed_text(
        gateway_id=challenge.gateway_id,
        nonce=challenge.nonce,
        project=project,
        sled_id=sled_id,
        epoch=epoch,
    )
    return wire.Hello(
        project=project, sled_id=sled_id, epoch=epoch, last_seq=0, signature=key.sign(text).hex()
    )


def _v1_frame(tails: Sequence[bytes], number: int) -> bytes:
    return tails[number % len(tails)]


def _tails(run: SledRun) -> Sequence[bytes]:
    if run.v1:
        return [text_frame(event_json(story, run.project)) for story in range(run.stories)]
    return frame_tails(run.project, run.stories, run.events) if run.frames else []


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything to a socket that does not block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            time.sleep(0.0001)


def address(url: SplitResult) -> tuple[str, int]:
    """Where a URL's server listens."""
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


# --- many of them --------------------------------------------------------------------------------------


async def _connect_some(url: SplitResult, waiting: Iterator[SledRun], sleds: list[Sled]) -> None:
    """Connect sleds one after the other; their join tokens are asked for over one connection."""
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        for run in waiting:
            writer.write(token_request(url))
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            token = json.loads(await reader.readexactly(size))["token"]
            _, sled = await asyncio.get_running_loop().create_connection(
                _maker(url, run, token), *address(url)
            )
            sleds.append(sled)
            await sled.ready
    finally:
        writer.close()


def _maker(url: SplitResult, run: SledRun, token: str) -> Callable[[], Sled]:
    return lambda: Sled(url, run, token, _tails(run))


async def connect_all(url: str, runs: Sequence[SledRun]) -> list[Sled]:
    """Connect all sleds and finish their greetings, some at a time."""
    waiting = iter(runs)
    sleds: list[Sled] = []
    workers = min(_GREETING_AT_ONCE, len(runs))
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_connect_some(urlsplit(url), waiting, sleds))
    return sleds


async def run_all(sleds: Sequence[Sled]) -> float:
    """Let connected sleds send; the moment (`perf_counter`) at which they were started."""
    started = time.perf_counter()
    for sled in sleds:
        sled.start()
    await asyncio.gather(*(sled.done for sled in sleds))
    return started
