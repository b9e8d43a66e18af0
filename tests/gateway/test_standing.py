"""Boards come out the same in whatever order the sequences and snapshots of a project arrive."""

from __future__ import annotations

import random
from itertools import groupby
from typing import NamedTuple, TypeAlias

import msgspec
import pytest
from tests.gateway.test_fleet import ID, blocked, moved

from huskies.events.model import RelayedEvent, StoredMergeFailure, StoredStageTransition, StoredStoryBlocked
from huskies.gateway.board_store import snapshot_of
from huskies.gateway.fleet import Fleet
from huskies.gateway.standing import Snapshot, Story
from huskies.gateway.store.blocks import Batch, Stream, pack
from huskies.protocol.wire import SnapshotStory

HOUR_MS = 3_600_000
STAGES = ("1_backlog", "2_current", "3_qa")
# Two sleds of one project, one of them in its third epoch.
STREAMS = [None, *(Stream(n, f"{n // 3}" * 64, f"e{n}" * 8, "shop") for n in range(1, 5))]


# When a gateway received what none of these tests says more of: later than anything was recorded.
LATE_MS = 10**12


class Run(NamedTuple):
    """`received_ms` says of each event when the first gateway received it."""

    stream_id: int
    first_seq: int
    events: list[RelayedEvent]
    received_ms: tuple[int, ...] = ()


Arrival: TypeAlias = Run | Snapshot


def apply(fleet: Fleet, arrival: Arrival) -> None:
    if isinstance(arrival, Snapshot):
        fleet.apply_snapshot("shop", arrival)
        return
    stream = STREAMS[arrival.stream_id]
    assert stream is not None
    batches, seq = [], arrival.first_seq
    received = arrival.received_ms or (LATE_MS,) * len(arrival.events)
    for received_ms, some in groupby(zip(received, arrival.events, strict=True), lambda pair: pair[0]):
        batches.append(Batch(stream, seq, received_ms, 0, [event for _, event in some]))
        seq += len(batches[-1].events)
    for block, _ in pack(batches, fleet.position + 1, fleet.chain):
        fleet.apply_block(block, STREAMS)


def board(*arrivals: Arrival) -> dict[str, Story]:
    fleet = Fleet()
    for arrival in arrivals:
        apply(fleet, arrival)
    # As after a restart.
    return msgspec.msgpack.decode(msgspec.msgpack.encode(fleet), type=Fleet).project("shop").stories()


def snapshot(stream_id: int, seq: int, received_ms: int, *stories: SnapshotStory) -> Snapshot:
    stream = STREAMS[stream_id]
    assert stream is not None
    return snapshot_of(stream, seq, received_ms, stories)


# --- many orders -------------------------------------------------------------------------------------


class World:
    """Sleds with clocks of their own record events for days, and say where their stories stand."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's
        self.events: dict[int, list[RelayedEvent]] = {1: [], 2: [], 3: [], 4: []}
        self.received: dict[int, list[int]] = {1: [], 2: [], 3: [], 4: []}
        self.snapshots: list[Snapshot] = []
        now_ms, step = 100 * 24 * HOUR_MS, self.random.choice([1, HOUR_MS, 20 * HOUR_MS])
        for _ in range(self.random.randrange(10, 60)):
            now_ms += self.random.randrange(2) * step
            stream_id = self.random.randrange(1, 5)
            if self.random.random() < 0.15:
                self.snapshots.append(self._snapshot(stream_id, self._skewed(now_ms)))
            else:
                self.events[stream_id].append(self._event(self._skewed(now_ms)))
                self.received[stream_id].append(self._skewed(now_ms))

    def _skewed(self, now_ms: int) -> int:
        return now_ms + self.random.choice([0, 0, -1, 1, -HOUR_MS, HOUR_MS])

    def _name(self) -> str:
        return self.random.choice(["", "A name", "Another name"])

    def _event(self, at_ms: int) -> RelayedEvent:
        story_id = f"{self.random.randrange(4)}_story"
        name = self._name()
        match self.random.randrange(6):
            case 0:
                return StoredStoryBlocked(
                    story_id=story_id, story_name=name, reason="stuck", timestamp_ms=at_ms
                )
            case 1:
                return StoredMergeFailure(story_id=story_id, story_name=name, reason="no", timestamp_ms=at_ms)
        return StoredStageTransition(
            story_id=story_id,
            story_name=name,
            from_stage=self.random.choice(STAGES),
            to_stage=self.random.choice(STAGES),
            timestamp_ms=at_ms,
        )

    def _snapshot(self, stream_id: int, received_ms: int) -> Snapshot:
        stories = [
            SnapshotStory(
                story_id=f"{number}_story",
                story_name=self._name(),
                stage=self.random.choice(STAGES),
                blocked=self.random.choice([None, "since ever"]),
                since_ms=self.random.choice([None, received_ms - 7]),
            )
            for number in self.random.sample(range(5), 3)
        ]
        return snapshot(stream_id, len(self.events[stream_id]), received_ms, *stories)

    def some_order(self) -> list[Arrival]:
        """Each sequence in the order of its seqs, in runs; all else as chance will have it."""
        left = {stream_id: list(events) for stream_id, events in self.events.items() if events}
        seqs = dict.fromkeys(left, 1)
        arrivals: list[Arrival] = []
        while left:
            stream_id = self.random.choice(list(left))
            count = self.random.randrange(1, len(left[stream_id]) + 1)
            first = seqs[stream_id]
            received = self.received[stream_id][first - 1 : first - 1 + count]
            arrivals.append(Run(stream_id, first, left[stream_id][:count], tuple(received)))
            seqs[stream_id] += count
            left[stream_id] = left[stream_id][count:]
            if not left[stream_id]:
                del left[stream_id]
        # Gateways pass on the newest that they know: an older one need not reach everyone.
        newest: Snapshot | None = None
        for said in self.snapshots:
            newest = said if said.is_newer(newest) else newest
        for said in self.snapshots:
            if said is newest or self.random.random() < 0.5:
                arrivals.insert(self.random.randrange(len(arrivals) + 1), said)
        return arrivals


@pytest.mark.parametrize("hundred", range(10))
def test_a_board_does_not_depend_on_the_order_in_which_anything_arrives(hundred: int) -> None:
    for seed in range(hundred * 100, hundred * 100 + 100):
        world = World(seed)
        expected = board(*world.some_order())
        for _ in range(6):
            order = world.some_order()
            assert board(*order) == expected, f"seed {seed}: {order}"


# --- the rules, one by one ---------------------------------------------------------------------------


def test_what_an_older_epoch_said_does_not_outweigh_a_newer_one_when_it_arrives_late() -> None:
    older, newer = Run(1, 1, [moved("2_current", 100)]), Run(2, 1, [moved("3_qa", 200)])
    assert board(older, newer) == board(newer, older) == {ID: Story(stage="3_qa", since_ms=200)}


def test_what_an_older_epoch_said_does_not_outweigh_a_snapshot_when_it_arrives_late() -> None:
    said = snapshot(2, 0, 300, SnapshotStory(story_id=ID, stage="3_qa", since_ms=200))
    assert board(said, Run(1, 1, [moved("2_current", 100)]))[ID].stage == "3_qa"


def test_within_a_sequence_the_order_counts_and_not_the_clock() -> None:
    run = Run(1, 1, [moved("3_qa", 900), blocked("stuck", 500), moved("4_merge", 100)])
    assert board(run) == {ID: Story(stage="4_merge", since_ms=100)}


def test_an_event_of_a_clock_that_is_ahead_counts_as_of_when_it_was_received() -> None:
    ahead = Run(1, 1, [moved("2_current", 900 * HOUR_MS)], (100,))
    later = Run(2, 1, [moved("3_qa", 200)], (210,))
    assert board(ahead) == {ID: Story(stage="2_current", since_ms=100)}
    assert board(ahead, later) == board(later, ahead) == {ID: Story(stage="3_qa", since_ms=200)}


def test_an_event_of_a_clock_that_is_ahead_puts_no_snapshot_ahead() -> None:
    fleet = Fleet()
    apply(fleet, Run(1, 1, [blocked("stuck", 900 * HOUR_MS)], (100,)))
    assert fleet.project("shop").newest_ms() == 100


def test_an_event_of_a_clock_that_is_ahead_is_folded_late_as_in_its_turn() -> None:
    batch = Batch(Stream(1, "0" * 64, "e1" * 8, "shop"), 1, 100, 0, [moved("3_qa", 900 * HOUR_MS)])
    [(block, _)] = pack([batch], 1, 0)
    fleet = Fleet()
    fleet.apply_late(block, STREAMS)
    assert fleet.project("shop").stories() == {ID: Story(stage="3_qa", since_ms=100)}


def test_two_epochs_together_say_where_a_story_stands() -> None:
    older, newer = Run(1, 1, [moved("3_qa", 100, name="Login")]), Run(2, 1, [blocked("stuck", 200)])
    expected = {ID: Story("Login", "3_qa", 100, "stuck", 200)}
    assert board(older, newer) == board(newer, older) == expected
    cleared = Run(3, 1, [moved("3_qa", 300, origin="3_qa")])
    assert board(cleared, newer, older) == {ID: Story("Login", "3_qa", 100)}


def test_of_snapshots_the_one_received_last_counts_whatever_they_say() -> None:
    said = [
        snapshot(1, 5, 100, SnapshotStory(story_id=ID, stage="1_backlog")),
        snapshot(1, 3, 300, SnapshotStory(story_id=ID, stage="2_current")),
        snapshot(2, 1, 200, SnapshotStory(story_id=ID, stage="3_qa")),
        snapshot(3, 3, 300, SnapshotStory(story_id=ID, stage="4_merge")),
        snapshot(3, 3, 300, SnapshotStory(story_id=ID, stage="5_done")),
    ]
    assert board(*said) == board(*reversed(said)) == {ID: Story(stage="5_done", since_ms=300)}


def test_what_is_long_outweighed_is_forgotten() -> None:
    fleet = Fleet()
    apply(fleet, Run(1, 1, [moved("3_qa", 100)]))
    apply(fleet, snapshot(1, 1, 30 * HOUR_MS))
    assert fleet.project("shop").sequences == {}
    apply(fleet, Run(1, 2, [moved("3_qa", 30 * HOUR_MS)]))
    apply(fleet, snapshot(1, 2, 31 * HOUR_MS))
    assert len(fleet.project("shop").sequences) == 1


def test_a_fleet_that_was_kept_in_another_shape_is_not_misread() -> None:
    old = {"position": 3, "chain": 1, "projects": {"shop": {"stories": {}, "last_seen_ms": 1}}}
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=Fleet)
