"""The fleet: where each project's stories stand, as a projection of the log and of snapshots. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from huskies.events.model import (
    RelayedEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.gateway.store.blocks import Block, Stream
from huskies.protocol.wire import SnapshotStory


class Story(msgspec.Struct):
    """Where one story stands, and since when (Unix ms, on the sled where an event said so).

    `stream_id` and `seq` name the event that said so last (0: a snapshot).
    """

    name: str = ""
    stage: str | None = None
    since_ms: int | None = None
    blocked: str | None = None
    blocked_since_ms: int | None = None
    merge_failure: str | None = None
    merge_failure_since_ms: int | None = None
    stream_id: int = 0
    seq: int = 0


class Project(msgspec.Struct):
    """One project's board; `last_seen_ms` is when its sled was last heard."""

    stories: dict[str, Story] = {}
    last_seen_ms: int | None = None


class Fleet(msgspec.Struct):
    """All projects as of `position` in the log."""

    position: int = 0
    chain: int = 0
    projects: dict[str, Project] = {}

    def project(self, name: str) -> Project:
        """The project of this name, made where it is new."""
        found = self.projects.get(name)
        if found is None:
            found = self.projects[name] = Project()
        return found

    def seen(self, name: str, now_ms: int) -> None:
        """The project's sled was heard at `now_ms`."""
        project = self.project(name)
        project.last_seen_ms = max(project.last_seen_ms or 0, now_ms)

    def apply_block(self, block: Block, streams: Sequence[Stream | None]) -> None:
        """Follow the log by one block; `streams` is indexed by stream id."""
        events = block.events()
        start = 0
        for run in block.runs:
            stream = streams[run.stream_id]
            assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
            project = self.project(stream.project)
            project.last_seen_ms = max(project.last_seen_ms or 0, run.received_ms)
            shown = events[start : start + run.shown(stream)]
            _apply_run(project.stories, shown, run.stream_id, run.first_seq)
            start += run.count
        self.position = block.last_position
        self.chain = block.chain

    def forget_branch(self, project: str, stream_id: int, after_seq: int) -> None:
        """What was said last by events that are in quarantine now is not known any more."""
        stories = self.project(project).stories
        for story_id in [
            story_id
            for story_id, story in stories.items()
            if story.stream_id == stream_id and story.seq > after_seq
        ]:
            del stories[story_id]

    def apply_snapshot(
        self, name: str, stream_id: int, seq: int, stories: Iterable[SnapshotStory], now_ms: int
    ) -> None:
        """Correct a project's board by what its sled says of all its stories as of `seq`.

        What the log says of a story after `seq` stays.
        """
        project = self.project(name)
        before = project.stories
        after = {
            story_id: story
            for story_id, story in before.items()
            if story.stream_id == stream_id and story.seq > seq
        }
        for said in stories:
            if said.story_id not in after:
                after[said.story_id] = _from_snapshot(said, before.get(said.story_id), now_ms)
        project.stories = after


def _apply_run(
    stories: dict[str, Story], events: Sequence[RelayedEvent], stream_id: int, first_seq: int
) -> None:
    # Runs for every event of every sled in the event loop: written to cost little rather than to be short.
    for seq, event in enumerate(events, first_seq):
        if isinstance(event, (StoredStageTransition, StoredStoryBlocked, StoredMergeFailure)):
            story = stories.get(event.story_id)
            if story is None:
                story = stories[event.story_id] = Story()
            story.stream_id = stream_id
            story.seq = seq
            if event.story_name:
                story.name = event.story_name
            if isinstance(event, StoredStageTransition):
                if story.stage != event.to_stage or event.from_stage != event.to_stage:
                    story.since_ms = event.timestamp_ms
                story.stage = event.to_stage
                if story.blocked is not None or story.merge_failure is not None:
                    story.blocked = story.blocked_since_ms = None
                    story.merge_failure = story.merge_failure_since_ms = None
            elif isinstance(event, StoredStoryBlocked):
                story.blocked, story.blocked_since_ms = event.reason, event.timestamp_ms
            else:
                story.merge_failure, story.merge_failure_since_ms = event.reason, event.timestamp_ms


def _from_snapshot(said: SnapshotStory, before: Story | None, now_ms: int) -> Story:
    """The story as the snapshot has it; what stands as it stood before has done so since then."""
    before = before or Story()
    since_ms = said.since_ms
    if since_ms is None:
        since_ms = before.since_ms if before.stage == said.stage else now_ms
    return Story(
        name=said.story_name,
        stage=said.stage,
        since_ms=since_ms,
        blocked=said.blocked,
        blocked_since_ms=_since(said.blocked, before.blocked, before.blocked_since_ms, now_ms),
        merge_failure=said.merge_failure,
        merge_failure_since_ms=_since(
            said.merge_failure, before.merge_failure, before.merge_failure_since_ms, now_ms
        ),
    )


def _since(reason: str | None, before: str | None, before_ms: int | None, now_ms: int) -> int | None:
    if reason is None:
        return None
    return before_ms if reason == before and before_ms is not None else now_ms
