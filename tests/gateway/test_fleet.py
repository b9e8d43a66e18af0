from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec

from huskies.events.model import (
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.gateway.board_store import Board as SaidBoard
from huskies.gateway.board_store import BoardStore, KeptBoard
from huskies.gateway.fleet import Fleet
from huskies.gateway.standing import Story
from huskies.gateway.store.blocks import Batch, Stream, pack
from huskies.gateway.store.streams import Streams
from huskies.protocol.wire import SnapshotStory

if TYPE_CHECKING:
    from huskies.gateway.store.log import Log

ID = "1_bug_x"
STREAMS = [None, Stream(1, "aa", "e1", "shop"), Stream(2, "bb", "e1", "blog"), Stream(3, "aa", "e2", "shop")]


def moved(to: str, at: int = 100, name: str = "", origin: str = "2_current") -> StoredStageTransition:
    return StoredStageTransition(
        story_id=ID, story_name=name, from_stage=origin, to_stage=to, timestamp_ms=at
    )


def blocked(reason: str, at: int = 100) -> StoredStoryBlocked:
    return StoredStoryBlocked(story_id=ID, reason=reason, timestamp_ms=at)


def failed(reason: str, at: int = 100) -> StoredMergeFailure:
    return StoredMergeFailure(story_id=ID, reason=reason, timestamp_ms=at)


class _NoLog:
    """Where a board is kept does not matter here."""

    sequences = Streams([None])

    def later(self, run: object) -> None:
        pass


class Board:
    """A fleet that follows batches as the gateway's does."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.store = BoardStore(cast("Log", _NoLog()), self.fleet)

    def took(self, *events: RelayedEvent, stream_id: int = 1, first_seq: int = 1, at: int = 5_000) -> None:
        stream = STREAMS[stream_id]
        assert stream is not None
        batch = Batch(stream, first_seq, at, 0, list(events))
        for block, _ in pack([batch], self.fleet.position + 1, self.fleet.chain):
            self.fleet.apply_block(block, STREAMS)

    def said(self, *stories: SnapshotStory, stream_id: int = 1, seq: int = 0, at: int = 9_000) -> None:
        stream = STREAMS[stream_id]
        assert stream is not None
        self.store.correct(SaidBoard(stream, seq, at, stories))

    def story(self, project: str = "shop") -> Story:
        return self.fleet.project(project).stories()[ID]


def test_a_transition_says_the_stage_and_since_when() -> None:
    board = Board()
    board.took(moved("3_qa", at=123, name="Login"))
    story = board.story()
    assert (story.stage, story.since_ms, story.name, story.blocked) == ("3_qa", 123, "Login", None)


def test_a_block_and_a_merge_failure_are_shown_together() -> None:
    board = Board()
    board.took(moved("4_merge"), blocked("stuck"), failed("conflict"))
    story = board.story()
    assert (story.stage, story.blocked, story.merge_failure) == ("4_merge", "stuck", "conflict")


def test_the_newest_reason_is_shown() -> None:
    board = Board()
    board.took(blocked("first"), blocked("second"), failed("one"), failed("two"))
    assert (board.story().blocked, board.story().merge_failure) == ("second", "two")


def test_a_later_transition_clears_both() -> None:
    board = Board()
    board.took(blocked("stuck"), failed("conflict"), moved("5_done"))
    assert (board.story().blocked, board.story().merge_failure) == (None, None)


def test_a_transition_to_the_same_stage_clears_both_and_keeps_since() -> None:
    board = Board()
    board.took(moved("3_qa", at=100), blocked("stuck"), failed("no"), moved("3_qa", at=900, origin="3_qa"))
    story = board.story()
    assert (story.stage, story.since_ms, story.blocked, story.merge_failure) == ("3_qa", 100, None, None)


def test_an_unknown_story_that_is_blocked_has_no_stage_yet() -> None:
    board = Board()
    board.took(blocked("stuck"))
    assert (board.story().stage, board.story().since_ms, board.story().blocked) == (None, None, "stuck")


def test_an_empty_name_does_not_take_a_name_away() -> None:
    board = Board()
    board.took(moved("3_qa", name="Login"), moved("4_merge"), blocked("stuck"))
    assert board.story().name == "Login"


def test_rate_limits_change_no_story() -> None:
    board = Board()
    board.took(
        RelayedRateLimitWarning(story_id=ID, agent_name="coder", timestamp_ms=1),
        RelayedRateLimitHardBlock(
            story_id=ID, agent_name="coder", reset_at=datetime(2026, 1, 1, tzinfo=UTC), timestamp_ms=1
        ),
    )
    assert board.fleet.projects["shop"].stories() == {}
    assert board.fleet.position == 2


def test_projects_do_not_mix() -> None:
    board = Board()
    board.took(moved("3_qa"), stream_id=1)
    board.took(moved("5_done"), stream_id=2)
    assert (board.story("shop").stage, board.story("blog").stage) == ("3_qa", "5_done")


def test_a_project_was_last_seen_when_its_newest_event_came() -> None:
    board = Board()
    board.took(moved("3_qa"), at=7_000)
    board.took(moved("4_merge"), first_seq=2, at=6_000)
    assert board.fleet.project("shop").last_seen_ms == 7_000
    board.fleet.seen("shop", 8_000)
    board.fleet.seen("shop", 1)
    assert board.fleet.project("shop").last_seen_ms == 8_000


def test_a_snapshot_replaces_the_board() -> None:
    board = Board()
    board.took(moved("3_qa"), blocked("stuck"))
    other = SnapshotStory(
        story_id="2_bug_y", story_name="Y", stage="1_backlog", merge_failure="no", since_ms=4
    )
    board.said(other, seq=2)
    [(story_id, story)] = board.fleet.project("shop").stories().items()
    assert (story_id, story.name, story.stage, story.since_ms) == ("2_bug_y", "Y", "1_backlog", 4)
    assert (story.blocked, story.merge_failure) == (None, "no")


def test_what_the_log_says_after_the_snapshot_stays() -> None:
    board = Board()
    board.took(moved("3_qa"), moved("4_merge"), blocked("stuck"))
    board.said(SnapshotStory(story_id=ID, stage="3_qa"), seq=1)
    assert (board.story().stage, board.story().blocked) == ("4_merge", "stuck")
    board.said(seq=2)
    assert ID in board.fleet.project("shop").stories()
    board.said(seq=3)
    assert board.fleet.project("shop").stories() == {}


def test_a_snapshot_of_a_new_epoch_outweighs_the_older_epoch() -> None:
    board = Board()
    board.took(moved("3_qa"), moved("4_merge"))
    board.said(SnapshotStory(story_id=ID, stage="5_done"), stream_id=3, seq=0)
    assert board.story().stage == "5_done"


def test_a_snapshot_keeps_since_where_the_stage_is_the_same() -> None:
    board = Board()
    board.took(moved("3_qa", at=100))
    board.said(SnapshotStory(story_id=ID, stage="3_qa"), seq=1)
    assert board.story().since_ms == 100
    board.said(SnapshotStory(story_id=ID, stage="5_done"), seq=1, at=9_999)
    assert board.story().since_ms == 9_999


def test_a_snapshot_applied_twice_is_the_same_as_once() -> None:
    board = Board()
    board.took(moved("3_qa"))
    board.said(SnapshotStory(story_id=ID, stage="4_merge"), seq=1)
    before = board.fleet.project("shop").stories()
    board.said(SnapshotStory(story_id=ID, stage="4_merge"), seq=1)
    assert board.fleet.project("shop").stories() == before


def test_a_kept_fleet_is_the_same_fleet() -> None:
    board = Board()
    board.took(moved("3_qa", name="Login"), blocked("stuck"))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(board.fleet), type=Fleet) == board.fleet


def test_a_block_and_a_failure_say_since_when_until_they_are_cleared() -> None:
    board = Board()
    board.took(blocked("stuck", at=100), failed("conflict", at=200))
    assert (board.story().blocked_since_ms, board.story().merge_failure_since_ms) == (100, 200)
    board.said(SnapshotStory(story_id=ID, stage="4_merge", blocked="stuck", merge_failure="other"), seq=2)
    assert (board.story().blocked_since_ms, board.story().merge_failure_since_ms) == (100, 9_000)
    board.took(moved("5_done"), first_seq=3)
    assert (board.story().blocked_since_ms, board.story().merge_failure_since_ms) == (None, None)


def test_a_board_that_is_passed_on_says_the_same_there() -> None:
    one, other, kept = Board(), Board(), list[KeptBoard]()
    one.store.listeners.append(kept.append)
    one.took(moved("3_qa", at=100), blocked("stuck", at=200))
    one.said(SnapshotStory(story_id=ID, stage="3_qa", blocked="stuck", merge_failure="no"), seq=2)
    assert (one.story().since_ms, one.story().blocked_since_ms) == (100, 200)
    other.store.merge(kept[0])
    assert other.story() == one.story()
    # It is no news any more, wherever it comes from.
    one.store.merge(kept[0])
    assert len(kept) == 1


def test_what_a_sled_says_now_counts_whatever_the_clocks_say() -> None:
    board = Board()
    board.took(moved("5_done", at=10**12))
    board.said(SnapshotStory(story_id=ID, stage="2_current"), stream_id=3)
    assert board.story().stage == "2_current"
    board.said(SnapshotStory(story_id=ID, stage="3_qa"), seq=1, at=7)
    assert (board.story().stage, board.story().since_ms) == ("3_qa", 7)


def test_a_board_from_the_end_of_time_is_not_taken() -> None:
    board = Board()
    board.said(SnapshotStory(story_id=ID, stage="3_qa"))
    stream = STREAMS[1]
    assert stream is not None
    board.store.merge(KeptBoard(stream, 0, 2**63 - 1, []))
    assert board.story().stage == "3_qa"
