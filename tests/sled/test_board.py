from __future__ import annotations

import msgspec
import pytest

from huskies.events.model import MergeFailure, RateLimitWarning, StageTransition, StoryBlocked
from huskies.protocol.wire import SnapshotStory
from huskies.sled.board import Published, fit, fold, merge
from huskies.sled.identity import Identity, Step, decide


def test_what_published_events_say_of_a_story() -> None:
    story = fold(None, StoryBlocked(story_id="s", story_name="N", reason="b"), 10)
    assert story == Published(story_id="s", story_name="N", blocked="b", since_ms=10)
    story = fold(story, MergeFailure(story_id="s", reason="m"), 20)
    assert story is not None
    assert (story.story_name, story.blocked, story.merge_failure) == ("N", "b", "m")
    story = fold(story, StageTransition(story_id="s", from_stage="3_qa", to_stage="4_merge"), 30)
    assert story == Published(story_id="s", story_name="N", stage="4_merge", since_ms=30)
    story = fold(story, StageTransition(story_id="s", from_stage="4_merge", to_stage="4_merge"), 40)
    assert story is not None
    assert story.since_ms == 30
    assert fold(story, RateLimitWarning(story_id="s", agent_name="coder"), 50) is None


def test_a_file_says_where_its_story_stands() -> None:
    seen = [
        SnapshotStory(story_id="s", stage="3_qa"),
        SnapshotStory(story_id="t", stage="3_qa", blocked="file"),
    ]
    published = [
        Published(story_id="s", stage="5_done", blocked="said"),
        Published(story_id="t", blocked="said"),
        Published(story_id="u", stage="5_done", story_name="U", since_ms=7),
        Published(story_id="v", blocked="of a story that stands nowhere"),
    ]
    assert merge(seen, published) == [
        SnapshotStory(story_id="s", stage="3_qa", blocked="said"),
        SnapshotStory(story_id="t", stage="3_qa", blocked="file"),
        SnapshotStory(story_id="u", stage="5_done", story_name="U", since_ms=7),
    ]


def test_what_is_left_out_first() -> None:
    ids = {"9_a": "6_archived", "10_b": "6_archived", "x": "6_archived", "1_c": "5_done", "2_d": "1_backlog"}
    stories = [SnapshotStory(story_id=story_id, stage=stage) for story_id, stage in ids.items()]
    assert fit(stories, 10_000) == stories
    most_important_first = ["2_d", "1_c", "10_b", "9_a", "x"]
    for count in range(1, 5):
        expected = [
            story
            for story_id in most_important_first[:count]
            for story in stories
            if story.story_id == story_id
        ]
        assert fit(stories, len(msgspec.json.encode(expected)) + 1) == expected


HERE, THERE = Identity("shop", "/here"), Identity("shop", "/there")
RENAMED = Identity("store", "/here")


@pytest.mark.parametrize(
    ("found", "same_directory", "unacked", "expected"),
    [
        (HERE, True, 5, Step.KEEP),
        (THERE, True, 5, Step.KEEP),
        (THERE, False, 5, Step.DRAIN_FIRST),
        (THERE, False, 0, Step.BEGIN_ANEW),
        (RENAMED, True, 5, Step.DRAIN_FIRST),
        (RENAMED, True, 0, Step.BEGIN_ANEW),
    ],
)
def test_which_identity_a_sled_starts_under(
    found: Identity, *, same_directory: bool, unacked: int, expected: Step
) -> None:
    assert decide(HERE, found, same_directory=same_directory, unacked=unacked) is expected
