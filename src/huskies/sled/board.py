"""Where a project's stories stand, as its sled tells the gateway in a snapshot (SPEC 5, rule 9). Pure.

A story's file says where it stands. Other programs may have published more: a block that no file mentions,
or a story without a file. That is kept beside what was seen, and goes when the pipeline says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from huskies.events.model import STAGES, MergeFailure, StageTransition, StatusEvent, StoryBlocked
from huskies.protocol.wire import SnapshotStory

_encoder = msgspec.json.Encoder()
# What is left out first where not all stories fit: those that no one is waiting for.
_LEAVE_OUT_ORDER: Final = ("6_archived", "5_done", "1_backlog", "2_current", "3_qa", "4_merge")


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What published events say of a story beyond its file; `stage` is None where none named it."""

    story_id: str
    story_name: str = ""
    stage: str | None = None
    blocked: str | None = None
    merge_failure: str | None = None
    since_ms: int = 0


def fold(before: Published | None, event: StatusEvent, timestamp_ms: int) -> Published | None:
    """What is published of the story after `event`; None where the event says nothing of it.

    `event` has texts as long as a stored one may have.
    """
    story = before or Published(story_id=event.story_id, since_ms=timestamp_ms)
    if event.story_name:
        story = msgspec.structs.replace(story, story_name=event.story_name)
    match event:
        case StageTransition():
            since_ms = story.since_ms if story.stage == event.to_stage else timestamp_ms
            return Published(
                story_id=story.story_id, story_name=story.story_name, stage=event.to_stage, since_ms=since_ms
            )
        case StoryBlocked():
            return msgspec.structs.replace(story, blocked=event.reason)
        case MergeFailure():
            return msgspec.structs.replace(story, merge_failure=event.reason)
        case _:
            return None


def merge(seen: Sequence[SnapshotStory], published: Sequence[Published]) -> list[SnapshotStory]:
    """All stories: where a file says so, with what was published beyond it."""
    stories = {story.story_id: story for story in seen}
    for said in published:
        story = stories.get(said.story_id)
        if story is not None:
            stories[said.story_id] = msgspec.structs.replace(
                story,
                blocked=story.blocked or said.blocked,
                merge_failure=story.merge_failure or said.merge_failure,
            )
        elif said.stage is not None:
            stories[said.story_id] = SnapshotStory(
                story_id=said.story_id,
                story_name=said.story_name,
                stage=said.stage,
                blocked=said.blocked,
                merge_failure=said.merge_failure,
                since_ms=said.since_ms,
            )
    return list(stories.values())


def fit(stories: Sequence[SnapshotStory], size_max: int) -> list[SnapshotStory]:
    """The stories, or as many as fit into `size_max` bytes of JSON.

    The archived ones are left out first, then the done; in each stage those with the lowest numbers.
    """
    if len(_encoder.encode(stories)) <= size_max:
        return list(stories)
    kept: list[SnapshotStory] = []
    size = 2
    for story in sorted(stories, key=_importance, reverse=True):
        size += len(_encoder.encode(story)) + 1
        if size > size_max:
            break
        kept.append(story)
    return kept


def _importance(story: SnapshotStory) -> tuple[int, int, str]:
    stage = _LEAVE_OUT_ORDER.index(story.stage) if story.stage in STAGES else 0
    number = story.story_id.partition("_")[0]
    # Compared by length and then digit by digit: no number is too long for that.
    digits = number.lstrip("0") if number.isdecimal() else ""
    return stage, len(digits), story.story_id.lstrip("0")
