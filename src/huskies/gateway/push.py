"""Push connections: the shell around `protocol.gateway`, and the older sleds of v1 (SPEC 5).

Frames to a sled are written straight to the transport: an ack is sent from within the delivery of a commit,
which cannot wait, and a server's text frame is its length and its bytes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import WSMessage, WSMsgType, web

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.gateway.admission import Credential
from huskies.gateway.inflow import Inflow
from huskies.gateway.store.appends import AppendOwner
from huskies.gateway.store.blocks import Stream
from huskies.protocol import wire
from huskies.protocol.effects import Admit, ApplySnapshot, AskOthers, End, GatewayEffect, Ping, Send
from huskies.protocol.effects import Append as AppendEffect

if TYPE_CHECKING:
    from huskies.gateway.sessions import Sessions
    from huskies.protocol.gateway import GatewaySession

_log = logging.getLogger("huskies.push")

_PING: Final = b"\x89\x00"
# A sled that reads none of its acks is not one we can talk to.
_UNREAD_BYTES_MAX: Final = 1 << 20


def _find_the_dead(request: web.Request) -> None:
    """Let TCP find a peer of v1 that is gone within two minutes: it answers no ping."""
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def text_frame(payload: bytes) -> bytes:
    """A server's (unmasked) WebSocket text frame; RFC 6455, 5.2."""
    size = len(payload)
    if size < 126:  # noqa: PLR2004 - RFC 6455's own numbers
        return b"\x81" + bytes((size,)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + struct.pack("!H", size) + payload
    return b"\x81\x7f" + struct.pack("!Q", size) + payload


class _Connection(ABC):
    """What v1 and v2 connections share: the socket, backpressure, and a close that never waits long."""

    version = "v1"

    def __init__(
        self, sessions: Sessions, project: str, socket: web.WebSocketResponse, request: web.Request
    ) -> None:
        self.sessions = sessions
        self.project = project
        self._socket = socket
        self._transport = request.transport
        self._closing: asyncio.Task[bool] | None = None
        self._pings = 0
        # What came and was not charged yet.
        self._frames = 0
        self._bytes = 0
        self.inflow = Inflow(
            sessions.inflow(project),
            self.owner(),
            now_ms=sessions.now_ms,
            received=lambda events: sessions.metrics.received(self.version, events),
        )
        # What was shown for the join token; None: nothing.
        self.credential: Credential | None = None

    def write(self, data: bytes) -> None:
        """Write bytes to the sled without waiting; one that does not read is cut off."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > _UNREAD_BYTES_MAX:
            _log.warning("a sled does not read what it is sent; cut off", extra={"project": self.project})
            self._transport.abort()
            return
        self._transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Begin to close the connection."""
        if self._closing is None:
            # A close frame holds 125 bytes, two of them the code.
            message = reason.encode()[:120].decode(errors="ignore").encode()
            self._closing = asyncio.create_task(self._socket.close(code=code, message=message))

    def charge(self, size: int, *, is_first: bool) -> float:
        """A frame of this size is dealt with; how long to let others go first.

        Asked of the first in a turn of the event loop, and then each time that it becomes worth it: this runs
        for every frame.
        """
        self._frames += 1
        self._bytes += size
        if not is_first and self._bytes < limits.PIECE_BYTES:
            return 0.0
        frames, size, self._frames, self._bytes = self._frames, self._bytes, 0, 0
        return self.sessions.fairness.spend(self.project, frames, size, time.perf_counter())

    async def give_way(self, pause: float) -> None:
        """Wait for others' turn, and for room."""
        if pause:
            await asyncio.sleep(pause)
        if self.inflow.is_crowded:
            await self.inflow.room(lambda: self._closing is not None)

    def _pinged(self, message: WSMessage) -> None:
        """Answer a ping; who sends nothing else is cut off."""
        self._pings += 1
        if self._pings > limits.PINGS_MAX:
            self.sessions.flooded(self.project)
            self.close(wire.CLOSE_POLICY, "too many pings")
            return
        self.write(b"\x8a" + bytes((len(message.data),)) + message.data)

    @abstractmethod
    def owner(self) -> AppendOwner:
        """Who is told what became of what was taken."""

    async def finished(self) -> None:
        """Wait for the close that was begun, if any."""
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=limits.CLOSE_LIMIT)


class V2Connection(_Connection):
    """A sled that speaks `huskies.relay.v2`."""

    version = "v2"

    def __init__(
        self,
        sessions: Sessions,
        project: str,
        socket: web.WebSocketResponse,
        request: web.Request,
        core: GatewaySession,
    ) -> None:
        super().__init__(sessions, project, socket, request)
        self.core = core
        self.sled_id = ""
        self.stream: Stream | None = None
        self._frame_size = 0

    async def serve(self) -> None:
        """Carry on until the connection ends."""
        now = asyncio.get_running_loop().time
        await self.apply(self.core.start())
        while True:
            message = await self._socket.receive()
            kind = message.type
            if kind is WSMsgType.TEXT:
                self._pings, self._frame_size, is_first = 0, len(message.data), self.inflow.is_idle
                await self.apply(self.core.receive(message.data, now()))
                pause = self.charge(self._frame_size, is_first=is_first)
                if pause or self.inflow.is_crowded:
                    await self.give_way(pause)
            elif kind is WSMsgType.PING:
                self.core.heard(now())
                self._pinged(message)
            elif kind is WSMsgType.PONG:
                self.core.heard(now())
            elif kind is WSMsgType.BINARY:
                self.close(wire.CLOSE_UNSUPPORTED, "frames are JSON text")
                break
            else:
                break
        await self.finished()

    async def apply(self, effects: Iterable[GatewayEffect]) -> None:
        """Carry out effects; only admission waits for anything."""
        for effect in effects:
            if type(effect) is Admit:
                await self.sessions.admit(self, effect.hello)
            elif type(effect) is AskOthers:
                await self.sessions.ask_others(self)
            else:
                self.carry_out(effect)

    def owner(self) -> AppendOwner:
        """This connection."""
        return self

    def apply_now(self, effects: Sequence[GatewayEffect]) -> None:
        """Carry out effects among which there is no admission."""
        for effect in effects:
            self.carry_out(effect)

    def carry_out(self, effect: GatewayEffect) -> None:
        """Carry out one effect that need not wait."""
        match effect:
            case Send():
                self.write(text_frame(effect.data))
            case AppendEffect():
                assert self.stream is not None  # noqa: S101 - the core asks only after admission
                if self.project in self.sessions.quota.over:
                    # What was taken in this turn is part of what is settled first.
                    self.inflow.hand_over()
                    self.apply_now(self.core.over_quota(self.sessions.quota.reason(self.project)))
                    return
                self.inflow.append(
                    self.stream, effect.first_seq, effect.events, self._frame_size, self.core.replayed_through
                )
            case ApplySnapshot():
                self.sessions.snapshot(self, effect.snapshot)
            case Ping():
                self.write(_PING)
            case End():
                self.sessions.note_end(self, effect.reason)
                self.close(effect.close_code, effect.reason)
            case Admit() | AskOthers():
                raise AssertionError("admission waits; see apply")

    # --- AppendOwner -------------------------------------------------------------------------------

    def on_committed(self, last_seq: int, batches: int, events: int) -> None:
        """Batches are in the log: acknowledge them."""
        self.inflow.settle(events)
        self.apply_now(self.core.committed(last_seq, batches))

    def on_gap(self, expected: int, batches: int, events: int) -> None:
        """Batches began too far on."""
        self.inflow.settle(events)
        self.apply_now(self.core.gap(expected, batches))

    def on_conflict(self, seq: int, batches: int, events: int) -> None:
        """Batches have another content than the log."""
        self.inflow.settle(events)
        self.sessions.conflict(self, seq)
        self.apply_now(self.core.conflict(seq, batches))


class V1Connection(_Connection):
    """An older sled: a stored event a frame, nothing back, and never closed for silence."""

    def __init__(
        self,
        sessions: Sessions,
        project: str,
        socket: web.WebSocketResponse,
        request: web.Request,
        stream: Stream,
    ) -> None:
        super().__init__(sessions, project, socket, request)
        self._stream = stream
        self._refused = 0
        _find_the_dead(request)

    def owner(self) -> AppendOwner:
        """This connection."""
        return self

    async def serve(self) -> None:
        """Carry on until the connection ends."""
        while True:
            message = await self._socket.receive()
            kind = message.type
            if kind is WSMsgType.TEXT:
                if len(message.data) > limits.FRAME_BYTES_MAX:
                    self.close(wire.CLOSE_TOO_BIG, "a frame is larger than 1 MiB")
                    break
                if self.project in self.sessions.quota.over:
                    self.close(wire.CLOSE_GOING_AWAY, self.sessions.quota.reason(self.project))
                    break
                self._pings, is_first = 0, self.inflow.is_idle
                self._take(message.data)
                pause = self.charge(len(message.data), is_first=is_first)
                if pause or self.inflow.is_crowded:
                    await self.give_way(pause)
            elif kind is WSMsgType.PING:
                self._pinged(message)
            elif kind is WSMsgType.BINARY:
                self.close(wire.CLOSE_UNSUPPORTED, "frames are JSON text")
                break
            elif kind is not WSMsgType.PONG:
                break
        await self.finished()

    def _take(self, data: bytes) -> None:
        try:
            event = codec.decode_v1(data)
        except InvalidEventError as error:
            self._refused += 1
            self.sessions.metrics.refused("v1_frame")
            # A sled that sends nothing else should not fill the log file: say it at 1, 2, 4, 8, … frames.
            if self._refused & (self._refused - 1) == 0:
                _log.warning(
                    "dropped a frame that is no event: %s",
                    error.problem,
                    extra={"project": self.project, "dropped": self._refused},
                )
            return
        self.inflow.append(self._stream, 0, [event], len(data), 0)

    def on_committed(self, last_seq: int, batches: int, events: int) -> None:  # noqa: ARG002 - AppendOwner's
        """Batches are in the log; v1 is told nothing."""
        self.inflow.settle(events)

    def on_gap(self, expected: int, batches: int, events: int) -> None:
        """Never happens: the log numbers these events itself."""
        raise AssertionError(f"{expected}, {batches}, {events}: a gap where the log numbers events itself")

    def on_conflict(self, seq: int, batches: int, events: int) -> None:
        """Never happens: the log numbers these events itself."""
        raise AssertionError(f"{seq}, {batches}, {events}: a conflict where the log numbers events itself")
