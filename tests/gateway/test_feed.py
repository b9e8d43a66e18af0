from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.events.model import StoredStoryBlocked
from huskies.gateway.feed import Feed
from huskies.gateway.store.blocks import Batch, Block, Stream, pack
from huskies.gateway.store.cursors import Cursor

STREAMS = [None, Stream(1, "aa", "e1", "shop"), Stream(2, "bb", "e2", "blog")]
PATIENCE = 10
LONG = 3_600.0


class Source:
    """Makes the blocks of a log, one after the other."""

    def __init__(self) -> None:
        self.position = 0
        self.chain = 0

    def block(self, count: int = 1, stream_id: int = 1, reason: str = "r") -> Block:
        event = StoredStoryBlocked(story_id="1_bug_x", reason=reason, timestamp_ms=1)
        stream = STREAMS[stream_id]
        assert stream is not None
        [(block, _)] = pack([Batch(stream, 1, 1, 0, [event] * count)], self.position + 1, self.chain)
        self.position, self.chain = block.last_position, block.chain
        return block


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def feed() -> Feed:
    return Feed("0123abcd", 0, 0)


async def waiting(feed: Feed, project: str | None = None, seconds: float = LONG) -> asyncio.Task[int]:
    task = asyncio.create_task(feed.wait(project, seconds))
    await asyncio.sleep(0)
    return task


async def result(task: asyncio.Task[int]) -> int:
    async with asyncio.timeout(PATIENCE):
        return await task


def test_the_head_is_the_newest_event(feed: Feed, source: Source) -> None:
    assert feed.head == Cursor("0123abcd", 0, 0)
    feed.publish([source.block(3), source.block(2)], STREAMS)
    assert feed.head == Cursor("0123abcd", 5, source.chain)
    feed.publish([], STREAMS)
    assert feed.head.position == 5


def test_what_is_beyond_a_position_is_given_with_the_block_it_lies_in(feed: Feed, source: Source) -> None:
    blocks = [source.block(3), source.block(2), source.block(4)]
    feed.publish(blocks, STREAMS)
    given = {position: feed.recent(position) for position in range(10)}
    assert [given[0], given[2], given[3], given[5], given[8], given[9]] == [
        blocks, blocks, blocks[1:], blocks[2:], blocks[2:], [],
    ]  # fmt: skip


def test_what_lies_before_memory_must_be_read_from_the_log(source: Source) -> None:
    source.block(10)
    feed = Feed("0123abcd", source.position, source.chain)
    assert (feed.recent(4), feed.recent(10)) == (None, [])
    feed.publish([source.block(1)], STREAMS)
    assert feed.recent(9) is None
    assert feed.recent(10) == feed._blocks


@given(st.lists(st.integers(1, 256), min_size=1, max_size=20), st.integers(0, 3_000))
def test_between_memory_and_log_there_is_no_seam(sizes: list[int], position: int) -> None:
    source, feed = Source(), Feed("0123abcd", 0, 0)
    for size in sizes:
        feed.publish([source.block(size)], STREAMS)
    blocks = feed.recent(position)
    assert blocks is not None
    if position < source.position:
        assert blocks[0].position <= position + 1 <= blocks[0].last_position
        assert blocks[-1].last_position == source.position
        assert all(b.position == a.last_position + 1 for a, b in itertools.pairwise(blocks))
    else:
        assert blocks == []


@pytest.mark.parametrize(("limit", "value"), [("RECENT_EVENTS_MAX", 10), ("RECENT_BYTES_MAX", 500)])
def test_memory_is_bounded(
    feed: Feed, source: Source, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(limits, limit, value)
    for _ in range(50):
        feed.publish([source.block(3)], STREAMS)
    held = feed._blocks
    assert 1 <= len(held) <= 4
    assert feed._events == sum(block.count for block in held)
    assert feed._bytes == sum(len(block.events_json) for block in held)
    assert feed.recent(held[0].position - 1) == held
    assert feed.recent(held[0].position - 2) is None


def test_the_newest_block_stays_however_large(
    feed: Feed, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_BYTES_MAX", 10)
    feed.publish([source.block(1), source.block(200)], STREAMS)
    assert [block.count for block in feed._blocks] == [200]


async def test_a_reader_is_woken_by_its_project_alone(feed: Feed, source: Source) -> None:
    shop, blog, everything = await waiting(feed, "shop"), await waiting(feed, "blog"), await waiting(feed)
    feed.publish([source.block(stream_id=2)], STREAMS)
    assert await result(blog) == await result(everything) == 0
    assert not shop.done()
    feed.publish([source.block(stream_id=1)], STREAMS)
    assert await result(shop) == 1


async def test_a_woken_reader_finds_what_woke_it(feed: Feed, source: Source) -> None:
    feed.publish([source.block(5)], STREAMS)
    task = await waiting(feed, "shop")
    feed.publish([source.block(2), source.block(1, stream_id=2)], STREAMS)
    feed.publish([source.block(1)], STREAMS)
    blocks = feed.recent(await result(task))
    assert blocks is not None
    assert [block.position for block in blocks] == [6, 8, 9]


async def test_after_its_time_a_reader_stands_at_the_head(feed: Feed, source: Source) -> None:
    task = await waiting(feed, "shop", 0.01)
    feed.publish([source.block(3, stream_id=2)], STREAMS)
    assert await result(task) == 3


async def test_an_event_that_comes_as_a_readers_time_ends_is_not_skipped(feed: Feed, source: Source) -> None:
    task = await waiting(feed, "shop", 0)
    # The next turn of the loop first ends the reader's time, then publishes; the reader only runs after both.
    asyncio.get_running_loop().call_soon(feed.publish, [source.block()], STREAMS)
    assert await result(task) == 0


async def test_closing_wakes_everyone(feed: Feed, source: Source) -> None:
    feed.publish([source.block()], STREAMS)
    tasks = [await waiting(feed, project) for project in (None, "shop", "blog")]
    feed.close()
    assert [await result(task) for task in tasks] == [1, 1, 1]
    assert feed.closed


async def test_no_one_is_remembered_who_no_longer_waits(feed: Feed, source: Source) -> None:
    gone = await waiting(feed, "shop")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    feed.publish([source.block()], STREAMS)
    await result(await waiting(feed, "blog", 0))
    assert feed._waiting == {}
