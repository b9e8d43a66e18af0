"""The shell around `protocol.sled`: carries out what one session decides, on a WebSocket and an outbox."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from huskies import limits
from huskies.protocol import wire
from huskies.protocol.effects import (
    Accepted,
    Acked,
    End,
    Held,
    OpenEpoch,
    Ping,
    Send,
    SetBarrier,
    SledEffect,
    TakeSnapshot,
)
from huskies.protocol.pinned import Pinned
from huskies.protocol.sled import SledSession
from huskies.sled.board import fit
from huskies.sled.outbox import Outbox
from huskies.sockets import clean, close_socket, first_of

_log = logging.getLogger("huskies.sled")
_TICK: Final = 1.0


class SessionEnd(msgspec.Struct, frozen=True):
    """How a session ended; `refused_code` is empty unless the gateway refused.

    `fruitful`: the gateway took what it was sent, so that the next session may well be with it again.
    """

    accepted: bool
    fruitful: bool
    reason: str
    refused_code: str = ""


class V2Session:
    """One session on an open WebSocket; `accepted` is called when the gateway welcomes it.

    `elsewhere`, `others` and `pinned` are those of `protocol.sled`.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        outbox: Outbox,
        *,
        clock: Callable[[], float],
        accepted: Callable[[], None],
        elsewhere: int | None = None,
        others: Collection[str] = (),
        pinned: Pinned | None = None,
        batch_events: int = limits.BATCH_EVENTS_MAX,
    ) -> None:
        self._socket = socket
        self._outbox = outbox
        self._clock = clock
        self._accepted = accepted
        self._core = SledSession(
            outbox.view(),
            outbox.sign,
            clock(),
            elsewhere=elsewhere,
            others=others,
            pinned=pinned,
            batch_events=batch_events,
        )
        self._project = outbox.head.project
        self._epoch = outbox.head.epoch
        self._outgoing: deque[Send | Ping] = deque()
        self._wake = asyncio.Event()
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._durable: list[asyncio.Task[None]] = []
        self._next_epoch: OpenEpoch | None = None

    async def run(self) -> SessionEnd:
        """Until the session ends; what it asked to be durable then is. Raises `StoreError`."""
        try:
            with self._outbox.listening(self._on_commit, self._on_snapshot_change):
                reason = await first_of(self._read(), self._write(), self._tick(), self._until_end())
        finally:
            end = self._end.result() if self._end.done() else End(wire.CLOSE_GOING_AWAY, "")
            await close_socket(self._socket, end.close_code, end.reason)
        await self._settle()
        core = self._core
        return SessionEnd(core.accepted, core.fruitful, clean(reason), core.refused_code)

    @property
    def may_be_held(self) -> tuple[str, int] | None:
        """Through which (epoch, seq) the gateway may hold events; None where it did not say."""
        held = self._core.may_be_held
        return None if held is None else (self._epoch, held)

    @property
    def gateway_id(self) -> str:
        """As the gateway said; empty before it did."""
        return self._core.gateway_id.lower()

    @property
    def batch_events(self) -> int:
        """How many events a frame may have: fewer where the network is slow."""
        return self._core.batch_events

    def leave(self) -> None:
        """Send nothing more, and end once what was sent is acknowledged, or soon."""
        self._carry_out(self._core.leave(self._clock()))

    async def _settle(self) -> None:
        for step in self._durable:
            await step
        if self._next_epoch is not None:
            _log.warning(
                "A new epoch begins: %s", clean(self._next_epoch.reason), extra={"project": self._project}
            )
            await self._outbox.open_epoch(self._next_epoch.carry_from)

    # --- what happened -----------------------------------------------------------------------------

    async def _read(self) -> str:
        while True:
            message = await self._socket.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    self._carry_out(self._core.receive(message.data, self._clock()))
                case aiohttp.WSMsgType.PING:
                    self._core.heard(self._clock())
                    # Whoever pings without reading the answers is, rightly, not read any further.
                    await self._socket.pong(message.data)
                case aiohttp.WSMsgType.PONG:
                    self._core.heard(self._clock())
                case aiohttp.WSMsgType.BINARY:
                    self._carry_out([End(wire.CLOSE_UNSUPPORTED, "the gateway sent a binary frame")])
                case _:
                    return f"the connection ended (close code {self._socket.close_code})"

    async def _write(self) -> str:
        while True:
            self._wake.clear()
            # Events are read when the socket has taken what came before: a slow gateway fills no memory.
            while self._outgoing or self._fetch():
                match self._outgoing.popleft():
                    case Send(data):
                        await self._socket.send_frame(data, aiohttp.WSMsgType.TEXT)
                    case Ping():
                        await self._socket.ping()
            await self._wake.wait()

    async def _tick(self) -> str:
        while True:
            await asyncio.sleep(_TICK)
            self._carry_out(self._core.tick(self._clock()))

    async def _until_end(self) -> str:
        # Whoever stops waiting must not cancel what others still ask for.
        return (await asyncio.shield(self._end)).reason

    def _on_commit(self) -> None:
        self._core.recorded(self._outbox.head.last_seq)
        self._wake.set()

    def _on_snapshot_change(self) -> None:
        self._carry_out(self._core.stories_changed())

    # --- what is to be done ------------------------------------------------------------------------

    def _fetch(self) -> bool:
        want = self._core.wants()
        if want is None:
            return False
        events = [json for json, _ in self._outbox.read(want.first_seq, want.count)]
        self._carry_out(self._core.fetched(want.first_seq, events, self._clock()))
        return bool(self._outgoing)

    def _carry_out(self, effects: Sequence[SledEffect]) -> None:
        for effect in effects:
            match effect:
                case Send() | Ping():
                    self._outgoing.append(effect)
                case Acked(seq):
                    self._outbox.acknowledge(seq)
                case Held(seq):
                    self._outbox.hold(seq)
                case TakeSnapshot():
                    self._carry_out(self._take_snapshot())
                case Accepted():
                    self._accepted()
                case SetBarrier(seq, set_aside, reason):
                    self._set_barrier(seq, clean(reason), set_aside=set_aside)
                case OpenEpoch():
                    self._next_epoch = effect
                case End() if not self._end.done():
                    self._end.set_result(effect)
        self._wake.set()

    def _set_barrier(self, seq: int, reason: str, *, set_aside: bool) -> None:
        if set_aside:
            _log.error("Event %d is set aside: %s", seq, reason, extra={"project": self._project})
        else:
            _log.warning(
                "Nothing from event %d on belongs to this epoch: %s",
                seq,
                reason,
                extra={"project": self._project},
            )
        step: Coroutine[Any, Any, None] = self._outbox.set_barrier(seq, reason, set_aside=set_aside)
        self._durable.append(asyncio.create_task(step))

    def _take_snapshot(self) -> Sequence[SledEffect]:
        seq, stories = self._outbox.snapshot()
        fitting = fit(stories, limits.BATCH_BYTES_MAX)
        if len(fitting) < len(stories):
            _log.warning(
                "The snapshot leaves out %d stories to stay below 1 MiB.",
                len(stories) - len(fitting),
                extra={"project": self._project},
            )
        return self._core.snapshot_taken(seq, fitting)
