"""Rows of sequences carry checksums: a damaged one is found, named, and never given one that fits it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from tests.gateway.conftest import OpenLog, OpenLogs, Owner, stored
from tests.gateway.test_damage import HARMS, filled, flipped
from tests.gateway.test_retention import AGED, at, trim
from tests.gateway.test_retention import filled as aged
from tests.gateway.test_verify import walk

from huskies.errors import ConfigError, StoreError
from huskies.gateway.store import log_store, stream_rows
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.retention import Rules

Harm = Callable[[sqlite3.Connection], object]
SAID = ["sled_id", "epoch", "project", "closed_seq", "base_seq", "base_digest"]
SAID += ["cut_seq", "contested", "dropped_seq", "dropped_digest", "crc"]
HEAD = ["last_seq", "digest", "head_crc"]


def changed(column: str, number: int = 2) -> Harm:
    """One bit of a column of one row."""

    def harm(db: sqlite3.Connection) -> None:
        [value] = db.execute(f"SELECT {column} FROM streams WHERE id = ?", (number,)).fetchone()  # noqa: S608 - constants
        other = chr(ord(value[0]) ^ 1) + value[1:] if isinstance(value, str) else (value or 0) ^ 1
        db.execute(f"UPDATE streams SET {column} = ? WHERE id = ?", (other, number))  # noqa: S608 - constants

    return harm


def no_text(db: sqlite3.Connection) -> None:
    db.execute("UPDATE streams SET epoch = CAST(x'e539' AS TEXT) WHERE id = 2")


def no_number(db: sqlite3.Connection) -> None:
    db.execute("UPDATE streams SET base_seq = x'00' WHERE id = 2")


def renumbered(db: sqlite3.Connection) -> None:
    db.execute("UPDATE streams SET id = 3 WHERE id = 2")


def renumbered_below(db: sqlite3.Connection) -> None:
    db.execute("UPDATE streams SET id = -2 WHERE id = 2")


def far_away(db: sqlite3.Connection) -> None:
    db.execute("UPDATE streams SET id = 1 << 60 WHERE id = 2")


def gone(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM streams WHERE id = 1")


OTHERS = [no_text, no_number, renumbered, renumbered_below, far_away, gone]


async def harmed(log: OpenLog, *harms: Harm) -> None:
    await log.close()
    with closing(sqlite3.connect(log.log.path)) as db:
        for harm in harms:
            harm(db)
        db.commit()


def heads(log: OpenLog) -> list[tuple[int, int]]:
    return [(stream.last_seq, stream.digest) for stream in log.log.streams if stream is not None]


def problems(log: OpenLog) -> list[stream_rows.RowProblem]:
    with closing(sqlite3.connect(log.log.path)) as db:
        return stream_rows.read(db).problems


@pytest.mark.parametrize(
    "harm", [*map(changed, SAID), *OTHERS], ids=[*SAID, *(each.__name__ for each in OTHERS)]
)
async def test_a_damaged_row_is_no_start_and_is_named_by_verify_which_walks_on(
    open_log: OpenLogs, harm: Harm
) -> None:
    log = await filled(await open_log())
    await harmed(log, harm, flipped("events", 5))
    with pytest.raises(
        StoreError, match=r"log\.db: the log is damaged: the row of sequence .*huskies verify"
    ):
        await open_log()
    found, check = walk(log)
    assert found[0].problem.startswith("the row of sequence ")
    assert [problem.position for problem in found if problem.last_position] == [5]
    # Nothing is said twice of the row; whose events the block held cannot be told beside it.
    rest = [p.problem for p in found if not p.last_position and not p.problem.startswith("the row")]
    assert set(rest) <= {"seq 3 to 3 are not there", "no stream has the number 2"}
    assert (check.verdict.blocks, check.verdict.last_position) == (4, 8)


async def test_what_a_row_says_is_told_with_what_is_wrong(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await harmed(log, changed("project"))
    with pytest.raises(
        StoreError,
        match=r"sequence 2 \(sled bb, epoch e9, project clog\): its checksum is \w+ and should be \w+",
    ):
        await open_log()
    [problem] = walk(log)[0]
    assert (problem.position, problem.sled_id, problem.epoch, problem.project) == (1, "bb", "e9", "clog")


@pytest.mark.parametrize("column", HEAD)
async def test_a_damaged_head_follows_from_the_log_where_that_is_sound(
    open_log: OpenLogs, column: str
) -> None:
    log = await filled(await open_log())
    before = heads(log)
    await harmed(log, changed(column))
    [problem] = walk(log)[0]
    assert problem.problem.startswith("the row of sequence 2: its head's checksum")
    log = await open_log()
    assert heads(log) == before
    log.append(await log.admit("bb", "e9", "blog"), 5, stored("b5"), owner=(owner := Owner()))
    await log.settled()
    assert owner.told == [("ack", 5)]
    await log.close()
    assert (problems(log), walk(log)[0]) == ([], [])


async def test_a_damaged_head_is_no_start_where_a_block_is_damaged_too(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await harmed(log, changed("last_seq"), HARMS["other runs"])
    with pytest.raises(StoreError, match=r"sequence 2 .*neither is position 3 sound.*huskies verify"):
        await open_log()


@pytest.mark.parametrize("column", HEAD)
async def test_a_damaged_head_of_which_nothing_is_retained_is_where_it_begins(
    open_log: OpenLogs, column: str
) -> None:
    log = await filled(await open_log())
    await log.admit("cc", "e7", "shop")
    await harmed(log, changed(column, 3))
    log = await open_log()
    assert heads(log)[2] == (0, 0)
    await log.close()
    assert (problems(log), walk(log)[0]) == ([], [])


async def test_a_damaged_head_of_which_all_was_dropped_is_where_that_ended(open_log: OpenLogs) -> None:
    log = await dropped(open_log)
    [expected, _] = heads(log)
    await harmed(log, changed("digest", 1))
    log = await open_log()
    assert heads(log)[0] == expected
    log.append(await log.admit(), 3, stored("s3"), owner=(owner := Owner()))
    await log.settled()
    assert owner.told == [("ack", 3)]


async def test_a_damaged_head_of_which_damage_was_dropped_is_no_start(open_log: OpenLogs) -> None:
    log = await dropped(open_log, "UPDATE blocks SET runs = x'00' WHERE position = 2")
    await harmed(log, changed("digest", 1))
    with pytest.raises(StoreError, match=r"sequence 1 \(sled aa, epoch e1, project shop\): its head's"):
        await open_log()


async def dropped(open_log: OpenLogs, harm: str = "SELECT 1") -> OpenLog:
    """Of two sequences one was dropped altogether, perhaps with damage in its newest block."""
    log = await open_log()
    shop, blog = await log.admit(), await log.admit("bb", "e9", "blog")
    for seq, stream in ((1, shop), (2, shop), (1, blog)):
        log.append(stream, seq, stored(f"{stream.id} {seq}"), owner=Owner())
        log.next_block()
    await log.settled()
    await log.log.call(lambda db: db.execute(harm))
    await log.history.blocks_after(0)
    assert await log.log.trim(Rules(age_ms=-1), 2)
    return log


@pytest.mark.parametrize("key", ["heads_position", "heads_chain", "heads_crc"])
async def test_a_damaged_checkpoint_follows_from_the_log_too(open_log: OpenLogs, key: str) -> None:
    log = await filled(await open_log())
    before = heads(log)

    def harm(db: sqlite3.Connection) -> None:
        db.execute("UPDATE meta SET value = value + 4 WHERE key = ?", (key,))

    await harmed(log, harm)
    assert "checkpoint of the heads" in walk(log)[0][0].problem
    log = await open_log()
    assert heads(log) == before
    await log.close()
    log = await open_log()
    await harmed(log, harm, HARMS["events"])
    with pytest.raises(StoreError, match="checkpoint of the heads does not fit, and neither is position 3"):
        await open_log()


async def test_every_change_of_a_row_keeps_its_checksums(open_log: OpenLogs) -> None:
    log = await aged(await open_log())
    live, blog = log.log.sequences.live(("aa", "e1")), log.log.sequences.live(("bb", "e9"))
    digest = await log.log.digest(("aa", "e1"), 5)
    assert live is not None
    assert blog is not None
    assert digest is not None

    def change(db: sqlite3.Connection) -> None:
        log.log.sequences.close_epoch(db, blog, 9)
        log.log.sequences.contest(db, blog)
        log.log.sequences.adopt_base(db, blog, 20, 7)
        log.log.sequences.cut(db, live, 6, digest)

    await log.log.call(change)
    assert problems(log) == []
    at(log, 4_500)
    await trim(log, AGED)
    assert problems(log) == []
    await log.close()
    before = [stream for stream in log.log.streams if stream is not None]
    log = await open_log()
    assert [stream for stream in log.log.streams if stream is not None] == before
    assert [stream.dropped_seq for stream in before[:2]] == [3, 3]


async def test_what_is_damaged_on_the_disk_is_not_sealed_by_the_next_change(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    live = log.log.sequences.live(("bb", "e9"))
    assert live is not None
    await log.log.call(changed("project"))
    await log.log.call(lambda db: log.log.sequences.close_epoch(db, live, 9))
    # It was written again as a whole, from memory.
    assert problems(log) == []
    with closing(sqlite3.connect(log.log.path)) as db:
        assert db.execute("SELECT project, closed_seq FROM streams WHERE id = 2").fetchall() == [("blog", 9)]


async def test_damage_found_beside_a_damaged_row_is_taken_for_everyones(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.log.call(changed("sled_id"))
    await log.log.call(flipped("events"))
    await log.history.blocks_after(0)
    [found] = log.log.damaged.ranges()
    assert found.missing == []
    assert log.log.damaged.hidden(("bb", "e9"), 2, 2) == {2}


# --- versions ----------------------------------------------------------------------------------------


def as_version_1(db: sqlite3.Connection) -> None:
    for column in ("crc", "head_crc"):
        db.execute(f"ALTER TABLE streams DROP COLUMN {column}")
    db.execute("DELETE FROM meta WHERE key IN ('heads_chain', 'heads_crc')")
    db.execute("DROP TABLE repaired")
    db.execute("PRAGMA user_version = 1")


async def test_a_log_of_version_1_gets_its_checksums_when_it_is_opened(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    before = heads(log)
    await harmed(log, as_version_1)
    assert (problems(log), walk(log)[0]) == ([], [])
    log = await open_log()
    assert heads(log) == before
    assert await log.log.call(lambda db: db.execute("PRAGMA user_version").fetchone()) == (2,)
    assert (problems(log), walk(log)[0]) == ([], [])
    await harmed(log, changed("epoch"))
    with pytest.raises(StoreError, match="the row of sequence 2"):
        await open_log()


async def test_a_row_of_version_1_that_cannot_be_read_is_no_start_and_nothing_is_changed(
    open_log: OpenLogs,
) -> None:
    log = await filled(await open_log())
    await harmed(log, as_version_1, no_text)
    for _ in range(2):
        with pytest.raises(StoreError, match="the row of sequence 2: it cannot be read"):
            await open_log()
        with closing(sqlite3.connect(log.log.path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_log_of_a_newer_version_is_refused(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await harmed(log, lambda db: db.execute(f"PRAGMA user_version = {log_store.VERSION + 1}"))
    with pytest.raises(ConfigError, match="written by a newer Huskies"):
        await open_log()


def test_every_field_of_a_sequence_is_under_a_checksum() -> None:
    assert {*SAID, *HEAD} - {"crc", "head_crc"} == {*Stream.__struct_fields__} - {"id"}
