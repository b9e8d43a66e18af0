"""The fleet: where each project's stories stand, as a projection of the log and of snapshots. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from huskies.events.model import (
    RelayedEvent,
    StoredEvent,
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

    def said(self) -> int:
        """How much is known of its stories: each counts once for every sequence that says something of it."""
        told = 0 if self.snapshot is None else len(self.snapshot.stories)
        return told + sum(map(len, self.sequences.values()))

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
            count = run.shown(stream)
            if not count:
                # Of what nobody is shown, nobody is told whose it is.
                start += run.count
                continue
            project = self.project(stream.project)
            if project.last_seen_ms is None or run.received_ms > project.last_seen_ms:
                project.last_seen_ms = run.received_ms
            said_by_story = project.sequences.get(stream.origin)
            if said_by_story is None:
                said_by_story = project.sequences[stream.origin] = {}
            shown = events[start : start + count]
            _apply_run(said_by_story, shown, run.first_seq, run.received_ms)
            start += run.count
        self.position = block.last_position
        self.chain = block.chain

    def apply_late(self, block: Block, streams: Sequence[Stream | None]) -> None:
        """Fold a block that was damaged when its turn came; where it was not, nothing changes."""
        start = 0
        for run in block.runs:
            stream = streams[run.stream_id]
            assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
            shown = block.events()[start : start + run.shown(stream)]
            start += run.count
            if shown:
                project = self.project(stream.project)
                project.last_seen_ms = max(project.last_seen_ms or 0, run.received_ms)
                self.fold_late(stream, shown, run.first_seq, run.received_ms)
                self.prune(stream.project)

    def fold_late(
        self, stream: Stream, events: Sequence[RelayedEvent], first_seq: int, received_ms: int
    ) -> None:
        """Fold events of a sequence, wherever in it they belong; what was folded already changes nothing."""
        said_by_story = self.project(stream.project).sequences.setdefault(stream.origin, {})
        late: SaidByStory = {}
        _apply_run(late, events, first_seq, received_ms)
        for story_id, said in late.items():
            known = said_by_story.get(story_id, Said())
            said_by_story[story_id] = _in_order(_by_seq(known) | _by_seq(said))

    def forget_branch(self, stream: Stream, after_seq: int) -> None:
        """Keep of what a sequence said last only what all its branches share, that is up to `after_seq`.

        What stood behind that was said before is not known here: it is to be folded again.
        """
        said_by_story = self.project(stream.project).sequences.get(stream.origin, {})
        _keep(said_by_story, partial(operator.ge, after_seq))

    def forget(self, name: str, seqs: Mapping[Origin, int]) -> None:
        """Know nothing more of a project but what its sequences say beyond these seqs."""
        project = self.projects.get(name)
        if project is None:
            return
        for origin, last_seq in seqs.items():
            said_by_story = project.sequences.get(origin, {})
            _keep(said_by_story, partial(operator.lt, last_seq))
            if not said_by_story:
                project.sequences.pop(origin, None)
        board = project.snapshot
        if board is not None and board.seq <= seqs.get(board.origin, -1):
            project.snapshot = None
        if not project.sequences and project.snapshot is None:
            del self.projects[name]

    def prune(self, name: str) -> None:
        """Forget what the project's snapshot outweighed long ago."""
        project = self.project(name)
        if project.snapshot is not None:
            prune(project.sequences, project.snapshot)

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


def _apply_run(
    said_by_story: SaidByStory, events: Sequence[RelayedEvent], first_seq: int, received_ms: int
) -> None:
    # Runs for every event of every sled in the event loop: written to cost little rather than to be short.
    for seq, event in enumerate(events, first_seq):
        if isinstance(event, (StoredStageTransition, StoredStoryBlocked, StoredMergeFailure)):
            said = said_by_story.get(event.story_id)
            if said is None:
                said = said_by_story[event.story_id] = Said()
            if event.timestamp_ms > received_ms:
                # A clock that is ahead does not outweigh what is said until the time gets there.
                event = msgspec.structs.replace(event, timestamp_ms=received_ms)  # noqa: PLW2901 - see above
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


def _keep(said_by_story: SaidByStory, counts: Callable[[int], bool]) -> None:
    """Keep what events say whose seqs count."""
    for story_id, said in list(said_by_story.items()):
        kept = {seq: event for event, seq in said.events() if counts(seq)}
        if kept:
            said_by_story[story_id] = _in_order(kept)
        else:
            del said_by_story[story_id]


def _by_seq(said: Said) -> dict[int, StoredEvent]:
    return {seq: event for event, seq in said.events()}


def _in_order(events: Mapping[int, StoredEvent]) -> Said:
    """What a sequence says last of a story, out of what parts of it say."""
    folded: SaidByStory = {}
    for seq in sorted(events):
        # They were folded before, no later than they were received.
        _apply_run(folded, [events[seq]], seq, events[seq].timestamp_ms)
    [said] = folded.values()
    return said
