"""The notifier: reads a gateway's events, decides what people are told, and delivers it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

from huskies.errors import GatewayUnreachableError
from huskies.notify.channel import Channel
from huskies.notify.courier import Courier
from huskies.notify.desk import Desk
from huskies.notify.footing import Footing
from huskies.notify.model import Gap, Received
from huskies.notify.rules import Doubtful
from huskies.notify.stream import EventSource, Item
from huskies.protocol.backoff import Backoff

_log = logging.getLogger("huskies.notify")

TICK_INTERVAL: Final = 1.0
# How often the board is asked what holds stories up: one that was deleted has no event, nor has one that was
# blocked when its sled first saw it. What is news is asked for again soon; before an escalation, and after a
# start, the board is asked in any case. What takes long is asked for less: a large fleet's is megabytes.
_COMPARE_INTERVAL: Final = 60.0
_CONFIRM_INTERVAL: Final = 10.0
_SHARE_OF_TIME: Final = 0.01
_LONGEST_INTERVAL: Final = 600.0
# What the gateway received so lately is no history.
_LIVE_MS: Final = 2_000
_BEFORE_ESCALATION_MS: Final = 5_000
_PRUNE_INTERVAL: Final = 3_600.0
_ASK_PAUSE: Final = 3.0
# Of the time that the whole process has for stopping.
_LAST_DELIVERY: Final = 1.5


class Notifier:
    """`start`, then `wait`; `stop`, which closes the desk, may be called at any time after.

    `channels` by name; `doubtful` says of each what is done about a delivery of which nobody knows, where the
    rule does not.
    """

    def __init__(
        self,
        desk: Desk,
        source: EventSource,
        channels: Mapping[str, Channel],
        *,
        doubtful: Mapping[str, Doubtful],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.desk = desk
        desk.on_decided = self._decided
        self._source = source
        self._channels = dict(channels)
        self._couriers = {
            name: Courier(channel, self.desk, doubtful=doubtful.get(name, "leave"), chance=chance)
            for name, channel in channels.items()
        }
        self._chance = chance
        self._now_ms = desk.now_ms
        self._tasks: list[asyncio.Task[None]] = []
        self._delivering: list[asyncio.Task[None]] = []
        self._footing = Footing(time.monotonic())
        # Something is to go to channels that are not defined any more: who was told there before.
        self._has_lost = True
        self._ask_board = asyncio.Event()

    async def start(self) -> None:
        """Begin; raises `StoreError`."""
        in_doubt = await self.desk.account(lambda ledger: ledger.recover())
        if in_doubt:
            _log.warning("%d messages were under way when the last process ended", in_doubt)
        await self._fail_lost()
        for work in (self._follow(), self._tick(), self._watch_board()):
            self._tasks.append(asyncio.create_task(work))
        for courier in self._couriers.values():
            self._delivering.append(asyncio.create_task(courier.run()))

    async def wait(self) -> None:
        """Until it is stopped; raises what makes going on impossible."""
        running = [*self._tasks, *self._delivering]
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """End what is under way, keep what is decided, and let go of everything."""
        for task in self._tasks:
            task.cancel()
        for courier in self._couriers.values():
            courier.stop()
        if self._delivering:
            # What ends in the middle would be in doubt.
            await asyncio.wait(self._delivering, timeout=_LAST_DELIVERY)
        for task in self._delivering:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._delivering, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close()
        await self.desk.close()

    def _decided(self, channels: frozenset[str]) -> None:
        for name in channels & self._couriers.keys():
            self._couriers[name].wake()
        self._has_lost = self._has_lost or bool(channels - self._couriers.keys())

    async def _fail_lost(self) -> None:
        self._has_lost = False
        lost = await self.desk.account(lambda ledger: ledger.fail_unknown(self._channels, self._now_ms()))
        if lost:
            _log.error("%d messages wait for channels that are not defined any more", lost)

    # --- the stream ----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        if self.desk.cursor is None:
            await self._begin()
        assert self.desk.cursor is not None  # noqa: S101 - `begin` set it
        await self._source.follow(self.desk.cursor, self)

    async def _begin(self) -> None:
        """The first start: the log's end is where to begin, and the board says what there is to be told."""
        backoff, told = Backoff(), False
        while True:
            try:
                # In this order: what comes between the two is on the board, or in the stream.
                heads = await self._source.heads()
                board = await self._source.board()
            except GatewayUnreachableError as error:
                if not told:
                    told = True
                    _log.warning("waiting for the gateway: %s", error)
                await asyncio.sleep(backoff.next_delay(self._chance()))
            else:
                await self.desk.begin(board, heads)
                return

    async def take(self, items: list[Item], cursor: str | None) -> None:
        """Take a batch of the stream."""
        await self.desk.take(items, cursor)
        if items:
            live_ms = self._now_ms() - _LIVE_MS
            is_live = any(isinstance(item, Received) and item.received_ms >= live_ms for item in items)
            self._footing.took(time.monotonic(), is_live=is_live)
        if any(isinstance(item, Gap) for item in items):
            self._footing.begins_again(time.monotonic())

    async def reset(self) -> None:
        """Events may be missing between the log that was and the one that is."""
        await self.desk.reset()
        self._footing.begins_again(time.monotonic())

    async def connected(self) -> None:
        """The stream is there (again)."""
        self._footing.connected(time.monotonic())
        await self.desk.came_back()

    def disconnected(self) -> None:
        """The stream is lost."""
        self._footing.disconnected(time.monotonic())

    # --- time ----------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        pruned, version = -_PRUNE_INTERVAL, -1
        while True:
            await self._decide()
            if loop.time() - pruned >= _PRUNE_INTERVAL:
                pruned = loop.time()
                await self.desk.account(lambda ledger: ledger.prune(self._now_ms()))
            if self._has_lost:
                await self._fail_lost()
            before, version = version, await self.desk.account(lambda ledger: ledger.version())
            if version != before:
                # Someone asked for messages to be sent again.
                self._decided(frozenset(self._couriers))
            await asyncio.sleep(TICK_INTERVAL)

    async def _decide(self) -> None:
        """Decide on what is due, as far as it can be known that it is so still."""
        is_due = await self.desk.wants_board(_BEFORE_ESCALATION_MS)
        now, footing = time.monotonic(), self._footing
        if footing.wants_board(now, is_due=is_due):
            self._ask_board.set()
        await self.desk.tick(
            at_rest=footing.is_connected,
            caught_up=footing.is_caught_up(now),
            escalates=footing.may_escalate(now),
        )

    async def _watch_board(self) -> None:
        interval = _COMPARE_INTERVAL
        while True:
            try:
                async with asyncio.timeout(interval):
                    await self._ask_board.wait()
            except TimeoutError:
                if not self._footing.is_connected:
                    continue
            self._ask_board.clear()
            interval = await self._compare()
            await asyncio.sleep(_ASK_PAUSE)

    async def _compare(self) -> float:
        """Compare what is known with the board; returns after how long to do so again."""
        asked_at, asked_ms = time.monotonic(), self._now_ms()
        try:
            board = await self._source.board()
        except GatewayUnreachableError:
            # The stream says so, too; after a while escalations go on by what is known.
            return _COMPARE_INTERVAL
        took = time.monotonic() - asked_at
        is_unsure = await self.desk.compare(board, asked_ms)
        self._footing.asked(asked_at)
        await self._decide()
        interval = _CONFIRM_INTERVAL if is_unsure else _COMPARE_INTERVAL
        return min(max(interval, took / _SHARE_OF_TIME), _LONGEST_INTERVAL)
