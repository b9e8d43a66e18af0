"""The relay: keeps a session with a gateway, for ever (SPEC 3 and 5)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal, TypeAlias

import aiohttp
import msgspec

from huskies.errors import StoreError
from huskies.protocol import wire
from huskies.protocol.failover import Failover, Outcome
from huskies.protocol.pinned import Pinned
from huskies.signing import is_signed
from huskies.sled.outbox import Outbox
from huskies.sled.relay_connect import AttemptError, Connector
from huskies.sled.relay_gateway import KnownGateway
from huskies.sled.relay_return import returning
from huskies.sled.relay_v1 import V1Session
from huskies.sled.relay_v2 import SessionEnd, V2Session
from huskies.sockets import close_socket

_log = logging.getLogger("huskies.sled")

RelayState: TypeAlias = Literal["off", "connecting", "connected", "catching_up"]
# A first `superseded` may be this sled's own older session; from the second in a row on it is someone else.
_SUPERSEDED_TWICE: Final = 2
_NEW_NAME: Final = "the project was renamed or moved; its new name is used from now on"


class RelayStatus(msgspec.Struct):
    """How the relay is doing.

    `gateway` is the URL of the one it is connected to, `protocol` that of the newest session; `last_error`
    holds no secret.
    """

    state: RelayState = "off"
    gateway: str | None = None
    protocol: str | None = None
    last_error: str | None = None


class Relay:
    """Relays the outbox to the first of the gateways that takes it, in order of preference.

    `pins` names the gateway_id of each URL that the sled was enrolled with. `chance` draws evenly from
    [0, 1), `clock` is monotonic seconds.
    """

    def __init__(
        self,
        connectors: Sequence[Connector],
        outbox: Outbox,
        *,
        pins: Mapping[str, str] | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # What waits for an ack may have been sent to any of them before this sled was started.
        may_hold = (outbox.head.epoch, outbox.head.last_sendable)
        self._gateways = [KnownGateway(connector, may_hold) for connector in connectors]
        self._outbox = outbox
        self._pins = pins or {}
        self._chance = chance
        self._clock = clock
        self._failover = Failover(len(connectors))
        self._status = RelayStatus(state="connecting")

    @property
    def status(self) -> RelayStatus:
        """How the relay is doing now."""
        state = self._status.state
        if state == "connected" and self._outbox.head.unacked:
            state = "catching_up"
        return msgspec.structs.replace(self._status, state=state)

    async def run(self) -> None:
        """Until cancelled; raises `StoreError` where the outbox cannot be read or written any more."""
        try:
            while True:
                outcome = await self._once()
                await asyncio.sleep(self._failover.ended(outcome, self._clock(), self._chance()))
        finally:
            self._status = msgspec.structs.replace(self._status, state="off", gateway=None)
            for gateway in self._gateways:
                await gateway.connector.close()

    @property
    def _gateway(self) -> KnownGateway:
        """The one that is tried now."""
        return self._gateways[self._failover.current]

    async def _once(self) -> Outcome:
        self._status.state = "connecting"
        try:
            end = await self._session()
        except AttemptError as error:
            if error.unauthorized:
                await self._denied()
            self._failed(error.reason)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - whatever a gateway answers, the next attempt may succeed
            _log.exception("The relay's attempt failed unexpectedly.", extra=self._extra())
            self._failed("an unexpected error, see the log")
        else:
            return await self._ended(end)
        return Outcome.FAILED

    async def _session(self) -> SessionEnd:
        project = self._outbox.head.project
        socket = await self._gateway.connector.connect(project)
        try:
            if socket.protocol != wire.SUBPROTOCOL:
                return await self._session_v1(V1Session(socket, self._outbox, clock=self._clock))
            return await self._session_v2(socket, project)
        finally:
            await close_socket(socket, wire.CLOSE_GOING_AWAY, "")

    async def _session_v2(self, socket: aiohttp.ClientWebSocketResponse, project: str) -> SessionEnd:
        outbox = self._outbox
        await outbox.remember_v2(self._gateway.url)
        if outbox.head.spoke_v1:
            # What v1 sent has no identity at any gateway: the history under this epoch ends there.
            await outbox.open_epoch(outbox.head.acked + 1)
            if outbox.head.project != project:
                raise AttemptError(_NEW_NAME)
        self._status.protocol = "v2"
        session = V2Session(
            socket,
            outbox,
            clock=self._clock,
            accepted=self._connected,
            elsewhere=self._elsewhere(),
            others=[other.gateway_id for other in self._others() if not other.said_v1],
            pinned=self._pinned(),
            batch_events=self._gateway.batch_events,
        )
        gateway = self._gateway
        async with self._returning(session.leave):
            try:
                return await session.run()
            finally:
                gateway.batch_events = session.batch_events
                gateway.gateway_id = session.gateway_id or gateway.gateway_id
                if session.may_be_held is not None:
                    gateway.may_hold = session.may_be_held

    def _pinned(self) -> Pinned | None:
        if not self._pins:
            return None
        return Pinned(self._pins.get(self._gateway.url), frozenset(self._pins.values()), is_signed)

    def _elsewhere(self) -> int | None:
        """Through which seq of this epoch another gateway may hold what it did not acknowledge."""
        others = [gateway.may_hold for gateway in self._others()]
        epoch = self._outbox.head.epoch
        return max(seq if of == epoch else 0 for of, seq in others) if others else None

    def _others(self) -> list[KnownGateway]:
        """Those that are not tried now."""
        return [gateway for gateway in self._gateways if gateway is not self._gateway]

    async def _session_v1(self, session: V1Session) -> SessionEnd:
        outbox = self._outbox
        if self._gateway.url in self._pins:
            raise AttemptError("the gateway does not choose v2, which the one that was joined speaks")
        if outbox.has_spoken_v2(self._gateway.url):
            raise AttemptError("the gateway does not choose v2, which it spoke before")
        if outbox.identity_pending:
            # v1 knows no identity, so there is nothing to deliver under the old one.
            await outbox.open_epoch(outbox.head.acked + 1)
            raise AttemptError(_NEW_NAME)
        if not self._gateway.said_v1:
            self._gateway.said_v1 = True
            _log.warning(
                "The gateway at %s does not speak v2; events are sent at most once.",
                self._gateway.url,
                extra=self._extra(),
            )
        self._status.protocol = "v1"
        self._connected()
        async with self._returning(session.leave):
            return SessionEnd(accepted=True, fruitful=True, reason=await session.run())

    def _returning(self, leave: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        connectors = [gateway.connector for gateway in self._gateways]
        return returning(self._failover, connectors, leave=leave, chance=self._chance, clock=self._clock)

    async def _ended(self, end: SessionEnd) -> Outcome:
        if end.refused_code == wire.UNAUTHORIZED:
            await self._denied()
        if end.refused_code == wire.SUPERSEDED:
            outcome = self._superseded()
        elif end.accepted:
            self._gateway.accepted()
            outcome = Outcome.FRUITFUL if end.fruitful else Outcome.FRUITLESS
        else:
            outcome = Outcome.FAILED
        if self._failover.is_returning:
            self._disconnected()
        else:
            self._failed(end.reason)
        return outcome

    def _superseded(self) -> Outcome:
        self._gateway.superseded += 1
        if self._gateway.superseded >= _SUPERSEDED_TWICE:
            _log.error(
                "This sled's identity is used twice: another one with the same key keeps taking over.",
                extra=self._extra(),
            )
        return Outcome.FAILED

    async def _denied(self) -> None:
        """A project that no gateway admits under its old name any more goes on under the new one.

        As long as one of them did not say so, what was recorded under the old name may still get there, and
        may even be there already.
        """
        self._gateway.denied = True
        if self._outbox.is_renamed and all(gateway.denied for gateway in self._gateways):
            _log.warning("The old name is not admitted any more; the new one is used.", extra=self._extra())
            await self._outbox.open_epoch(self._outbox.head.acked + 1)

    def _connected(self) -> None:
        self._status.state = "connected"
        self._status.gateway = self._gateway.url
        self._status.last_error = None
        _log.info(
            "Connected to the gateway at %s (%s).",
            self._gateway.url,
            self._status.protocol,
            extra=self._extra(),
        )

    def _failed(self, reason: str) -> None:
        if self._gateway.failed(reason):
            _log.warning(
                "Not connected to the gateway at %s: %s", self._gateway.url, reason, extra=self._extra()
            )
        self._disconnected()
        self._status.last_error = reason if len(self._gateways) == 1 else f"{self._gateway.url}: {reason}"

    def _disconnected(self) -> None:
        self._status.state = "connecting"
        self._status.gateway = None

    def _extra(self) -> dict[str, object]:
        return {"project": self._outbox.head.project, "unacked": self._outbox.head.unacked}
