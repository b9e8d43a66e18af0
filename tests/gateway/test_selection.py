from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huskies.events import codec
from huskies.events.model import (
    RelayedEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
    event_type,
)
from huskies.gateway.store.blocks import Batch, Block, Stream, pack
from huskies.gateway.store.cursors import Cursor
from huskies.gateway.store.selection import Filter, _hits, select

SHOP, BLOG = Stream(1, "aa", "e1", "shop"), Stream(2, "bb", "e2", "blog")
STREAMS = [None, SHOP, BLOG]
EVENTS: list[RelayedEvent] = [
    StoredStoryBlocked(story_id="1_bug_x", reason="r", timestamp_ms=100),
    StoredStageTransition(story_id="1_bug_x", from_stage="a", to_stage="b", timestamp_ms=200),
    StoredStoryBlocked(story_id="2_bug_y", reason="r", timestamp_ms=300),
]


def block() -> Block:
    """Positions 11 to 16: three events of shop (seq 7 to 9), then the same of blog (seq 1 to 3)."""
    [(made, _)] = pack([Batch(SHOP, 7, 5_000, 8, EVENTS), Batch(BLOG, 1, 6_000, 0, EVENTS)], 11, 99)
    return made


def positions(wanted: Filter, after: int = 0) -> list[int]:
    return [shown.cursor.position for shown in select(block(), STREAMS, "0123abcd", wanted, after)]


def test_an_event_is_shown_as_the_specification_says() -> None:
    made = block()
    shown = list(select(made, STREAMS, "0123abcd", Filter()))
    assert shown[0].cursor == Cursor("0123abcd", 11, made.chain)
    assert list(json.loads(shown[1].json).items()) == [
        ("cursor", f"0123abcd-12-{made.chain:08x}"),
        ("project", "shop"),
        ("sled_id", "aa"),
        ("epoch", "e1"),
        ("seq", 8),
        ("received_ms", 5_000),
        ("replayed", True),
        (
            "event",
            {
                "type": "stage_transition", "story_id": "1_bug_x", "story_name": "", "from_stage": "a",
                "to_stage": "b", "timestamp_ms": 200,
            },
        ),
    ]  # fmt: skip


def test_what_was_recorded_before_the_session_is_replayed_and_nothing_else() -> None:
    shown = select(block(), STREAMS, "0123abcd", Filter())
    assert [json.loads(one.json)["replayed"] for one in shown] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [11, 12, 13, 14, 15, 16]),
        (Filter(project="shop"), [11, 12, 13]),
        (Filter(project="blog"), [14, 15, 16]),
        (Filter(project="other"), []),
        (Filter(story="1_bug_x"), [11, 12, 14, 15]),
        (Filter(story="1_bug"), []),
        (Filter(type="story_blocked"), [11, 13, 14, 16]),
        (Filter(type="merge_failure"), []),
        (Filter(since=200), [12, 13, 15, 16]),
        (Filter(until=200), [11, 14]),
        (Filter(since=200, until=201), [12, 15]),
        (Filter(since=0), [11, 12, 13, 14, 15, 16]),
        (Filter(project="blog", story="2_bug_y", type="story_blocked", since=300, until=301), [16]),
    ],
)
def test_a_filter_admits_what_it_says(wanted: Filter, found: list[int]) -> None:
    assert positions(wanted) == found


@pytest.mark.parametrize("after", range(18))
@pytest.mark.parametrize("wanted", [Filter(), Filter(project="blog"), Filter(story="1_bug_x")])
def test_a_position_cuts_off_what_lies_up_to_it(wanted: Filter, after: int) -> None:
    assert positions(wanted, after) == [position for position in positions(wanted) if position > after]


TRICKY = ['{"type":"', '"story_id":"a",', '{"type":"story_blocked",', "é", "x", "a"]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(TRICKY), st.sampled_from(TRICKY), st.booleans()), min_size=1))
def test_what_stands_inside_a_text_is_never_taken_for_an_event(drawn: list[tuple[str, str, bool]]) -> None:
    events: list[RelayedEvent] = [
        StoredStoryBlocked(story_id=story, reason=text, timestamp_ms=1)
        if is_blocked
        else StoredMergeFailure(story_id=story, reason=text, timestamp_ms=1)
        for story, text, is_blocked in drawn
    ]
    for wanted in (*(Filter(story=story) for story in TRICKY), Filter(type="story_blocked", story="a")):
        expected = [
            index
            for index, event in enumerate(events)
            if event.story_id == wanted.story and wanted.type in (None, event_type(event))
        ]
        block = Block(1, len(events), 0, 0, [], codec.encode_batch(events))
        assert list(_hits(block, wanted)) == expected
