"""Pages of history: each wanted event once, in both directions, whatever the filter, limit and index."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable

import pytest
from tests.gateway.conftest import OpenLog, OpenLogs, Owner, stored

from huskies import limits
from huskies.gateway.store.cursors import Cursor
from huskies.gateway.store.history import Page
from huskies.gateway.store.index import IndexReader
from huskies.gateway.store.selection import Filter

BLOCKS = 330
STORIES = ("1_bug_x", "2_bug_y", "3_bug_z")
EVENTS = BLOCKS * 3


@pytest.fixture
async def log(open_log: OpenLogs) -> OpenLog:
    """330 blocks of three events: two of shop and one of blog; times rise by one an event."""
    log = await open_log()
    shop, blog = await log.admit(), await log.admit("bb", project="blog")
    owner = Owner()
    for number in range(BLOCKS):
        at = number * 3
        log.append(
            shop,
            number * 2 + 1,
            stored("s", STORIES[number % 3], at),
            stored("s", STORIES[number % 2], at + 1),
            owner=owner,
        )
        log.append(blog, number + 1, stored("b", STORIES[number % 3], at + 2), owner=owner)
        log.next_block()
    await log.settled()
    assert len(log.published) == BLOCKS
    return log


def expected(wanted: Filter) -> list[int]:
    """Positions, worked out from how the log was made."""
    found = []
    for number in range(BLOCKS):
        at = number * 3
        made = (
            ("shop", STORIES[number % 3], at),
            ("shop", STORIES[number % 2], at + 1),
            ("blog", STORIES[number % 3], at + 2),
        )
        found += [
            time + 1
            for project, story, time in made
            if wanted.project in (None, project)
            and wanted.story in (None, story)
            and (wanted.since is None or time >= wanted.since)
            and (wanted.until is None or time < wanted.until)
            and wanted.type in (None, "story_blocked")
        ]
    return found


async def walk(page: Callable[[int], Awaitable[Page]], start: int, limit: int) -> list[int]:
    """All positions, page by page from `start`; every page but the last is full and has a next."""
    found: list[int] = []
    position = start
    while True:
        one = await page(position)
        found += [shown.cursor.position for shown in one.events]
        if one.next is None:
            return found
        assert len(one.events) == limit
        assert one.next == one.events[-1].cursor
        position = one.next.position


async def both_ways(log: OpenLog, wanted: Filter, limit: int) -> None:
    history = log.history
    forth = await walk(lambda at: history.page_after(wanted, at, limit), 0, limit)
    back = await walk(lambda at: history.page_before(wanted, at, limit), EVENTS + 1, limit)
    assert forth == expected(wanted)
    assert back == forth[::-1]


FILTERS = [
    Filter(),
    Filter(project="shop"),
    Filter(project="blog"),
    Filter(project="nobody"),
    Filter(story="2_bug_y"),
    Filter(story="nothing"),
    Filter(project="blog", story="1_bug_x"),
    Filter(type="story_blocked", project="shop"),
    Filter(type="merge_failure"),
    Filter(since=100, until=300),
    Filter(project="shop", since=985),
]


@pytest.mark.parametrize("indexed", [0, 1, 200, BLOCKS])
@pytest.mark.parametrize("wanted", FILTERS, ids=str)
async def test_pages_walk_over_every_wanted_event_once(log: OpenLog, wanted: Filter, indexed: int) -> None:
    if indexed:
        log.index_blocks(log.published[:indexed])
    await both_ways(log, wanted, 97)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1_000])
async def test_pages_of_any_size_leave_nothing_out(log: OpenLog, limit: int) -> None:
    log.index_blocks(log.published[:100])
    await both_ways(log, Filter(story="3_bug_z", project="blog"), limit)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 299, 300, 301, 989, 990])
@pytest.mark.parametrize("indexed", [0, 100, BLOCKS])
async def test_a_page_begins_right_beside_its_cursor(log: OpenLog, start: int, indexed: int) -> None:
    if indexed:
        log.index_blocks(log.published[:indexed])
    wanted = Filter(project="shop")
    after = await log.history.page_after(wanted, start, 1_000)
    before = await log.history.page_before(wanted, start, 1_000)
    everything = expected(wanted)
    assert [shown.cursor.position for shown in after.events] == [at for at in everything if at > start]
    assert [shown.cursor.position for shown in before.events] == [at for at in everything if at < start][::-1]


async def test_a_full_page_without_more_has_no_next(log: OpenLog) -> None:
    page = await log.history.page_after(Filter(), EVENTS - 5, 5)
    assert (len(page.events), page.next) == (5, None)
    page = await log.history.page_before(Filter(), 6, 5)
    assert (len(page.events), page.next) == (5, None)


async def test_the_index_may_grow_between_pages(log: OpenLog) -> None:
    wanted, found, position = Filter(project="blog"), [], 0
    for start in range(0, BLOCKS, 50):
        page = await log.history.page_after(wanted, position, 40)
        found += [shown.cursor.position for shown in page.events]
        position = found[-1]
        log.index_blocks(log.published[start : start + 50])
    rest = await log.history.page_after(wanted, position, 1_000)
    found += [shown.cursor.position for shown in rest.events]
    assert found == expected(wanted)


async def test_what_the_index_learns_while_a_page_is_read_is_not_shown_twice(
    log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.index_blocks(log.published)
    # As where the index grew right after the page asked how far it is.
    monkeypatch.setattr(IndexReader, "position", lambda _: 300)
    await both_ways(log, Filter(project="blog"), 97)


async def test_a_page_looks_at_so_much_and_then_says_where_to_go_on(
    log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCAN_EVENTS_MAX", 300)
    wanted = Filter(since=700, until=710)
    found: list[int] = []
    pages, position = 0, 0
    while True:
        page = await log.history.page_after(wanted, position, 100)
        pages += 1
        found += [shown.cursor.position for shown in page.events]
        if page.next is None:
            break
        assert await _is_of_this_log(log, page.next)
        position = page.next.position
    assert (found, pages) == (list(range(701, 711)), 4)


async def test_a_page_that_looked_at_everything_has_no_next(
    log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCAN_EVENTS_MAX", EVENTS)
    assert (await log.history.page_after(Filter(type="merge_failure"), 0, 10)).next is None
    assert (await log.history.page_before(Filter(type="merge_failure"), EVENTS + 1, 10)).next is None


async def _is_of_this_log(log: OpenLog, cursor: Cursor) -> bool:
    place = await log.history.place(cursor, EVENTS)
    return (place.position, place.reset, place.gap) == (cursor.position, None, None)


async def test_every_cursor_given_out_is_one_of_this_log(log: OpenLog) -> None:
    page = await log.history.page_after(Filter(), 0, 7)
    for shown in page.events:
        assert await _is_of_this_log(log, shown.cursor)
    assert await _is_of_this_log(log, Cursor(log.log.log_id, 0, 0))


async def test_a_cursor_of_another_log_or_beyond_the_end_or_of_other_content_is_reset(log: OpenLog) -> None:
    [first] = (await log.history.page_after(Filter(), 0, 1)).events
    at, chain, log_id = first.cursor.position, first.cursor.chain, log.log.log_id
    for cursor in (
        Cursor("00000000", at, chain),
        Cursor(log_id, at, chain ^ 1),
        Cursor(log_id, EVENTS + 1, chain),
        Cursor(log_id, 10**18, chain),
        Cursor(log_id, 10**19 - 1, chain),
        Cursor(log_id, 0, 1),
    ):
        place = await log.history.place(cursor, EVENTS)
        assert place.position == 0
        assert place.reset


async def drop(log: OpenLog, up_to: int) -> None:
    def delete(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM blocks WHERE position <= ?", (up_to,))

    await log.log.call(delete)


@pytest.mark.parametrize("indexed", [0, BLOCKS])
async def test_what_is_no_longer_retained_is_a_gap_and_the_rest_is_found(log: OpenLog, indexed: int) -> None:
    if indexed:
        log.index_blocks(log.published)
    cursors = [shown.cursor for shown in (await log.history.page_after(Filter(), 0, 400)).events]
    await drop(log, 300)
    assert (await log.history.beginning()).gap == (1, 300)
    assert (await log.history.place(cursors[9], EVENTS)).gap == (11, 300)
    # The block of the cursor is gone, but nothing after it.
    place = await log.history.place(cursors[299], EVENTS)
    assert (place.position, place.gap, place.reset) == (300, None, None)
    assert await _is_of_this_log(log, cursors[300])
    page = await log.history.page_after(Filter(project="shop"), 300, 1_000)
    assert [s.cursor.position for s in page.events] == [
        p for p in expected(Filter(project="shop")) if p > 300
    ]
    page = await log.history.page_before(Filter(project="shop"), EVENTS + 1, 1_000)
    assert len(page.events) == 460
