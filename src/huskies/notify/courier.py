"""Couriers: one a channel, so that a channel that hangs or is away holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from huskies.notify.channel import Channel, DeliveryError, DoubtfulError, Receipt
from huskies.notify.desk import Desk
from huskies.notify.ledger import Pending
from huskies.notify.rules import Doubtful
from huskies.protocol.backoff import Backoff

_log = logging.getLogger("huskies.notify")

# A message that nobody took for so long is a dead letter.
GIVE_UP_MS: Final = 86_400_000
# What a channel asks for is believed, within reason.
_RETRY_AFTER_MAX: Final = 3_600.0
# How long the courier looks no further where nothing is due: someone may have asked for a dead letter again.
_LONGEST_SLEEP: Final = 60.0
_SHORTEST_SLEEP: Final = 0.01
_PROBLEM_MAX: Final = 500


class Courier:
    """Delivers to one channel until cancelled.

    `doubtful`: what is done about a delivery of which nobody knows, where the rule does not say. `chance`
    gives numbers from [0, 1).
    """

    def __init__(
        self, channel: Channel, desk: Desk, *, doubtful: Doubtful, chance: Callable[[], float]
    ) -> None:
        self._channel = channel
        self._desk = desk
        self._doubtful = doubtful
        self._chance = chance
        self._backoff = Backoff()
        self._news = asyncio.Event()
        # By the event loop's clock: when the channel may be tried again.
        self._pause_until = 0.0
        self._is_down = False
        self._is_stopping = False

    def wake(self) -> None:
        """There may be something new to deliver."""
        self._news.set()

    def stop(self) -> None:
        """Deliver nothing more than what is under way."""
        self._is_stopping = True
        self._news.set()

    async def run(self) -> None:
        """Deliver what is due, and wait for more, until stopped; raises `StoreError`."""
        while not self._is_stopping:
            self._news.clear()
            await self._pause()
            found = await self._desk.begin_next(self._channel.name)
            if found is not None:
                await self._deliver(found)
            elif not self._is_stopping:
                await self._rest()

    async def _pause(self) -> None:
        """Leave a channel in peace that was just seen not to take messages."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._pause_until):
                while not self._is_stopping and asyncio.get_running_loop().time() < self._pause_until:
                    await self._news.wait()
                    self._news.clear()

    async def _rest(self) -> None:
        wakes_ms = await self._desk.account(lambda ledger: ledger.wakes_ms(self._channel.name))
        longest = _LONGEST_SLEEP
        if wakes_ms is not None:
            longest = min(longest, max(_SHORTEST_SLEEP, (wakes_ms - self._desk.now_ms()) / 1_000))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._news.wait()

    # --- one message ---------------------------------------------------------------------------------

    async def _deliver(self, found: Pending) -> None:
        if found.cut_off and not self._channel.can_look and self._choice(found) == "leave":
            await self._nobody_knows(found, "the process that sent it ended before it could say")
            return
        try:
            receipt = await self._look_for(found)
            if receipt is None:
                # Where it was looked for it is not in the channel, whatever becomes of this attempt.
                found = msgspec.structs.replace(found, looks=found.looks and not self._channel.can_look)
                receipt = await self._channel.send(found.outgoing)
        except DeliveryError as error:
            await self._not_delivered(found, error)
        except DoubtfulError as error:
            await self._nobody_knows(found, _short(str(error)))
        except Exception as error:  # noqa: BLE001 - a channel that fails must not end the others
            _log.exception("a channel failed", extra={"channel": self._channel.name})
            await self._nobody_knows(found, f"the channel failed: {type(error).__name__}")
        else:
            now_ms = self._desk.now_ms()
            await self._desk.account(lambda ledger: ledger.delivered(found.id, receipt.remote_id, now_ms))
            self._is_up()

    async def _look_for(self, found: Pending) -> Receipt | None:
        """What an earlier attempt may have left in the channel."""
        if not found.looks or not self._channel.can_look:
            return None
        try:
            return await self._channel.look_for(found.outgoing)
        except DoubtfulError as error:
            raise DeliveryError(str(error)) from None
        except DeliveryError as error:
            # Whatever it is, it says nothing of the message.
            raise DeliveryError(str(error), retry_after=error.retry_after) from None

    async def _not_delivered(self, found: Pending, error: DeliveryError) -> None:
        now_ms, problem = self._desk.now_ms(), _short(str(error))
        if error.permanent or now_ms - found.since_ms > GIVE_UP_MS:
            why = problem if error.permanent else f"given up after a day: {problem}"
            await self._give_up(found, why, now_ms)
            return
        # Where the channel is told of one attempt that is in doubt, it stays so after another that failed.
        await self._try_again(found, problem, error.retry_after, looks=found.looks)

    async def _give_up(self, found: Pending, why: str, now_ms: int) -> None:
        extra = {"channel": self._channel.name}
        if found.looks:
            # This attempt failed for certain; of an earlier one nobody knows.
            await self._desk.account(lambda ledger: ledger.in_doubt(found.id, why, now_ms))
            _log.error("a message may have been delivered once, and was not again: %s", why, extra=extra)
        else:
            await self._desk.account(lambda ledger: ledger.failed(found.id, why, now_ms))
            _log.error("a message was not delivered: %s", why, extra=extra)

    async def _nobody_knows(self, found: Pending, problem: str) -> None:
        now_ms = self._desk.now_ms()
        is_young = now_ms - found.since_ms <= GIVE_UP_MS
        if self._channel.can_look or (self._choice(found) == "resend" and is_young):
            await self._try_again(found, problem, None, looks=True)
            return
        await self._desk.account(lambda ledger: ledger.in_doubt(found.id, problem, now_ms))
        _log.warning(
            "a message may have been delivered, or not: %s", problem, extra={"channel": self._channel.name}
        )

    def _choice(self, found: Pending) -> Doubtful:
        return found.doubtful or self._doubtful

    async def _try_again(
        self, found: Pending, problem: str, retry_after: float | None, *, looks: bool
    ) -> None:
        wait = self._backoff.next_delay(self._chance())
        if retry_after is not None:
            wait = max(wait, min(retry_after, _RETRY_AFTER_MAX))
        next_ms = self._desk.now_ms() + int(wait * 1_000)
        await self._desk.account(lambda ledger: ledger.again(found.id, problem, next_ms, looks=looks))
        self._pause_until = asyncio.get_running_loop().time() + wait
        if not self._is_down:
            self._is_down = True
            extra = {"channel": self._channel.name}
            _log.warning(
                "the channel does not take messages, which are kept for it: %s", problem, extra=extra
            )

    def _is_up(self) -> None:
        self._backoff.succeeded()
        if self._is_down:
            self._is_down = False
            _log.info("the channel takes messages again", extra={"channel": self._channel.name})


def _short(text: str) -> str:
    return text[:_PROBLEM_MAX]
