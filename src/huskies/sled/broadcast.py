"""Status events for programs in the same process (SPEC 3): no subscriber can hold up a publisher."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

import msgspec

from huskies import limits
from huskies.events.model import StatusEvent
from huskies.sled.intake import checked


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """An event is durable, under this identity; `seq` is None for one that is not relayed."""

    sled_id: str
    epoch: str
    seq: int | None


class Missed(msgspec.Struct, frozen=True):
    """In the place of so many events that a subscriber was too slow for."""

    count: int


Recorder: TypeAlias = Callable[[StatusEvent], Awaitable[Receipt]]


class Subscription:
    """One subscriber's events, in publication order: an async iterator, and a context manager that ends it.

    A `Missed` stands exactly where events are missing. For one reader at a time.
    """

    def __init__(self, broadcaster: StatusBroadcaster, size: int) -> None:
        self._broadcaster = broadcaster
        self._size = size
        self._queue: deque[StatusEvent | Missed] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StatusEvent | Missed:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more events; those in the queue can still be read, then the iteration ends."""
        self._closed = True
        self._broadcaster.discard(self)
        self._wake.set()

    def offer(self, event: StatusEvent) -> None:
        """Queue the event, or count it as missed where the queue is full."""
        if len(self._queue) < self._size:
            self._queue.append(event)
        elif isinstance(last := self._queue[-1], Missed):
            self._queue[-1] = Missed(last.count + 1)
        else:
            self._queue.append(Missed(1))
        self._wake.set()


class StatusBroadcaster:
    """Publishes status events; used from one event loop.

    With a `recorder` an event is durable before `publish` returns, and whoever records calls `announce` in
    commit order. Without one, events are only passed on to the subscribers.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder
        self._subscriptions: dict[Subscription, None] = {}
        self._closed = False

    def subscribe(self, size: int = limits.SUBSCRIBER_QUEUE_MAX) -> Subscription:
        """A subscription to what is published from now on; at most `size` (≥ 1) events wait in it."""
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        subscription = Subscription(self, size)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions[subscription] = None
        return subscription

    async def publish(self, event: StatusEvent) -> Receipt | None:
        """Publish the event; returns once it is durable (None: there is no recorder).

        Raises `InvalidEventError` for one without the shape of SPEC 2, `StoreError` where it cannot be
        recorded.
        """
        if self._recorder is not None:
            return await self._recorder(event)
        self.announce(checked(event))
        return None

    def announce(self, event: StatusEvent) -> None:
        """Pass an event on to every subscriber; never waits."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    def close(self) -> None:
        """End every subscription once what it holds is read."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()

    def discard(self, subscription: Subscription) -> None:
        """Forget a subscription that was closed."""
        self._subscriptions.pop(subscription, None)
