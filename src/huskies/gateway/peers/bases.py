"""Beginnings that one other gateway retains no more: taken for gone only where no other may have them.

A gateway says `base` where it no longer retains the beginning of a sequence, and goes on behind it. Taking
that means never to take the beginning, so it waits while another gateway may send it. Meanwhile what comes
behind the gap is not wanted (`Incoming.hold_back`): it is acknowledged and not kept, so that nothing piles
up, and asked for again (`Again`, and how far the sequence is held by then) when the wait is over. So who
sent a base cannot tell from acks what is held of the sequence, before that is said (`holders.Sent`).

Whether who sends a base ever held so much cannot be checked: a sequence grows after it was announced, and
what it grew by may be dropped before it is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from huskies import limits
from huskies.gateway.peers.incoming import Incoming
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log
from huskies.gateway.store.streams import names_of
from huskies.protocol import peer_wire as wire
from huskies.protocol.vectors import Origin

_log = logging.getLogger("huskies.peers")

# Who was not waited for within so many seconds is waited for anew.
_FORGET_AFTER: Final = 60.0


class _Wait(msgspec.Struct):
    done: object
    since: float
    looked_at: float


class Waits:
    """How long which gateways have been waited for; `now` is monotonic seconds. Pure."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def is_worth_it(self, whom: Mapping[str, object], now: float) -> bool:
        """Whether to wait on for any of these; each with what shows how far it has come."""
        worth = False
        for name, done in whom.items():
            wait = self._waits.get(name)
            if wait is None or wait.done != done or now - wait.looked_at > _FORGET_AFTER:
                wait = self._waits[name] = _Wait(done, now, now)
            wait.looked_at = now
            worth = worth or now - wait.since < limits.BASE_PATIENCE
        return worth


class Source(Protocol):
    """Another gateway that is connected, and may send what one no longer retains."""

    @property
    def peer_id(self) -> str:
        """Its gateway_id."""

    @property
    def bases(self) -> Bases:
        """What it retains no more."""

    def has_yet_to_send(self, origin: Origin) -> bool:
        """Whether it said that it holds more of the sequence than this log does."""

    def progress(self) -> object:
        """Changes as what it held comes."""


class Bases:
    """The bases that one other gateway sends.

    `others` says which other gateways are connected, and the names of those that ought to be; `ask_again`
    asks for a sequence again, by the other side's number; `say` says how far it is held here.
    """

    def __init__(
        self,
        log: Log,
        incoming: Incoming,
        waits: Waits,
        *,
        others: Callable[[], tuple[Iterable[Source], Iterable[str]]],
        ask_again: Callable[[int], None],
        say: Callable[[Stream, int, int], None],
    ) -> None:
        self._log = log
        self._incoming = incoming
        self._waits = waits
        self._others = others
        self._ask_again = ask_again
        self._say = say
        # The other gateway's newest base of each sequence, and which were not taken yet.
        self._said: dict[Origin, int] = {}
        self._deferred: dict[Origin, wire.Base] = {}

    async def take(self, base: wire.Base, now: float) -> None:
        """The other gateway says this; what it sent before is settled first."""
        stream = self._incoming.stream(base.number)
        self._said[stream.origin] = base.seq
        if self._whom(stream, base.seq, now):
            await self._log.call(lambda _: None)
            if self._must_wait(stream, base.seq, now):
                self._incoming.hold_back(base.number)
                self._deferred[stream.origin] = base
                return
        self._deferred.pop(stream.origin, None)
        await self._adopt(stream, base)

    async def look_again(self, now: float) -> None:
        """Take the bases for which there is nothing to wait any more; call it about once a second."""
        due = [
            (origin, base)
            for origin, base in self._deferred.items()
            if not self._must_wait(self._incoming.stream(base.number), base.seq, now)
        ]
        await asyncio.gather(*(self._take_deferred(origin, base) for origin, base in due))

    async def _take_deferred(self, origin: Origin, base: wire.Base) -> None:
        del self._deferred[origin]
        # What comes again must find the gap filled.
        await self._adopt(self._incoming.stream(base.number), base, lambda: self._ask_again(base.number))

    def waits_for(self, origin: Origin) -> bool:
        """Whether what comes of the sequence is held back."""
        return origin in self._deferred

    def retains_before(self, origin: Origin, seq: int) -> bool:
        """Whether the other gateway has not said that it retains nothing up to `seq`."""
        return self._said.get(origin, 0) < seq

    def _whom(self, stream: Stream, seq: int, now: float) -> dict[str, object]:
        """Who may send what comes up to `seq`, each with what shows how far it has come."""
        links, missing = self._others()
        whom: dict[str, object] = dict.fromkeys(missing)
        for link in links:
            if link.has_yet_to_send(stream.origin) and link.bases.retains_before(stream.origin, seq):
                # One that waits itself does so for a time of its own.
                waits = link.bases.waits_for(stream.origin)
                whom[link.peer_id] = now if waits else link.progress()
        return whom

    def _must_wait(self, stream: Stream, seq: int, now: float) -> bool:
        live = self._log.sequences.live(stream.origin)
        if live is not None and live.last_seq >= seq:
            return False
        whom = self._whom(stream, seq, now)
        if self._waits.is_worth_it(whom, now):
            return True
        if whom:
            _log.warning(
                "the beginning of a sequence is given up: one gateway retains it no more, and it did not "
                "come from %s",
                ", ".join(sorted(whom)),
                extra={**names_of(stream), "to": seq},
            )
        return False

    async def _adopt(
        self, stream: Stream, base: wire.Base, adopted: Callable[[], None] = lambda: None
    ) -> None:
        # Both in one commit.
        _, held = await asyncio.gather(
            self._log.adopt_base(stream, base.seq, base.digest),
            self._log.call(lambda _: self._standing(stream)),
        )
        adopted()
        self._say(*held)

    def _standing(self, stream: Stream) -> tuple[Stream, int, int]:
        live = self._log.sequences.live(stream.origin) or stream
        return live, live.last_seq, live.digest
