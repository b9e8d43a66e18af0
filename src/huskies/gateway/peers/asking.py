"""Asking the other gateways how far they hold an epoch, before a sled begins a new one (SPEC 5, rule 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import count
from typing import Protocol

from huskies import limits
from huskies.protocol import peer_wire as wire
from huskies.protocol.gateway import Elsewhere
from huskies.protocol.vectors import Origin

UNKNOWN = Elsewhere(0, complete=False)


class Questions:
    """What was asked of one other gateway; `send` sends a frame."""

    def __init__(self, send: Callable[[wire.Frame], None]) -> None:
        self._send = send
        self._numbers = count(1)
        # The other side answers so many at once; it goes on with one that nobody waits for any more.
        self._turns = asyncio.Semaphore(limits.ASKS_AT_ONCE // 2)
        self._waiting: dict[int, asyncio.Future[Elsewhere]] = {}

    async def ask(self, origin: Origin, asked: Collection[str]) -> Elsewhere:
        """How far it holds the epoch, and those that it asks; not those that are `asked` already."""
        async with self._turns:
            sled_id, epoch = origin
            number = next(self._numbers)
            answer: asyncio.Future[Elsewhere] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            self._send(wire.Ask(number=number, sled_id=sled_id, epoch=epoch, asked=sorted(asked)))
            try:
                return await answer
            finally:
                del self._waiting[number]

    def take(self, answer: wire.Answer) -> None:
        """An answer came."""
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            asked = frozenset(gateway_id.lower() for gateway_id in answer.asked)
            waiting.set_result(Elsewhere(answer.last_seq, answer.complete, asked))

    def give_up(self) -> None:
        """The connection is gone."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(UNKNOWN)


class Askable(Protocol):
    """A gateway that is connected."""

    async def ask(self, origin: Origin, asked: Collection[str]) -> Elsewhere:
        """How far it and those behind it hold the epoch."""


async def ask_all(others: Mapping[str, Askable], origin: Origin, asked: Collection[str]) -> Elsewhere:
    """How far the `others`, by their gateway_id, hold the epoch; each asks on, but none of `asked` and these.

    One that does not say in time leaves it unknown.
    """
    all_asked = {*asked, *others}
    answers = await asyncio.gather(*(_in_time(other.ask(origin, all_asked)) for other in others.values()))
    return Elsewhere(
        max((answer.last_seq for answer in answers), default=0),
        all(answer.complete for answer in answers),
        frozenset[str]().union(*(answer.asked for answer in answers)),
    )


async def _in_time(answer: Awaitable[Elsewhere]) -> Elsewhere:
    try:
        async with asyncio.timeout(limits.ASK_LIMIT):
            return await answer
    except TimeoutError:
        return UNKNOWN
