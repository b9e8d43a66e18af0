from __future__ import annotations

import asyncio

import pytest

from huskies.errors import InvalidEventError
from huskies.events.model import StageTransition, StoryBlocked
from huskies.sled.broadcast import Missed, Receipt, StatusBroadcaster, Subscription


def blocked(number: int) -> StoryBlocked:
    return StoryBlocked(story_id=f"{number}_story", reason="stuck")


async def everything(subscription: Subscription) -> list[object]:
    return [event async for event in subscription]


async def test_every_subscriber_gets_everything_in_order() -> None:
    broadcaster = StatusBroadcaster()
    subscriptions = [broadcaster.subscribe() for _ in range(3)]
    for number in range(100):
        assert await broadcaster.publish(blocked(number)) is None
    broadcaster.close()
    for subscription in subscriptions:
        assert await everything(subscription) == [blocked(number) for number in range(100)]


async def test_a_waiting_subscriber_is_woken() -> None:
    broadcaster = StatusBroadcaster()
    async with broadcaster.subscribe() as subscription:
        for number in (1, 2):
            waiting = asyncio.ensure_future(anext(subscription))
            await asyncio.sleep(0)
            assert not waiting.done()
            await broadcaster.publish(blocked(number))
            assert await asyncio.wait_for(waiting, 1) == blocked(number)


async def test_one_that_fell_behind_is_told_where_and_how_much() -> None:
    broadcaster = StatusBroadcaster()
    slow = broadcaster.subscribe(size=2)
    for number in range(5):
        await broadcaster.publish(blocked(number))
    assert await anext(slow) == blocked(0)
    await broadcaster.publish(blocked(5))
    assert [await anext(slow), await anext(slow)] == [blocked(1), Missed(4)]
    await broadcaster.publish(blocked(6))
    broadcaster.close()
    assert await everything(slow) == [blocked(6)]


async def test_closing_ends_those_that_wait_and_those_that_come_later() -> None:
    broadcaster = StatusBroadcaster()
    waiting = asyncio.ensure_future(everything(broadcaster.subscribe()))
    await asyncio.sleep(0)
    broadcaster.close()
    assert await asyncio.wait_for(waiting, 1) == []
    assert await everything(broadcaster.subscribe()) == []


async def test_a_subscription_that_was_left_gets_nothing_more() -> None:
    broadcaster = StatusBroadcaster()
    with broadcaster.subscribe() as subscription:
        await broadcaster.publish(blocked(1))
    await broadcaster.publish(blocked(2))
    assert await everything(subscription) == [blocked(1)]


async def test_a_subscription_can_be_left_asynchronously_too() -> None:
    broadcaster = StatusBroadcaster()
    async with broadcaster.subscribe() as subscription:
        await broadcaster.publish(blocked(1))
    await broadcaster.publish(blocked(2))
    assert await everything(subscription) == [blocked(1)]


async def test_publishing_waits_for_the_recorder_alone() -> None:
    receipt = Receipt(sled_id="s", epoch="e", seq=1)

    async def record(_: object) -> Receipt:
        return receipt

    assert await StatusBroadcaster(record).publish(blocked(1)) == receipt


@pytest.mark.parametrize(
    "event",
    [
        StoryBlocked(story_id="", reason="x"),
        StoryBlocked(story_id="x" * 257, reason="x"),
        StoryBlocked(story_id="\ud800", reason="x"),
        StageTransition(story_id="s", from_stage="nowhere", to_stage="3_qa"),
    ],
)
async def test_an_event_without_the_right_shape_is_refused(event: StoryBlocked | StageTransition) -> None:
    with pytest.raises(InvalidEventError):
        await StatusBroadcaster().publish(event)


def test_a_queue_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        StatusBroadcaster().subscribe(size=0)
