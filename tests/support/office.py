"""A desk with couriers, and channels that fail when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.file_channel import FileChannel
from tests.support.told import NOON, Teller, blocked

from huskies.notify.channel import Outgoing
from huskies.notify.courier import Courier
from huskies.notify.desk import Desk
from huskies.notify.rules import Doubtful, Rule, Rules, default_rules
from huskies.storage.notifications import Notification, Wanted, read_notifications

PATIENCE = 20.0


def failing(error: Exception, times: int = 1) -> Callable[[Outgoing], Awaitable[None]]:
    left = [error] * times

    async def fail(_: Outgoing) -> None:
        if left:
            raise left.pop()

    return fail


class Office:
    """A desk with couriers in one directory, in a process of its own as it were: its clock can be set."""

    def __init__(self, directory: Path, *rules: Rule) -> None:
        self.directory = directory
        self.now_ms = NOON
        table = Rules(rules or default_rules(["a"]), zone=None)
        self.desk = Desk(directory, table, now_ms=lambda: self.now_ms)
        self.teller = Teller()
        self._tasks: list[asyncio.Task[None]] = []

    def deliver(self, channel: FileChannel, doubtful: Doubtful = "leave") -> Courier:
        courier = Courier(channel, self.desk, doubtful=doubtful, chance=lambda: 0.5)
        before = self.desk.on_decided

        def decided(channels: frozenset[str]) -> None:
            before(channels)
            courier.wake()

        self.desk.on_decided = decided
        self._tasks.append(asyncio.create_task(courier.run()))
        return courier

    async def happens(self, number: int) -> None:
        await self.desk.take([self.teller.received(blocked(f"{number}_bug_x"))], f"c-{number}")

    def notifications(self, **wanted: Any) -> list[Notification]:
        return read_notifications(self.directory, Wanted(**wanted), None)[::-1]

    async def until(self, *states: str) -> list[Notification]:
        await self.eventually(lambda: [one.state for one in self.notifications()] == list(states), 0)
        return self.notifications()

    async def eventually(self, holds: Callable[[], bool], goes_on_ms: int = 10) -> None:
        """Wait until it holds; the clock goes on meanwhile, so that what waits has its turn."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if holds():
                    return
                self.now_ms += goes_on_ms
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        ended = (asyncio.CancelledError, type(None))
        assert all(isinstance(outcome, ended) for outcome in outcomes), outcomes
        await self.desk.close()


@asynccontextmanager
async def office(directory: Path, *rules: Rule) -> AsyncIterator[Office]:
    found = Office(directory, *rules)
    await found.desk.account(lambda ledger: ledger.recover())
    try:
        yield found
    finally:
        await found.close()
