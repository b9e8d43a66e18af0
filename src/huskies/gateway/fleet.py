"""The fleet: where each project's stories stand, as a projection of the log and of snapshots. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from huskies.events.model import (
    RelayedEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.gateway.standing import Said, SaidByStory, Snapshot, Story, joined, newest_ms, prune
from huskies.gateway.store.blocks import Block, Stream
from huskies.protocol.vectors import Origin


class Project(msgspec.Struct, forbid_unknown_fields=True):
    """What its sequences and its newest snapshot say; `last_seen_ms` is when its sled was last heard."""

    sequences: dict[Origin, SaidByStory] = {}
    snapshot: Snapshot | None = None
    last_seen_ms: int | None = None

    def stories(self) -> dict[str, Story]:
        """Where each of its stories stands."""
        return joined(self.sequences, self.snapshot)

    def newest_ms(self) -> int:
        """The newest time that anything says which is known of it, whoever's clock that is of."""
        received_ms = 0 if self.snapshot is None else self.snapshot.received_ms
        return max(received_ms, newest_ms(self.sequences))


class Fleet(msgspec.Struct, forbid_unknown_fields=True):
    """All projects as of `position` in the log.

    Unknown fields are forbidden, so that what was kept in another shape is folded again, not misread.
    """

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
            if project.last_seen_ms is None or run.received_ms > project.last_seen_ms:
                project.last_seen_ms = run.received_ms
            said_by_story = project.sequences.get(stream.origin)
            if said_by_story is None:
                said_by_story = project.sequences[stream.origin] = {}
            _apply_run(said_by_story, events[start : start + run.shown(stream)], run.first_seq)
            start += run.count
        self.position = block.last_position
        self.chain = block.chain

    def apply_late(self, block: Block, streams: Sequence[Stream | None]) -> None:
        """Fold a block that was damaged when its turn came; where it was not, nothing changes."""
        start = 0
        for run in block.runs:
            stream = streams[run.stream_id]
            assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
            project = self.project(stream.project)
            project.last_seen_ms = max(project.last_seen_ms or 0, run.received_ms)
            said_by_story = project.sequences.setdefault(stream.origin, {})
            late: SaidByStory = {}
            _apply_run(late, block.events()[start : start + run.shown(stream)], run.first_seq)
            for story_id, said in late.items():
                said_by_story[story_id] = _in_order(said, said_by_story.get(story_id, Said()))
            start += run.count
            if project.snapshot is not None:
                prune(project.sequences, project.snapshot)

    def forget_branch(self, project: str, origin: Origin, after_seq: int) -> None:
        """What was said last by events that are in quarantine now is not known any more."""
        said_by_story = self.project(project).sequences.get(origin, {})
        for story_id, said in list(said_by_story.items()):
            if any(seq > after_seq for _, seq in said.events()):
                del said_by_story[story_id]

    def apply_snapshot(self, name: str, snapshot: Snapshot) -> bool:
        """Correct a project's board by what its sled says of all its stories; False where that is older.

        What the log says of a story after the snapshot's `seq` stays.
        """
        project = self.project(name)
        if not snapshot.is_newer(project.snapshot):
            return False
        project.snapshot = snapshot
        prune(project.sequences, snapshot)
        return True


def _apply_run(said_by_story: SaidByStory, events: Sequence[RelayedEvent], first_seq: int) -> None:
    # Runs for every event of every sled in the event loop: written to cost little rather than to be short.
    for seq, event in enumerate(events, first_seq):
        if isinstance(event, (StoredStageTransition, StoredStoryBlocked, StoredMergeFailure)):
            said = said_by_story.get(event.story_id)
            if said is None:
                said = said_by_story[event.story_id] = Said()
            if not event.story_name:
                said.keep_name()
            if isinstance(event, StoredStageTransition):
                if event.from_stage == event.to_stage:
                    said.keep_move()
                said.transition = event
                said.transition_seq = seq
            elif isinstance(event, StoredStoryBlocked):
                said.block = event
                said.block_seq = seq
            else:
                said.failure = event
                said.failure_seq = seq


def _in_order(one: Said, other: Said) -> Said:
    """What a sequence says last of a story, out of what two parts of it say."""
    events = {seq: event for said in (one, other) for event, seq in said.events()}
    folded: SaidByStory = {}
    for seq in sorted(events):
        _apply_run(folded, [events[seq]], seq)
    [said] = folded.values()
    return said
