"""The log: what is appended, compared, refused and read again."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.gateway.conftest import OpenLog, OpenLogs, Owner, stored

from huskies.errors import ConfigError, StoreError
from huskies.events import codec
from huskies.gateway.store import log_store, stream_rows
from huskies.protocol.wire import PreviousEpoch


@pytest.fixture
async def log(open_log: OpenLogs) -> OpenLog:
    return await open_log()


def reasons(log: OpenLog) -> list[str]:
    return [getattr(event, "reason", "") for event in log.held()]


async def test_what_is_appended_is_acknowledged_published_and_in_the_file(log: OpenLog) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), stored("b"), owner=owner)
    assert owner.told == []
    await log.settled()
    assert owner.told == [("ack", 2)]
    assert reasons(log) == ["a", "b"]
    assert (log.log.position, log.log.heads()["aa", "e1"]) == (2, 2)
    with closing(sqlite3.connect(log.log.path)) as reader:
        [(position, events)] = reader.execute("SELECT position, events FROM blocks").fetchall()
    assert (position, codec.decode_batch(events)) == (1, log.held())


async def test_a_commit_is_fsynced_before_it_is_acknowledged(log: OpenLog) -> None:
    # 2 is FULL: SQLite fsyncs the WAL at each commit.
    durability = await log.log.call(lambda db: db.execute("PRAGMA synchronous").fetchone())
    assert durability == (2,)


async def test_the_position_is_that_of_all_streams_together(log: OpenLog) -> None:
    one, two, owner = await log.admit("aa"), await log.admit("bb", project="blog"), Owner()
    for seq in (1, 2, 3):
        log.append(one, seq, stored(f"one {seq}"), owner=owner)
        log.append(two, seq, stored(f"two {seq}"), owner=owner)
    await log.settled()
    # Within one commit the events of a stream stand together, and in order.
    assert reasons(log) == ["one 1", "one 2", "one 3", "two 1", "two 2", "two 3"]
    [block] = log.published
    assert [(run.stream_id, run.first_seq, run.count) for run in block.runs] == [
        (one.id, 1, 3),
        (two.id, 1, 3),
    ]


async def test_what_was_replayed_is_kept_apart(log: OpenLog) -> None:
    stream = await log.admit()
    log.append(stream, 1, stored("a"), owner=Owner(), replayed=1)
    log.append(stream, 2, stored("b"), owner=Owner(), replayed=5)
    await log.settled()
    assert [run.replayed_through for block in log.published for run in block.runs] == [1, 5]
    assert reasons(log) == ["a", "b"]


async def test_events_without_a_seq_are_numbered_by_the_log(log: OpenLog) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 0, stored("a"), owner=owner)
    log.append(stream, 0, stored("b"), stored("c"), owner=owner)
    await log.settled()
    assert owner.told[-1] == ("ack", 3)
    assert [(run.first_seq, run.count) for block in log.published for run in block.runs] == [(1, 3)]


@pytest.mark.parametrize("first_seq", [3, 4, 99])
async def test_what_begins_too_far_on_is_a_gap_and_not_stored(log: OpenLog, first_seq: int) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), owner=owner)
    log.append(stream, first_seq, stored("c"), owner=owner)
    await log.settled()
    assert owner.told == [("ack", 1), ("gap", 2)]
    assert reasons(log) == ["a"]


async def test_what_is_held_already_is_acknowledged_again_and_not_stored_again(log: OpenLog) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), stored("b"), stored("c"), owner=owner)
    await log.settled()
    log.append(stream, 2, stored("b"), owner=owner)
    await log.settled()
    log.append(stream, 1, stored("a"), stored("b"), stored("c"), stored("d"), owner=owner)
    await log.settled()
    assert owner.told == [("ack", 3), ("ack", 2), ("ack", 4)]
    assert reasons(log) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("indexed", [0, 1, 2, 3])
async def test_what_is_held_is_compared_however_far_the_index_is(log: OpenLog, indexed: int) -> None:
    stream, other, owner = await log.admit(), await log.admit("bb", project="blog"), Owner()
    for number, reason in enumerate(("a", "b", "c"), 1):
        log.append(stream, number, stored(reason), owner=owner)
        log.append(other, number, stored("of another"), owner=owner)
        await log.settled()
    for block in log.published[:indexed]:
        log.index_blocks([block])
    log.append(stream, 1, stored("a"), stored("b"), stored("c"), owner=owner)
    await log.settled()
    assert owner.told[-1] == ("ack", 3)
    log.append(stream, 1, stored("a"), stored("b"), stored("C"), owner=owner)
    await log.settled()
    assert owner.told[-1] == ("conflict", 3)


async def test_what_waits_in_the_same_commit_is_compared_too(log: OpenLog) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), stored("b"), owner=owner)
    log.append(stream, 1, stored("a"), stored("B"), owner=owner)
    await log.settled()
    assert owner.told == [("ack", 2), ("conflict", 2)]
    assert reasons(log) == ["a", "b"]


async def test_another_content_is_quarantined_and_never_merged(log: OpenLog) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), stored("b"), owner=owner)
    await log.settled()
    log.append(stream, 1, stored("a"), stored("B"), stored("C"), owner=owner)
    await log.settled()
    assert owner.told[-1] == ("conflict", 2)
    assert reasons(log) == ["a", "b"]
    [(stream_id, first_seq, events)] = await log.log.call(
        lambda db: db.execute("SELECT stream_id, first_seq, events FROM quarantine").fetchall()
    )
    assert (stream_id, first_seq) == (stream.id, 2)
    assert codec.decode_batch(events) == [stored("B"), stored("C")]


@pytest.mark.parametrize("one_commit", [True, False])
async def test_after_a_conflict_nothing_more_of_its_session_is_stored(log: OpenLog, one_commit: bool) -> None:  # noqa: FBT001 - a case
    # The sled starts a new epoch from the conflict on: what came behind it would be stored twice.
    stream, session = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), stored("b"), owner=Owner())
    await log.settled()
    log.append(stream, 1, stored("a"), stored("B"), owner=session)
    if not one_commit:
        await log.settled()
    log.append(stream, 3, stored("c"), owner=session)
    await log.settled()
    assert reasons(log) == ["a", "b"]
    assert [told for told in session.told if told[0] == "ack" and told[1] > 1] == []
    assert session.batches == 2


async def test_after_a_gap_nothing_more_of_its_session_is_stored(log: OpenLog) -> None:
    stream, session = await log.admit(), Owner()
    log.append(stream, 2, stored("b"), owner=session)
    log.append(stream, 1, stored("a"), owner=session)
    await log.settled()
    assert reasons(log) == []
    assert session.told[0] == ("gap", 1)


async def test_admission_settles_what_was_handed_over_before(log: OpenLog) -> None:
    stream, owner = await log.admit(), Owner()
    log.append(stream, 1, stored("a"), stored("b"), owner=owner)
    assert await log.log.admit("aa", "e1", "shop") == (stream, 2)
    assert owner.told == [("ack", 2)]


async def test_an_older_epoch_that_is_named_is_closed(log: OpenLog) -> None:
    older, owner = await log.admit(), Owner()
    log.append(older, 1, stored("a"), owner=owner)
    previous = [PreviousEpoch(epoch="e1", last_seq=4), PreviousEpoch(epoch="e0", last_seq=2)]
    await log.log.admit("aa", "e2", "shop", previous)
    closed = {s.epoch: (s.last_seq, s.closed_seq) for s in log.log.streams if s is not None}
    assert closed == {"e1": (1, 4), "e0": (0, 2), "e2": (0, None)}


async def test_a_sled_belongs_to_a_project_for_ever(open_log: OpenLogs) -> None:
    log = await open_log()
    await log.admit()
    for _ in range(2):
        assert await log.log.admit("aa", "e2", "blog", [PreviousEpoch(epoch="e0", last_seq=9)]) == "shop"
        assert [stream.epoch for stream in log.log.streams if stream is not None] == ["e1"]
        await log.close()
        log = await open_log()


async def test_a_sled_without_events_belongs_to_its_project_too(log: OpenLog) -> None:
    answers = await asyncio.gather(log.log.admit("aa", "e1", "shop"), log.log.admit("aa", "e2", "blog"))
    assert not isinstance(answers[0], str)
    assert answers[1] == "shop"


@pytest.mark.parametrize("crashed", [False, True])
async def test_a_restart_finds_what_was_committed(
    open_log: OpenLogs,
    tmp_path: Path,
    crashed: bool,  # noqa: FBT001 - a case
) -> None:
    log = await open_log()
    stream, other = await log.admit(), await log.admit("bb", project="blog")
    log.append(stream, 1, stored("a"), stored("b"), owner=Owner())
    log.append(other, 1, stored("x"), owner=Owner())
    await log.log.admit("aa", "e2", "shop", [PreviousEpoch(epoch="e1", last_seq=9)])
    await log.settled()
    name = "data"
    if crashed:
        # A copy of the files as they are, while the gateway still runs: the heads were not checkpointed.
        name = "copy"
        (tmp_path / name).mkdir()
        for path in (tmp_path / "data").iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    else:
        await log.close()
    again = (await open_log(name)).log
    assert again.log_id == log.log.log_id
    assert (again.position, again.chain) == (log.log.position, log.log.chain)
    assert again.streams == log.log.streams
    assert again.heads() == log.log.heads()


async def test_after_a_restart_the_next_event_follows(open_log: OpenLogs) -> None:
    log = await open_log()
    log.append(await log.admit(), 1, stored("a"), owner=Owner())
    await log.close()
    again = await open_log()
    owner = Owner()
    stream = await again.admit()
    again.append(stream, 3, stored("c"), owner=owner)
    again.append(stream, 2, stored("b"), owner=Owner())
    await again.settled()
    assert owner.told == [("gap", 2)]
    assert [block.position for block in again.published] == [2]
    blocks = await again.history.blocks_after(0)
    assert [block.position for block in blocks] == [1, 2]


async def fill_the_disk(log: OpenLog) -> None:
    """From now on the file cannot grow: SQLite then fails as it does on a full disk."""
    await log.log.call(lambda db: db.execute("PRAGMA max_page_count = 1"))


async def test_a_full_disk_acknowledges_nothing_and_is_told_once(log: OpenLog) -> None:
    stream, before, after = await log.admit(), Owner(), Owner()
    log.append(stream, 1, stored("a"), owner=before)
    await log.settled()
    await fill_the_disk(log)
    log.append(stream, 2, stored("b" * 16_000), owner=after)
    async with asyncio.timeout(10):
        while not log.failures:  # noqa: ASYNC110 - the log has no event to wait for
            await asyncio.sleep(0.005)
    log.append(stream, 3, stored("c"), owner=after)
    await log.log.stop()
    assert len(log.failures) == 1
    assert isinstance(log.failures[0], StoreError)
    assert str(log.log.path) in str(log.failures[0])
    assert "full" in str(log.failures[0])
    assert (before.told, after.told, reasons(log)) == ([("ack", 1)], [], ["a"])


async def test_after_a_full_disk_the_log_holds_what_it_had_acknowledged_and_no_more(
    open_log: OpenLogs,
) -> None:
    log = await open_log()
    stream = await log.admit()
    log.append(stream, 1, stored("a"), owner=Owner())
    await log.settled()
    await fill_the_disk(log)
    log.append(stream, 2, stored("b" * 16_000), owner=Owner())
    async with asyncio.timeout(10):
        while not log.failures:  # noqa: ASYNC110 - the log has no event to wait for
            await asyncio.sleep(0.005)
    # Room again, as where something else was deleted meanwhile.
    log.log._writer._connection.execute("PRAGMA max_page_count = 100000")
    await log.close()
    again = await open_log()
    assert (again.log.heads()["aa", "e1"], again.log.position) == (1, 1)
    owner = Owner()
    again.append(await again.admit(), 2, stored("b" * 16_000), owner=owner)
    await again.settled()
    assert owner.told == [("ack", 2)]


async def test_a_file_that_is_no_log_is_refused_with_its_path(tmp_path: Path, open_log: OpenLogs) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.db").write_bytes(b"nothing of the kind" * 500)
    with pytest.raises(ConfigError, match=r"log\.db"):
        await open_log()


async def test_too_much_that_is_not_yet_committed_makes_sleds_wait(
    log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.limits.PENDING_EVENTS_MAX", 2)
    stream, gate = await log.admit(), threading.Event()
    log.log.later(lambda _: gate.wait(10))
    await log.log.room()
    log.append(stream, 1, stored("a"), stored("b"), owner=Owner())
    waiting = asyncio.create_task(log.log.room())
    await asyncio.sleep(0)
    assert log.log.crowded
    assert not waiting.done()
    gate.set()
    async with asyncio.timeout(10):
        await waiting
    assert (log.log.pending_events, log.log.pending_bytes) == (0, 0)


async def test_heads_that_a_crash_left_behind_are_part_of_the_next_checkpoint(open_log: OpenLogs) -> None:
    log = await open_log()
    log.append(await log.admit("aa"), 1, stored("a"), owner=Owner())
    await log.settled()
    log.log._writer._failed = True
    await log.close()
    log = await open_log()
    log.append(await log.admit("bb", "e2", "blog"), 1, stored("b"), owner=Owner())
    await log.settled()
    await log.close()
    log = await open_log()
    assert (log.log.heads()["aa", "e1"], log.log.heads()["bb", "e2"]) == (1, 1)


async def test_heads_are_checkpointed_now_and_then(
    open_log: OpenLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.gateway.store.log_writer._CHECKPOINT_EVENTS", 2)
    log = await open_log()
    log.append(await log.admit(), 1, stored("a"), stored("b"), owner=Owner())
    await log.settled()
    with closing(sqlite3.connect(log.log.path)) as reader:
        assert log_store.read_meta(reader, "heads_position") == 2
        assert [s.last_seq for s in stream_rows.read(reader).streams if s is not None] == [2]


async def test_who_waits_for_a_log_that_fails_is_told(open_log: OpenLogs) -> None:
    opened = await open_log()

    def broken(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    opened.log.later(broken)
    for _ in range(2):  # while it fails, and afterwards
        with pytest.raises(StoreError, match="disk I/O error"):
            await opened.admit()
    assert len(opened.failures) == 1
