from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from huskies import limits
from huskies.errors import ConfigError, InvalidEventError, StoreError
from huskies.events.model import RateLimitWarning, StageTransition, StoryBlocked
from huskies.protocol.wire import PreviousEpoch
from huskies.sled import outbox_store
from huskies.sled.intake import entry_of
from huskies.sled.layout import Layout
from huskies.sled.outbox_store import Keeping, OutboxStore
from huskies.sled.scan import Changes, SeenStory
from huskies.sled.story_file import StoryContent

if TYPE_CHECKING:
    from tests.sled.conftest import Opened, OpenOutbox

NOW = 1_700_000_000_000


def blocked(number: int) -> StoryBlocked:
    return StoryBlocked(story_id="s", reason=str(number))


async def record(opened: Opened, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await opened.outbox.publish(blocked(number))


def reasons(opened: Opened) -> list[int]:
    return [int(event["reason"]) for event in opened.held()]


def identity(opened: Opened) -> tuple[str, str]:
    return opened.outbox.head.sled_id, opened.outbox.head.epoch


async def flushed(opened: Opened) -> None:
    """What was submitted before is committed."""
    await opened.outbox.record_changes(Changes())


def copied(layout: Layout, name: str) -> Layout:
    """The whole project as a crash at this moment would leave it, elsewhere."""
    target = layout.project_dir.parent / name
    shutil.copytree(layout.project_dir, target)
    return Layout(target)


async def test_a_new_outbox(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    view = opened.outbox.view()
    assert (view.project, view.last_seq, view.acked, view.oldest, view.barrier) == ("shop", 0, 0, 1, None)
    assert view.previous == ()
    assert (len(view.sled_id), len(view.epoch)) == (64, 32)
    assert {path.stat().st_mode & 0o777 for path in layout.state.glob("outbox.db*")} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in layout.keys.iterdir()} == {0o600}


async def test_what_is_recorded_survives_a_crash(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    before = opened.outbox.view()
    # The sled is still running: what a copy of its files holds now is what a SIGKILL would leave.
    found = OutboxStore(copied(layout, "crashed").outbox)
    assert (found.head.last_seq, found.head.epoch) == (3, before.epoch)
    found.close()


async def test_a_commit_is_fsynced_before_it_is_confirmed(layout: Layout, open_outbox: OpenOutbox) -> None:
    store = (await open_outbox(layout)).outbox._store
    # 2 is FULL: SQLite fsyncs the WAL at each commit.
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_receipts_and_order_under_concurrency(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    receipts = await asyncio.gather(*(opened.outbox.publish(blocked(number)) for number in range(1, 201)))
    assert [receipt.seq for receipt in receipts] == list(range(1, 201))
    assert reasons(opened) == list(range(1, 201))
    assert opened.announced == [blocked(number) for number in range(1, 201)]


async def test_an_invalid_event_does_not_take_others_with_it(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    bad = StageTransition(story_id="s", from_stage="x", to_stage="y")
    results = await asyncio.gather(
        *(opened.outbox.publish(event) for event in (blocked(1), bad, blocked(2))), return_exceptions=True
    )
    assert isinstance(results[1], InvalidEventError)
    assert reasons(opened) == [1, 2]


async def test_one_who_gives_up_waiting_undoes_nothing(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    waiting = asyncio.ensure_future(opened.outbox.publish(blocked(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await record(opened, 2, 2)
    assert reasons(opened) == [1, 2]
    assert opened.announced == [blocked(1), blocked(2)]


async def test_a_clock_that_goes_backwards(layout: Layout, open_outbox: OpenOutbox) -> None:
    times = iter([NOW + 5_000, NOW, NOW + 1])
    opened = await open_outbox(layout, now_ms=lambda: next(times))
    await record(opened, 1, 3)
    assert reasons(opened) == [1, 2, 3]
    polled = [json.loads(data) for data in await opened.outbox.events_since(NOW)]
    assert [event["timestamp_ms"] for event in polled] == [NOW, NOW + 1, NOW + 5_000]


async def test_rate_limits_leave_the_sled_only_where_asked_for(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout, relay_rate_limits=True)
    await opened.outbox.publish(RateLimitWarning(story_id="s", agent_name="coder"))
    await record(opened, 2, 2)
    assert [event["type"] for event in opened.held()] == ["rate_limit_warning", "story_blocked"]
    assert [is_known for _, is_known in opened.outbox.read(1, 2)] == [False, True]
    assert len(await opened.outbox.events_since(0)) == 1


async def test_reads_are_bounded(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 250)
    opened = await open_outbox(layout)
    await record(opened, 1, 10)
    assert len(opened.outbox.read(1, 3)) == 2
    assert len(opened.outbox.read(10, 100)) == 1


async def test_what_is_committed_can_be_read_before_it_is_announced(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    # A snapshot says "as of seq 1" while `head` is still at 0: the relay then asks for event 1, and must get
    # it without the event loop going on first.
    opened = await open_outbox(layout)
    recording = asyncio.create_task(opened.outbox.publish(blocked(1)))
    for _ in range(2):  # it is submitted, then handed to the thread
        await asyncio.sleep(0)
    while opened.outbox.snapshot()[0] == 0:
        pass
    assert opened.outbox.head.last_seq == 0
    assert len(opened.outbox.read(1, 1)) == 1
    await recording


async def test_a_hole_in_the_outbox_is_an_error_and_never_misnumbers(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 4)
    with contextlib.closing(sqlite3.connect(layout.outbox)) as meddler, meddler:
        meddler.execute("DELETE FROM events WHERE position = 2")
    assert len(opened.outbox.read(1, 4)) == 1
    with pytest.raises(StoreError, match=r"event 2 is missing"):
        opened.outbox.read(2, 3)
    assert len(opened.failures) == 1


async def test_a_poll_never_ends_between_events_of_one_millisecond(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECENT_POLL_EVENTS_MAX", 2)
    times = iter([1, 2, 2, 2, 3])
    opened = await open_outbox(layout, now_ms=lambda: next(times))
    await record(opened, 1, 5)
    assert len(await opened.outbox.events_since(0)) == 4
    assert len(await opened.outbox.events_since(2)) == 3
    assert len(await opened.outbox.events_since(3)) == 1


async def test_seen_and_recorded_commit_together(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    story = SeenStory(story_id="s", stage="3_qa", content=StoryContent(name="N", blocked="b"))
    await opened.outbox.record_changes(Changes(seen=[story], events=[blocked(1)]))
    store = OutboxStore(copied(layout, "crashed").outbox)
    assert store.seen() == {"s": story}
    assert store.head.last_seq == 1
    store.close()
    await opened.outbox.record_changes(Changes(gone=["s"]))
    assert opened.outbox.snapshot() == (1, [])


async def test_the_snapshot_knows_what_other_programs_published(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout)
    seen = SeenStory(story_id="s", stage="3_qa", content=StoryContent(name="N"))
    await opened.outbox.record_changes(Changes(seen=[seen]))
    await opened.outbox.publish(blocked(1))
    await opened.outbox.publish(StageTransition(story_id="t", from_stage="3_qa", to_stage="5_done"))
    _, stories = opened.outbox.snapshot()
    assert {story.story_id: (story.stage, story.blocked) for story in stories} == {
        "s": ("3_qa", "1"),
        "t": ("5_done", None),
    }
    moved = SeenStory(story_id="s", stage="4_merge", content=StoryContent(name="N"))
    event = StageTransition(story_id="s", from_stage="3_qa", to_stage="4_merge")
    await opened.outbox.record_changes(Changes(seen=[moved], events=[event]))
    assert [story.blocked for story in opened.outbox.snapshot()[1]] == [None, None]


# --- epochs ----------------------------------------------------------------------------------------


async def test_an_epoch_carries_over_and_numbers_from_1(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 5)
    opened.outbox.acknowledge(2)
    before = opened.outbox.view()
    await opened.outbox.open_epoch(4)
    view = opened.outbox.view()
    assert (view.sled_id, view.last_seq, view.acked, view.oldest) == (before.sled_id, 2, 0, 1)
    assert view.epoch != before.epoch
    assert view.previous == (PreviousEpoch(epoch=before.epoch, last_seq=3),)
    assert reasons(opened) == [4, 5]
    await record(opened, 6, 6)
    assert reasons(opened) == [4, 5, 6]
    assert len(await opened.outbox.events_since(0)) == 6


async def test_an_epoch_that_carries_nothing(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    await opened.outbox.open_epoch(3)
    assert (opened.outbox.view().last_seq, opened.outbox.view().oldest) == (0, 1)
    await record(opened, 3, 3)
    assert reasons(opened) == [3]


async def test_an_event_that_is_set_aside(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    opened.outbox.acknowledge(1)
    await opened.outbox.set_barrier(2, "no good", set_aside=True)
    view = opened.outbox.view()
    assert (view.barrier, view.barrier_set_aside) == (2, True)
    await opened.outbox.open_epoch(3)
    assert reasons(opened) == [3]
    assert opened.outbox.view().barrier is None
    assert opened.outbox.set_aside_count == 1


async def test_only_the_newest_older_epochs_are_named(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PREVIOUS_EPOCHS_MAX", 2)
    opened = await open_outbox(layout)
    epochs = []
    for _ in range(4):
        epochs.append(opened.outbox.head.epoch)
        await opened.outbox.open_epoch(1)
    assert [previous.epoch for previous in opened.outbox.view().previous] == epochs[-2:]


async def test_old_events_are_pruned_once_acknowledged(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_store, "_PRUNE_STEP", 2)
    now = NOW
    opened = await open_outbox(layout, now_ms=lambda: now, keep=Keeping(ms=1_000))
    await record(opened, 1, 10)
    opened.outbox.acknowledge(4)
    await flushed(opened)
    assert opened.outbox.view().oldest == 1
    now += 1_001
    opened.outbox.acknowledge(5)
    await flushed(opened)
    # What became old goes away in steps, and what waits for an ack never.
    assert (opened.outbox.view().oldest, opened.outbox.view().last_seq) == (4, 10)
    opened.outbox.acknowledge(9)
    await flushed(opened)
    assert reasons(opened) == [10]


async def test_however_many_were_acknowledged_all_of_the_last_days_are_kept(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    now = NOW
    opened = await open_outbox(layout, now_ms=lambda: now)
    entries = [entry_of(blocked(number), NOW) for number in range(1, 100_002)]
    await opened.outbox.record_published(entries)
    now += limits.KEEP_ACKED_MS
    opened.outbox.acknowledge(100_001)
    await flushed(opened)
    assert opened.outbox.view().oldest == 1


async def test_what_too_few_gateways_hold_is_kept_however_old(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout, now_ms=count(NOW).__next__, keep=Keeping(ms=0, copies=2))
    await record(opened, 1, 6)
    opened.outbox.acknowledge(5)
    await flushed(opened)
    assert (opened.outbox.view().oldest, opened.outbox.view().held) == (1, 0)
    opened.outbox.hold(3)
    await flushed(opened)
    assert (opened.outbox.view().oldest, opened.outbox.view().held) == (4, 3)
    opened.outbox.hold(2)
    await flushed(opened)
    assert opened.outbox.view().held == 3
    # Held by so many, but never acknowledged to this sled.
    opened.outbox.hold(6)
    await flushed(opened)
    assert reasons(opened) == [6]


@pytest.mark.parametrize(("copies", "held"), [(1, 4), (2, 3), (3, 0)])
async def test_what_two_gateways_hold_says_nothing_of_three(
    layout: Layout, open_outbox: OpenOutbox, copies: int, held: int
) -> None:
    opened = await open_outbox(layout, keep=Keeping(copies=2))
    await record(opened, 1, 5)
    opened.outbox.acknowledge(4)
    opened.outbox.hold(3)
    await opened.outbox.stop()
    again = await open_outbox(layout, keep=Keeping(copies=copies))
    assert (again.outbox.view().copies, again.outbox.view().held) == (copies, held)
    again.outbox.hold(2)
    await flushed(again)
    assert again.outbox.view().held == max(held, 2)


async def test_a_new_epoch_is_held_by_no_one(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout, now_ms=count(NOW).__next__, keep=Keeping(ms=0, copies=2))
    await record(opened, 1, 4)
    opened.outbox.acknowledge(2)
    opened.outbox.hold(2)
    await opened.outbox.open_epoch(3)
    assert opened.outbox.view().held == 0
    assert reasons(opened) == [3, 4]


async def test_an_outbox_of_the_version_before_is_brought_up(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    opened.outbox.acknowledge(1)
    await opened.outbox.stop()
    before = opened.outbox.head
    with contextlib.closing(sqlite3.connect(layout.outbox)) as older:
        older.executescript(
            "ALTER TABLE head DROP COLUMN held; ALTER TABLE head DROP COLUMN held_by; PRAGMA user_version = 1"
        )
    again = await open_outbox(layout)
    assert again.outbox.head == before
    again.outbox.acknowledge(2)
    await flushed(again)
    assert again.outbox.head.acked == 2


async def test_events_are_pruned_by_age_without_leaving_holes(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    old, new = NOW, NOW + limits.KEEP_ACKED_MS + 10  # the default
    times = iter([old, old, new, old, new, new, new])
    opened = await open_outbox(layout, now_ms=lambda: next(times))
    await record(opened, 1, 5)
    opened.outbox.acknowledge(5)
    await flushed(opened)
    assert reasons(opened) == [3, 4, 5]


async def test_what_waits_for_an_ack_is_kept_however_old(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout, now_ms=count(NOW).__next__, keep=Keeping(ms=0))
    await record(opened, 1, 4)
    opened.outbox.acknowledge(1)
    await flushed(opened)
    assert reasons(opened) == [2, 3, 4]


# --- identity --------------------------------------------------------------------------------------


async def reopened(opened: Opened, open_outbox: OpenOutbox, layout: Layout, name: str = "shop") -> Opened:
    await opened.outbox.stop()
    return await open_outbox(layout, name)


async def test_a_restart_keeps_key_and_epoch(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    before = opened.outbox.view()
    assert (await reopened(opened, open_outbox, layout)).outbox.view() == before


async def test_a_lost_outbox_keeps_the_key_and_begins_an_epoch(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout)
    before = opened.outbox.head
    await opened.outbox.stop()
    for path in layout.state.glob("outbox.db*"):
        path.unlink()
    head = (await open_outbox(layout)).outbox.head
    assert head.sled_id == before.sled_id
    assert head.epoch != before.epoch


async def test_a_lost_key(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    before = opened.outbox.head
    for path in layout.keys.iterdir():
        path.unlink()
    again = await reopened(opened, open_outbox, layout)
    assert again.outbox.head.sled_id != before.sled_id
    assert reasons(again) == [1, 2]


async def test_renamed_with_nothing_unacknowledged(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    opened.outbox.acknowledge(2)
    await flushed(opened)
    before = opened.outbox.head
    again = await reopened(opened, open_outbox, layout, "store")
    view = again.outbox.view()
    assert (view.project, view.last_seq, view.barrier, view.previous) == ("store", 0, None, ())
    assert before.sled_id != view.sled_id
    assert before.epoch != view.epoch
    assert [path.stem for path in layout.keys.iterdir()] == [view.sled_id]


async def test_renamed_with_events_that_wait_for_an_ack(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    opened.outbox.acknowledge(1)
    await flushed(opened)
    before = opened.outbox.head
    again = await reopened(opened, open_outbox, layout, "store")
    await record(again, 4, 4)
    view = again.outbox.view()
    assert (view.project, view.sled_id, view.epoch) == (before.project, before.sled_id, before.epoch)
    assert (view.barrier, view.last_seq) == (4, 4)
    assert again.outbox.is_renamed
    # A restart while draining changes nothing.
    again = await reopened(again, open_outbox, layout, "store")
    assert again.outbox.view() == view
    await again.outbox.open_epoch(4)
    head = again.outbox.head
    assert (head.project, head.last_seq, head.barrier) == ("store", 1, None)
    assert head.sled_id != before.sled_id
    assert again.outbox.view().previous == ()
    assert not again.outbox.identity_pending
    assert reasons(again) == [4]


async def test_a_project_that_was_moved_drains_first(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    before = opened.outbox.head
    await opened.outbox.stop()
    elsewhere = Layout(layout.project_dir.rename(layout.project_dir.parent / "elsewhere"))
    moved = await open_outbox(elsewhere)
    assert (moved.outbox.head.sled_id, moved.outbox.head.barrier) == (before.sled_id, 3)
    await moved.outbox.open_epoch(3)
    assert (moved.outbox.head.place, moved.outbox.head.sled_id != before.sled_id) == (
        str(elsewhere.project_dir),
        True,
    )


async def test_a_copy_delivers_what_it_inherited_under_the_originals_identity(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    copy = await open_outbox(copied(layout, "copy"))
    view = copy.outbox.view()
    assert (view.sled_id, view.epoch, view.barrier) == (*identity(opened), 3)
    await record(copy, 3, 3)
    await copy.outbox.open_epoch(3)
    assert copy.outbox.head.sled_id != opened.outbox.head.sled_id
    assert reasons(copy) == [3]
    assert reasons(await reopened(opened, open_outbox, layout)) == [1, 2]


async def test_a_copy_never_carries_over_what_is_the_originals(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    # As when the old name is not admitted, or an older gateway knows no identities.
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    copy = await open_outbox(copied(layout, "copy"), "other")
    await record(copy, 3, 3)
    await copy.outbox.open_epoch(copy.outbox.head.acked + 1)
    assert (copy.outbox.head.project, reasons(copy)) == ("other", [3])


async def test_a_project_that_was_moved_carries_over_what_its_old_name_cannot_deliver(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    await opened.outbox.stop()
    elsewhere = Layout(layout.project_dir.rename(layout.project_dir.parent / "elsewhere"))
    moved = await open_outbox(elsewhere, "other")
    await moved.outbox.open_epoch(moved.outbox.head.acked + 1)
    assert reasons(moved) == [1, 2]


@pytest.mark.parametrize("set_aside", [False, True])
async def test_a_receipt_names_the_identity_that_its_event_will_have(
    layout: Layout, open_outbox: OpenOutbox, *, set_aside: bool
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    await opened.outbox.set_barrier(2, "conflict", set_aside=set_aside)
    receipt = await opened.outbox.publish(blocked(4))
    await opened.outbox.open_epoch(2 + set_aside)
    assert (receipt.sled_id, receipt.epoch) == identity(opened)
    assert receipt.seq == opened.outbox.head.last_seq == 3 - set_aside


async def test_receipts_of_a_copy_and_after_a_restart_name_its_own_identity(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    elsewhere = copied(layout, "copy")
    copy = await open_outbox(elsewhere)
    first = await copy.outbox.publish(blocked(3))
    copy = await reopened(copy, open_outbox, elsewhere)
    second = await copy.outbox.publish(blocked(4))
    await copy.outbox.open_epoch(3)
    assert {(r.sled_id, r.epoch) for r in (first, second)} == {identity(copy)}
    assert (first.seq, second.seq) == (1, 2)


async def test_renamed_back_before_the_new_name_was_taken(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    before = opened.outbox.head.sled_id
    opened = await reopened(opened, open_outbox, layout, "store")
    await record(opened, 3, 3)
    opened = await reopened(opened, open_outbox, layout)
    receipt = await opened.outbox.publish(blocked(4))
    await opened.outbox.open_epoch(3)
    assert opened.outbox.head.sled_id == before
    assert ((receipt.sled_id, receipt.epoch), receipt.seq) == (identity(opened), 2)


async def test_a_second_name_of_the_same_directory_is_no_move(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await open_outbox(layout)
    before = opened.outbox.head
    await opened.outbox.stop()
    alias = layout.project_dir.parent / "alias"
    alias.symlink_to(layout.project_dir)
    # As with a bind mount: both paths are real, and name one directory.
    bound = Layout(layout.project_dir)
    monkeypatch.setattr(bound, "project_dir", alias)
    again = await open_outbox(bound)
    assert again.outbox.head == before
    assert not again.outbox.identity_pending


# --- failing stores --------------------------------------------------------------------------------


async def test_a_store_that_fails_confirms_nothing(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 1)

    def full(*_: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(opened.outbox._store, "append", full)
    results = await asyncio.gather(
        *(opened.outbox.publish(blocked(number)) for number in (2, 3)), return_exceptions=True
    )
    assert all(isinstance(result, StoreError) for result in results)
    with pytest.raises(StoreError, match="disk is full"):
        await opened.outbox.publish(blocked(4))
    assert [str(failure) for failure in opened.failures] == [str(results[0])]
    assert reasons(opened) == [1]
    assert opened.announced == [blocked(1)]


async def test_after_the_end_nothing_is_taken(layout: Layout, open_outbox: OpenOutbox) -> None:
    opened = await open_outbox(layout)
    await opened.outbox.stop()
    with pytest.raises(StoreError, match="closed"):
        await opened.outbox.publish(blocked(1))


def test_a_file_that_is_no_outbox(layout: Layout) -> None:
    layout.outbox.write_bytes(b"no database" * 1_000)
    with pytest.raises(ConfigError, match=r"outbox\.db"):
        OutboxStore(layout.outbox)


def test_a_transaction_that_fails_leaves_the_head_alone(layout: Layout) -> None:
    store = OutboxStore(layout.outbox)
    with pytest.raises(StoreError), store.transaction():
        raise sqlite3.OperationalError("disk I/O error")
    assert store.is_new
    store.close()


def test_an_entry_is_the_wire_form() -> None:
    entry = entry_of(blocked(1), NOW)
    assert entry.json == (
        b'{"type":"story_blocked","story_id":"s","story_name":"","reason":"1","timestamp_ms":1700000000000}'
    )
