"""The events of SPEC 2.

A `StatusEvent` lives inside a sled; its `StoredEvent` form, with the time at which it was recorded, is what
leaves it. Texts of a status event may be long (they are shortened when stored), those of a stored event not.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from huskies import limits

STAGES: Final = ("1_backlog", "2_current", "3_qa", "4_merge", "5_done", "6_archived")

StoryId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.STORY_ID_MAX)]
Stage: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.STAGE_MAX)]
AgentName: TypeAlias = Annotated[str, Meta(max_length=limits.AGENT_NAME_MAX)]
StoredName: TypeAlias = Annotated[str, Meta(max_length=limits.STORY_NAME_MAX)]
StoredReason: TypeAlias = Annotated[str, Meta(max_length=limits.REASON_MAX)]
TimestampMs: TypeAlias = Annotated[int, Meta(ge=0, le=limits.TIMESTAMP_MS_MAX)]
UtcDatetime: TypeAlias = Annotated[datetime, Meta(tz=True)]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    story_id: StoryId


class StageTransition(_Event, frozen=True, kw_only=True, tag="stage_transition", gc=False):
    """A story changed stage; both stages are the same where it stopped being blocked without moving."""

    story_name: str = ""
    from_stage: Stage
    to_stage: Stage


class MergeFailure(_Event, frozen=True, kw_only=True, tag="merge_failure", gc=False):
    """A story could not be merged."""

    story_name: str = ""
    reason: str


class StoryBlocked(_Event, frozen=True, kw_only=True, tag="story_blocked", gc=False):
    """A story cannot go on without help."""

    story_name: str = ""
    reason: str


class RateLimitWarning(_Event, frozen=True, kw_only=True, tag="rate_limit_warning", gc=False):
    """An agent working on a story is close to its provider's limit."""

    story_name: str = ""
    agent_name: AgentName


class RateLimitHardBlock(_Event, frozen=True, kw_only=True, tag="rate_limit_hard_block", gc=False):
    """An agent working on a story may not go on before `reset_at`."""

    story_name: str = ""
    agent_name: AgentName
    reset_at: UtcDatetime


class StoredStageTransition(StageTransition, frozen=True, kw_only=True, tag="stage_transition", gc=False):
    """The stored form of `StageTransition`; `timestamp_ms` is when the sled recorded it."""

    story_name: StoredName = ""
    timestamp_ms: TimestampMs


class StoredMergeFailure(MergeFailure, frozen=True, kw_only=True, tag="merge_failure", gc=False):
    """The stored form of `MergeFailure`."""

    story_name: StoredName = ""
    reason: StoredReason
    timestamp_ms: TimestampMs


class StoredStoryBlocked(StoryBlocked, frozen=True, kw_only=True, tag="story_blocked", gc=False):
    """The stored form of `StoryBlocked`."""

    story_name: StoredName = ""
    reason: StoredReason
    timestamp_ms: TimestampMs


class RelayedRateLimitWarning(
    RateLimitWarning, frozen=True, kw_only=True, tag="rate_limit_warning", gc=False
):
    """What a project that opts in (`relay_rate_limits`) relays of a `RateLimitWarning`, on v2 alone."""

    story_name: StoredName = ""
    timestamp_ms: TimestampMs


class RelayedRateLimitHardBlock(
    RateLimitHardBlock, frozen=True, kw_only=True, tag="rate_limit_hard_block", gc=False
):
    """What a project that opts in (`relay_rate_limits`) relays of a `RateLimitHardBlock`, on v2 alone."""

    story_name: StoredName = ""
    timestamp_ms: TimestampMs


StatusEvent: TypeAlias = StageTransition | MergeFailure | StoryBlocked | RateLimitWarning | RateLimitHardBlock
StoredEvent: TypeAlias = StoredStageTransition | StoredMergeFailure | StoredStoryBlocked
RelayedEvent: TypeAlias = StoredEvent | RelayedRateLimitWarning | RelayedRateLimitHardBlock

STORED_TYPES: Final = ("stage_transition", "merge_failure", "story_blocked")
EVENT_TYPES: Final = (*STORED_TYPES, "rate_limit_warning", "rate_limit_hard_block")


def event_type(event: StatusEvent) -> str:
    """The event's `type` on the wire, such as `stage_transition`."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)  # noqa: S101 - narrows the type; every event above has a tag
    return tag
