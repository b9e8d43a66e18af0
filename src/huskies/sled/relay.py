"""The relay: keeps a session with the gateway, for ever (SPEC 3 and 5)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from huskies.errors import StoreError
from huskies.protocol import wire
from huskies.protocol.backoff import Backoff
from huskies.sled.outbox import Outbox
from huskies.sled.relay_connect import AttemptError, Connector
from huskies.sled.relay_v1 import V1Session
from huskies.sled.relay_v2 import SessionEnd, V2Session
from huskies.sockets import close_socket

_log = logging.getLogger("huskies.sled")

RelayState: TypeAlias = Literal["off", "connecting", "connected", "catching_up"]
# A first `superseded` may be this sled's own older session; from the second in a row on it is someone else.
_SUPERSEDED_TWICE: Final = 2
_NEW_NAME: Final = "the project was renamed or moved; its new name is used from now on"


class RelayStatus(msgspec.Struct):
    """How the relay is doing; `protocol` is that of the newest session, `last_error` holds no secret."""

    state: RelayState = "off"
    protocol: str | None = None
    last_error: str | None = None


class Relay:
    """Relays the outbox to a gateway; `chance` draws evenly from [0, 1), `clock` is monotonic seconds."""

    def __init__(
        self,
        connector: Connector,
        outbox: Outbox,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connector = connector
        self._outbox = outbox
        self._chance = chance
        self._clock = clock
        self._backoff = Backoff()
        self._failures = 0
        self._superseded = 0
        self._said_v1 = False
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
                await self._once()
                await asyncio.sleep(self._backoff.next_delay(self._chance()))
        finally:
            self._status.state = "off"
            await self._connector.close()

    async def _once(self) -> None:
        self._status.state = "connecting"
        try:
            end = await self._session()
        except AttemptError as error:
            if error.unauthorized:
                await self._give_up_old_name()
            self._failed(error.reason)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - whatever a gateway answers, the next attempt may succeed
            _log.exception("The relay's attempt failed unexpectedly.", extra=self._extra())
            self._failed("an unexpected error, see the log")
        else:
            await self._ended(end)

    async def _session(self) -> SessionEnd:
        outbox = self._outbox
        project = outbox.head.project
        socket = await self._connector.connect(project)
        try:
            if socket.protocol != wire.SUBPROTOCOL:
                return await self._session_v1(V1Session(socket, outbox, clock=self._clock))
            await outbox.remember_v2(self._connector.url)
            if outbox.head.spoke_v1:
                # What v1 sent has no identity at any gateway: the history under this epoch ends there.
                await outbox.open_epoch(outbox.head.acked + 1)
                if outbox.head.project != project:
                    raise AttemptError(_NEW_NAME)
            self._status.protocol = "v2"
            return await V2Session(socket, outbox, clock=self._clock, accepted=self._connected).run()
        finally:
            await close_socket(socket, wire.CLOSE_GOING_AWAY, "")

    async def _session_v1(self, session: V1Session) -> SessionEnd:
        outbox = self._outbox
        if outbox.has_spoken_v2(self._connector.url):
            raise AttemptError("the gateway does not choose v2, which it spoke before")
        if outbox.identity_pending:
            # v1 knows no identity, so there is nothing to deliver under the old one.
            await outbox.open_epoch(outbox.head.acked + 1)
            raise AttemptError(_NEW_NAME)
        if not self._said_v1:
            self._said_v1 = True
            _log.warning("The gateway does not speak v2; events are sent at most once.", extra=self._extra())
        self._status.protocol = "v1"
        self._connected()
        return SessionEnd(accepted=True, reason=await session.run())

    async def _ended(self, end: SessionEnd) -> None:
        if end.refused_code == wire.UNAUTHORIZED:
            await self._give_up_old_name()
        if end.refused_code == wire.SUPERSEDED:
            self._superseded += 1
            if self._superseded >= _SUPERSEDED_TWICE:
                _log.error(
                    "This sled's identity is used twice: another one with the same key keeps taking over.",
                    extra=self._extra(),
                )
        elif end.accepted:
            self._superseded = 0
            self._failures = 0
            self._backoff.succeeded()
        self._failed(end.reason)

    async def _give_up_old_name(self) -> None:
        """A project that is not admitted under its old name any more goes on under the new one."""
        if self._outbox.is_renamed:
            _log.warning("The old name is not admitted any more; the new one is used.", extra=self._extra())
            await self._outbox.open_epoch(self._outbox.head.acked + 1)

    def _connected(self) -> None:
        self._status.state = "connected"
        self._status.last_error = None
        _log.info(
            "Connected to the gateway at %s (%s).",
            self._connector.url,
            self._status.protocol,
            extra=self._extra(),
        )

    def _failed(self, reason: str) -> None:
        self._failures += 1
        # One line for each new reason, and for the 1st, 2nd, 4th, 8th, … attempt in a row.
        if reason != self._status.last_error or self._failures & (self._failures - 1) == 0:
            _log.warning(
                "Not connected to the gateway at %s: %s", self._connector.url, reason, extra=self._extra()
            )
        self._status.state = "connecting"
        self._status.last_error = reason

    def _extra(self) -> dict[str, object]:
        return {"project": self._outbox.head.project, "unacked": self._outbox.head.unacked}
