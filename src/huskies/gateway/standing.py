"""Where a project's stories stand, by what its sequences and its newest snapshot say. Pure.

Events of several sequences, and snapshots, reach each gateway in an order of its own, and every gateway shall
show the same. So nothing is decided as they come: what each sequence says last of a story is kept by itself
(within a sequence the order is given), and `joined` decides whenever someone looks. Its rules:

- Of two snapshots the one that was received later counts (`Snapshot.is_newer`), and what it stands for is
  all events up to its `seq` in its own sequence, and in others all up to the time at which it was received.
  The gateway that a sled says it to moves that time beyond everything it knows of the project.
- Of what is newer than the snapshot, the event with the later timestamp counts; within a sequence the later
  seq, whatever the clock said. At the same time the sequence with the higher identity counts. What a clock
  that is ahead says counts as of when the first gateway received it: the fleet folds no later time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from huskies.events.model import (
    StoredEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.protocol.vectors import Origin

# What was outweighed is kept for so long, in case a snapshot that another gateway received is yet to be
# outweighed itself: clocks of gateways and sleds may be apart by that much.
_PRUNE_AFTER_MS: Final = 86_400_000


class Story(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Where one story stands, and since when (Unix ms, on the sled where an event said so)."""

    name: str = ""
    stage: str | None = None
    since_ms: int | None = None
    blocked: str | None = None
    blocked_since_ms: int | None = None
    merge_failure: str | None = None
    merge_failure_since_ms: int | None = None

    @property
    def is_held_up(self) -> bool:
        """Whether it cannot go on without help."""
        return self.blocked is not None or self.merge_failure is not None


class Said(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What one sequence's events say last of a story, each with its seq.

    `move` is the last transition from one stage to another, where `transition` is none; `named` the last
    event with a name, where the others have none.
    """

    transition: StoredStageTransition | None = None
    transition_seq: int = 0
    block: StoredStoryBlocked | None = None
    block_seq: int = 0
    failure: StoredMergeFailure | None = None
    failure_seq: int = 0
    move: StoredStageTransition | None = None
    move_seq: int = 0
    named: StoredEvent | None = None
    named_seq: int = 0

    def events(self) -> Iterator[tuple[StoredEvent, int]]:
        """All of them."""
        for event, seq in (
            (self.transition, self.transition_seq),
            (self.block, self.block_seq),
            (self.failure, self.failure_seq),
            (self.move, self.move_seq),
            (self.named, self.named_seq),
        ):
            if event is not None:
                yield event, seq

    def moved_by(self) -> StoredStageTransition | None:
        """The last transition from one stage to another."""
        last = self.transition
        return last if last is not None and last.from_stage != last.to_stage else self.move

    def blocked_by(self) -> StoredStoryBlocked | None:
        """What blocks the story, if no transition ended that."""
        return self.block if self.block_seq > self.transition_seq else None

    def failed_by(self) -> StoredMergeFailure | None:
        """The merge failure, if no transition ended that."""
        return self.failure if self.failure_seq > self.transition_seq else None

    def named_by(self) -> StoredEvent | None:
        """The last event that names the story."""
        newest, newest_seq = self.named, self.named_seq
        for event, seq in self.events():
            if seq > newest_seq and event.story_name:
                newest, newest_seq = event, seq
        return newest

    def keep_move(self) -> None:
        """A transition comes that is none from one stage to another: it does not say since when."""
        if self.transition is not None and self.transition.from_stage != self.transition.to_stage:
            self.move, self.move_seq = self.transition, self.transition_seq

    def keep_name(self) -> None:
        """An event without a name comes: it takes none away."""
        for event, seq in self.events():
            if seq > self.named_seq and event.story_name:
                self.named, self.named_seq = event, seq


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where all of a project's stories stood as of `seq` of a sequence, and when a gateway received that."""

    sled_id: str
    epoch: str
    seq: int
    received_ms: int
    stories: dict[str, Story]

    @property
    def origin(self) -> Origin:
        """The sequence that it belongs to."""
        return self.sled_id, self.epoch

    def is_newer(self, other: Snapshot | None) -> bool:
        """Whether it counts rather than the other: the same at every gateway, whichever came first."""
        if other is None:
            return True
        mine, theirs = (
            (one.received_ms, one.seq, one.sled_id, one.epoch, msgspec.json.encode(one.stories))
            for one in (self, other)
        )
        return mine > theirs

    def outweighs(self, origin: Origin, event: StoredEvent, seq: int) -> bool:
        """Whether the snapshot stands for this event."""
        if origin == (self.sled_id, self.epoch):
            return seq <= self.seq
        return event.timestamp_ms <= self.received_ms


SaidByStory: TypeAlias = dict[str, Said]


def joined(sequences: Mapping[Origin, SaidByStory], snapshot: Snapshot | None) -> dict[str, Story]:
    """Where each story stands."""
    stories = {} if snapshot is None else dict(snapshot.stories)
    sayings: dict[str, list[tuple[Origin, Said]]] = {}
    for origin, said_by_story in sequences.items():
        for story_id, said in said_by_story.items():
            counts = said if snapshot is None else _what_counts(origin, said, snapshot)
            if counts is not None:
                sayings.setdefault(story_id, []).append((origin, counts))
    for story_id in sorted(sayings):
        found = sayings[story_id]
        said = found[0][1] if len(found) == 1 else _as_one(found)
        stories[story_id] = _story(said, stories.get(story_id) or _NOTHING)
    return stories


def held_up(sequences: Mapping[Origin, SaidByStory], snapshot: Snapshot | None) -> list[int]:
    """Since when (Unix ms) each story is that is blocked or failed to merge; of both, since the later."""
    names = {
        story_id
        for said_by_story in sequences.values()
        for story_id, said in said_by_story.items()
        if said.blocked_by() is not None or said.failed_by() is not None
    }
    if snapshot is not None:
        told = {story_id: story for story_id, story in snapshot.stories.items() if story.is_held_up}
        names.update(told)
        snapshot = msgspec.structs.replace(snapshot, stories=told)
    some = {
        origin: {story_id: said_by_story[story_id] for story_id in names & said_by_story.keys()}
        for origin, said_by_story in sequences.items()
    }
    return [
        max(
            since_ms
            for since_ms in (story.blocked_since_ms, story.merge_failure_since_ms)
            if since_ms is not None
        )
        for story in joined(some, snapshot).values()
        if story.is_held_up
    ]


def newest_ms(sequences: Mapping[Origin, SaidByStory]) -> int:
    """The newest time that any event says of those that may still count."""
    saids = (said for said_by_story in sequences.values() for said in said_by_story.values())
    return max((event.timestamp_ms for said in saids for event, _ in said.events()), default=0)


def prune(sequences: dict[Origin, SaidByStory], snapshot: Snapshot) -> None:
    """Forget what was outweighed long ago: the fleet grows with the stories that there are, not that were."""
    before_ms = snapshot.received_ms - _PRUNE_AFTER_MS
    for origin, said_by_story in list(sequences.items()):
        for story_id, said in list(said_by_story.items()):
            if all(
                event.timestamp_ms <= before_ms and snapshot.outweighs(origin, event, seq)
                for event, seq in said.events()
            ):
                del said_by_story[story_id]
        if not said_by_story:
            del sequences[origin]


_NOTHING: Final = Story()


def _what_counts(origin: Origin, said: Said, snapshot: Snapshot) -> Said | None:
    """What of it the snapshot does not stand for."""
    outweighed = [seq for event, seq in said.events() if snapshot.outweighs(origin, event, seq)]
    if not outweighed:
        return said
    # What a transition ended stays so, whichever of the two still counts.
    counts = Said(transition_seq=said.transition_seq)
    if said.transition_seq not in outweighed:
        counts.transition = said.transition
    if said.block_seq not in outweighed:
        counts.block, counts.block_seq = said.block, said.block_seq
    if said.failure_seq not in outweighed:
        counts.failure, counts.failure_seq = said.failure, said.failure_seq
    if said.move_seq not in outweighed:
        counts.move, counts.move_seq = said.move, said.move_seq
    if said.named_seq not in outweighed:
        counts.named, counts.named_seq = said.named, said.named_seq
    stands = counts.transition or counts.blocked_by() or counts.failed_by()
    return None if stands is None else counts


def _as_one(sayings: Sequence[tuple[Origin, Said]]) -> Said:
    """What several sequences say of a story, as if one did."""
    transition = _newest((origin, said.transition) for origin, said in sayings)
    block = _newest((origin, said.blocked_by()) for origin, said in sayings)
    failure = _newest((origin, said.failed_by()) for origin, said in sayings)
    move = _newest((origin, said.moved_by()) for origin, said in sayings)
    named = _newest((origin, said.named_by()) for origin, said in sayings)
    return Said(
        transition=transition.event,
        transition_seq=2,
        block=block.event,
        block_seq=3 if block.is_newer(transition) else 1,
        failure=failure.event,
        failure_seq=3 if failure.is_newer(transition) else 1,
        move=move.event,
        move_seq=1,
        named=named.event,
        named_seq=4,
    )


_Event = TypeVar("_Event", bound=StoredEvent)


class _Newest(msgspec.Struct, Generic[_Event]):
    """The newest event of several sequences."""

    timestamp_ms: int = -1
    origin: Origin = ("", "")
    event: _Event | None = None

    def is_newer(self, transition: _Newest[StoredStageTransition]) -> bool:
        """Whether the transition, which may be of another sequence, did not end it."""
        # Of its own sequence that is known already, whatever the clock says.
        mine, theirs = (self.timestamp_ms, self.origin), (transition.timestamp_ms, transition.origin)
        return self.origin == transition.origin or mine > theirs


def _newest(found: Iterable[tuple[Origin, _Event | None]]) -> _Newest[_Event]:
    newest: _Newest[_Event] = _Newest()
    for origin, event in found:
        if event is not None and (event.timestamp_ms, origin) > (newest.timestamp_ms, newest.origin):
            newest = _Newest(event.timestamp_ms, origin, event)
    return newest


def _story(said: Said, below: Story) -> Story:
    """The story as this sequence says it stands, upon what the snapshot says of it."""
    named, transition = said.named_by(), said.transition
    name = below.name if named is None else named.story_name
    block, failure = said.blocked_by(), said.failed_by()
    stage, since_ms = below.stage, below.since_ms
    if transition is not None:
        move = said.moved_by()
        stage = transition.to_stage
        if move is not None and move.to_stage == stage:
            since_ms = move.timestamp_ms
        elif below.stage != stage:
            since_ms = transition.timestamp_ms
        # It ends what was in the way before.
        below = _NOTHING
    return Story(
        name=name,
        stage=stage,
        since_ms=since_ms,
        blocked=below.blocked if block is None else block.reason,
        blocked_since_ms=below.blocked_since_ms if block is None else block.timestamp_ms,
        merge_failure=below.merge_failure if failure is None else failure.reason,
        merge_failure_since_ms=below.merge_failure_since_ms if failure is None else failure.timestamp_ms,
    )
