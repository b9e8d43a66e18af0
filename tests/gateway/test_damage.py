"""What is damaged is found, said once, shown to no one, never skipped in silence, and repaired exactly."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.gateway.conftest import OpenLog, OpenLogs, Owner, stored

from huskies.errors import ConfigError, CorruptLogError, StoreError
from huskies.gateway.store import block_rows, stream_rows
from huskies.gateway.store.blocks import Block, Run, checksum, damaged_block, decode_runs, encode_runs
from huskies.gateway.store.history import Page
from huskies.gateway.store.repair import Damaged, Rebuilt, rebuild
from huskies.gateway.store.selection import Filter

ORIGIN = ("aa", "e1")
Harm = Callable[[sqlite3.Connection], object]


async def filled(log: OpenLog, count: int = 4) -> OpenLog:
    """Blocks of two events each: one of shop, one of blog."""
    shop, blog = await log.admit(), await log.admit("bb", "e9", "blog")
    for seq in range(1, count + 1):
        log.append(shop, seq, stored(f"s{seq}"), owner=Owner())
        log.append(blog, seq, stored(f"b{seq}"), owner=Owner())
        log.next_block()
    await log.settled()
    return log


def change(db: sqlite3.Connection, position: int, what: str, *values: object) -> None:
    db.execute(f"UPDATE blocks SET {what} WHERE position = {position}", values)  # noqa: S608 - a test's


def flipped(column: str, position: int = 3) -> Harm:
    """One bit of a column of one block, in its middle."""

    def harm(db: sqlite3.Connection) -> None:
        row = block_rows.row_at(db, position)
        value = getattr(row, column)
        if isinstance(value, bytes):
            middle = len(value) // 2
            value = value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
        else:
            value ^= 1
        change(db, position, f"{column} = ?", value)

    return harm


def deleted(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM blocks WHERE position = 3")


def replaced(db: sqlite3.Connection) -> None:
    """A block that is sound in itself and does not belong there."""
    row = block_rows.row_at(db, 3)
    assert row is not None
    other = checksum(7, row.runs, row.events)
    db.execute("UPDATE blocks SET before = 7, chain = ? WHERE position = 3", (other,))


HARMS = {
    **{column: flipped(column) for column in ("events", "runs", "before", "chain", "count")},
    "deleted": deleted,
    "replaced": replaced,
    "no events at all": lambda db: change(db, 3, "events = CAST(events AS TEXT)"),
    "no runs at all": lambda db: change(db, 3, "runs = CAST(runs AS TEXT)"),
    "other runs": lambda db: change(db, 3, "runs = x'00'"),
}
# What does not follow from what is sound around it.
LASTING = {name: HARMS[name] for name in ("events", "deleted", "other runs")}
PASSING = {name: harm for name, harm in HARMS.items() if name not in LASTING}


def reasons(page: Page) -> list[str]:
    return [shown.json.decode().partition('"reason":"')[2].partition('"')[0] for shown in page.events]


async def walk(log: OpenLog, wanted: Filter, *, back: bool = False) -> list[str | tuple[int, int]]:
    """What a reader of pages sees, gaps in their places."""
    seen: list[str | tuple[int, int]] = []
    position = log.log.position + 1 if back else 0
    while True:
        ask = log.history.page_before if back else log.history.page_after
        page = await ask(wanted, position, 100)
        seen += [page.gap] if page.gap else []
        seen += reasons(page)
        if page.next is None:
            return seen
        place = await log.history.place(page.next, log.log.position)
        assert place.reset is None
        position = place.position


@pytest.mark.parametrize("harm", LASTING.values(), ids=LASTING)
async def test_a_damaged_block_is_a_gap_for_everyone_and_the_rest_is_there(
    open_log: OpenLogs, caplog: pytest.LogCaptureFixture, harm: Harm
) -> None:
    log = await filled(await open_log())
    await log.log.call(harm)
    blocks = await log.history.blocks_after(0)
    assert [(block.position, block.count, block.damage is None) for block in blocks] == [
        (1, 2, True),
        (3, 2, False),
        (5, 2, True),
        (7, 2, True),
    ]
    assert blocks[1].events() == []
    everything = ["s1", "b1", (3, 4), "s3", "b3", "s4", "b4"]
    for _ in range(2):
        assert await walk(log, Filter()) == everything
        assert await walk(log, Filter(), back=True) == everything[::-1]
    said = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(said) == 1
    assert "positions 3 to 4" in said[0].getMessage()


@pytest.mark.parametrize("indexed", ["before", "after", "never"])
async def test_readers_of_one_project_are_told_too_whenever_it_was_indexed(
    open_log: OpenLogs, indexed: str
) -> None:
    log = await filled(await open_log())
    if indexed == "before":
        log.index_blocks(log.published)
    await log.log.call(flipped("events"))
    if indexed == "after":
        log.index_blocks(await log.history.blocks_after(0))
    for _ in range(2):
        assert await walk(log, Filter(project="blog")) == ["b1", (3, 4), "b3", "b4"]
        assert await walk(log, Filter(project="blog"), back=True) == ["b4", "b3", (3, 4), "b1"]


@pytest.mark.parametrize("column", ["events", "runs"])
async def test_which_events_are_missing_is_known_by_the_runs_or_by_their_neighbours(
    open_log: OpenLogs, column: str
) -> None:
    log = await filled(await open_log())

    def harm(db: sqlite3.Connection) -> None:
        change(db, 3, f"{column} = x'00'")

    await log.log.call(harm)
    await log.history.blocks_after(0)
    [found] = log.log.damaged.ranges()
    assert (found.position, found.last_position) == (3, 4)
    assert sorted((m.sled_id, m.epoch, m.first_seq, m.last_seq) for m in found.missing) == [
        ("aa", "e1", 2, 2),
        ("bb", "e9", 2, 2),
    ]


async def test_what_was_found_is_known_after_a_restart_until_it_is_sound(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.log.call(flipped("events"))
    await log.history.blocks_after(0)
    await log.settled()
    await log.close()
    log = await open_log()
    assert [found.position for found in log.log.damaged.ranges()] == [3]
    await log.log.call(flipped("events"))
    await log.close()
    log = await open_log()
    assert len(log.log.damaged) == 0
    assert (await walk(log, Filter()))[2:4] == ["s2", "b2"]


async def test_a_sled_that_sends_again_what_is_damaged_is_acknowledged(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.close()
    log = await open_log()
    await log.log.call(flipped("events"))
    owner = Owner()
    log.append(await log.admit(), 1, *(stored(f"s{seq}") for seq in range(1, 6)), owner=owner)
    await log.settled()
    assert (owner.told, log.failures) == ([("ack", 5)], [])
    assert await log.log.digest(ORIGIN, 2) is None
    # What can be compared is.
    log.append(await log.admit(), 3, stored("another"), owner=owner)
    await log.settled()
    assert owner.told[-1] == ("conflict", 3)


# --- at start ----------------------------------------------------------------------------------------


async def harmed(log: OpenLog, harm: Harm, since: int = 0) -> None:
    """Harm the log as after a crash, its heads checkpointed at `since`."""
    await log.close()
    with closing(sqlite3.connect(log.log.path)) as db:
        if not since:
            rows = stream_rows.read(db).streams
            fresh = [msgspec.structs.replace(row, last_seq=0, digest=0) for row in rows if row is not None]
            stream_rows.write_heads(db, fresh, 0, 0)
        harm(db)
        db.commit()


def heads(log: OpenLog) -> tuple[int, int]:
    found = log.log.heads()
    return found[ORIGIN], found["bb", "e9"]


@pytest.mark.parametrize("position", [3, 7])
async def test_heads_do_not_fall_back_where_the_newest_blocks_are_damaged(
    open_log: OpenLogs, position: int
) -> None:
    await harmed(await filled(await open_log()), flipped("events", position))
    log = await open_log()
    assert [found.position for found in log.log.damaged.ranges()] == [position]
    assert (log.log.position, heads(log)) == (8, (4, 4))
    owner = Owner()
    log.append(await log.admit(), 5, stored("s5"), owner=owner)
    await log.settled()
    assert owner.told == [("ack", 5)]
    assert (await walk(log, Filter()))[-1] == "s5"


async def test_heads_follow_from_later_runs_where_those_of_a_damaged_block_cannot_be_read(
    open_log: OpenLogs,
) -> None:
    def harm(db: sqlite3.Connection) -> None:
        db.execute("UPDATE blocks SET runs = x'00' WHERE position = 3")

    await harmed(await filled(await open_log()), harm)
    log = await open_log()
    assert heads(log) == (4, 4)


@pytest.mark.parametrize("what", ["runs = x'00'", "runs = CAST('[[1,9,1,1,0,0],[2,9,1,1,0,0]]' AS BLOB)"])
async def test_a_doubt_about_what_was_acknowledged_is_no_start(open_log: OpenLogs, what: str) -> None:
    def harm(db: sqlite3.Connection) -> None:
        change(db, 7, what)

    await harmed(await filled(await open_log()), harm)
    with pytest.raises(CorruptLogError, match=r"position 7: .*huskies verify.*backup"):
        await open_log()


async def test_newest_blocks_that_are_gone_are_no_start(open_log: OpenLogs) -> None:
    def harm(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM blocks WHERE position = 7")

    await harmed(await filled(await open_log()), harm, since=8)
    with pytest.raises(CorruptLogError, match="position 7: the newest blocks, up to 8, are gone"):
        await open_log()


# --- pages that SQLite itself cannot read ------------------------------------------------------------


async def large(open_log: OpenLogs) -> Path:
    log = await open_log()
    stream = await log.admit()
    for seq in range(1, 21):
        log.append(stream, seq, stored(f"{seq:03}" + "x" * 16_000), owner=Owner())
        log.next_block()
    await log.settled()
    await log.close()
    return log.log.path


async def test_an_unreadable_page_of_the_file_hides_its_blocks_alone(open_log: OpenLogs) -> None:
    path = await large(open_log)
    content = bytearray(path.read_bytes())
    page = content.index(b"010xxx") // 4096
    # The pages behind it that hold the rest of this row lead nowhere.
    content[page * 4096 : page * 4096 + 4] = b"\xff\xff\xff\xff"
    leaf_or_overflow = content.index(b"010xxx")
    assert leaf_or_overflow
    for start in range(page, page + 4):
        content[start * 4096 : start * 4096 + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    try:
        log = await open_log()
    except StoreError as error:
        assert "cannot be read" in str(error)  # noqa: PT017 - both are sound
        return
    seen = await walk(log, Filter())
    gaps = [gap for gap in seen if isinstance(gap, tuple)]
    shown = [text[:3] for text in seen if isinstance(text, str)]
    hidden = {at for first, last in gaps for at in range(first, last + 1)}
    assert 10 in hidden
    assert shown == [f"{at:03}" for at in range(1, 21) if at not in hidden]


async def test_a_file_cut_off_is_told_in_one_line(open_log: OpenLogs) -> None:
    path = await large(open_log)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 // 4096 * 4096])
    with pytest.raises((StoreError, ConfigError), match=r"log\.db"):
        await open_log()


# --- repair ------------------------------------------------------------------------------------------


async def damaged_log(open_log: OpenLogs, harm: Harm) -> tuple[OpenLog, Block]:
    log = await filled(await open_log())
    original = log.published[1]
    await log.log.call(harm)
    await log.history.blocks_after(0)
    return log, original


async def test_a_block_is_put_back_exactly(open_log: OpenLogs) -> None:
    log, original = await damaged_log(open_log, flipped("events"))
    log.index_blocks(await log.history.blocks_after(0))
    repaired: list[Block] = []
    log.log.on_repaired.append(repaired.append)
    known = await log.log.damaged_block(3)
    assert known is not None
    assert list(known.runs) == original.runs
    assert await log.log.repair(3, known.runs, original.events()) is None
    assert len(log.log.damaged) == 0
    assert [block.position for block in repaired] == [3]
    assert await walk(log, Filter()) == ["s1", "b1", "s2", "b2", "s3", "b3", "s4", "b4"]
    await log.close()
    assert len((await open_log()).log.damaged) == 0


async def test_anything_else_is_not_put_back(open_log: OpenLogs) -> None:
    log, original = await damaged_log(open_log, flipped("events"))
    events, runs = original.events(), original.runs
    for candidates in (
        (runs, [events[0], stored("another")]),
        (runs, events[:1]),
        (runs[:1], events),
        ([runs[0], Run(2, 2, 1, 7, 0, 0)], events),
    ):
        assert isinstance(await log.log.repair(3, *candidates), str)
    assert isinstance(await log.log.repair(5, runs, events), str)
    assert (await walk(log, Filter()))[2] == (3, 4)


def test_the_decision_is_pure() -> None:
    assert isinstance(rebuild(Damaged(1, 1, 0, 0), [Run(1, 1, 1, 1, 0, 0)], []), str)
    assert isinstance(rebuild(Damaged(1, 0, 0, 0), [], []), str | Rebuilt)


# --- repair from what is sound in the log itself -----------------------------------------------------


def rows(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    return db.execute("SELECT *, typeof(runs), typeof(events) FROM blocks ORDER BY position").fetchall()


@pytest.mark.parametrize("harm", PASSING.values(), ids=PASSING)
async def test_what_follows_from_the_rest_is_put_back_when_it_is_found(
    open_log: OpenLogs, harm: Harm, caplog: pytest.LogCaptureFixture
) -> None:
    log = await filled(await open_log())
    before = await log.log.call(rows)
    repaired: list[Block] = []
    log.log.on_repaired.append(repaired.append)
    await log.log.call(harm)
    assert [block.position for block in await log.history.blocks_after(0) if block.damage] == [3]
    await log.settled()
    assert await log.log.call(rows) == before
    assert [block.position for block in repaired] == [3]
    assert len(log.log.damaged) == 0
    assert await walk(log, Filter()) == ["s1", "b1", "s2", "b2", "s3", "b3", "s4", "b4"]
    assert [record.levelname for record in caplog.records] == ["CRITICAL", "WARNING"]


@pytest.mark.parametrize("crashed", [True, False])
@pytest.mark.parametrize("position", [1, 3, 7])
@pytest.mark.parametrize("column", ["runs", "before", "chain", "count"])
async def test_what_follows_from_the_rest_is_put_back_at_start(
    open_log: OpenLogs,
    column: str,
    position: int,
    crashed: bool,  # noqa: FBT001 - a case
) -> None:
    log = await filled(await open_log())
    before = await log.log.call(rows)
    await harmed(log, flipped(column, position), since=0 if crashed else 8)
    log = await open_log()
    await log.settled()
    assert await log.log.call(rows) == before
    assert (len(log.log.damaged), log.log.position, heads(log)) == (0, 8, (4, 4))
    log.append(await log.admit(), 5, stored("s5"), owner=Owner())
    await log.settled()
    assert (await walk(log, Filter()))[-2:] == ["b4", "s5"]


async def test_the_newest_checksum_is_known_after_a_clean_end_alone(open_log: OpenLogs) -> None:
    def harm(db: sqlite3.Connection) -> None:
        change(db, 7, "chain = 1234567")

    log = await filled(await open_log())
    before = await log.log.call(rows)
    await harmed(log, harm, since=8)
    log = await open_log()
    assert await log.log.call(rows) == before
    await harmed(log, harm)
    log = await open_log()
    assert [found.position for found in log.log.damaged.ranges()] == [7]


def other_runs_bits(db: sqlite3.Connection) -> None:
    """Two bits, of two bytes."""
    row = block_rows.row_at(db, 3)
    assert row is not None
    change(db, 3, "runs = ?", bytes([row.runs[0] ^ 1, row.runs[1] ^ 1]) + row.runs[2:])


def other_events_under_a_fitting_checksum(db: sqlite3.Connection) -> None:
    """The newest block, but for one bit of its checksum; its digests tell."""
    row = block_rows.row_at(db, 7)
    assert row is not None
    events = row.events.replace(b"s4", b"xx")
    change(db, 7, "events = ?, chain = ?", events, checksum(row.before, row.runs, events) ^ 1)


def other_seq_under_a_fitting_checksum(db: sqlite3.Connection) -> None:
    row = block_rows.row_at(db, 7)
    assert row is not None
    runs = decode_runs(row.runs)
    runs[0].first_seq = 5
    runs_json = encode_runs(runs)
    change(db, 7, "runs = ?, chain = ?", runs_json, checksum(row.before, runs_json, row.events) ^ 1)


@pytest.mark.parametrize(
    ("harm", "position"),
    [
        (other_runs_bits, 3),
        (other_events_under_a_fitting_checksum, 7),
        (other_seq_under_a_fitting_checksum, 7),
    ],
)
async def test_what_is_not_proven_is_not_put_back(open_log: OpenLogs, harm: Harm, position: int) -> None:
    log = await filled(await open_log())
    await log.log.call(harm)
    harmed_rows = await log.log.call(rows)
    await log.history.blocks_after(0)
    await log.settled()
    assert [found.position for found in log.log.damaged.ranges()] == [position]
    assert await log.log.call(rows) == harmed_rows


async def test_what_the_writer_still_has_as_it_was_is_written_again(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    before = await log.log.call(rows)
    repaired: list[Block] = []
    log.log.on_repaired.append(repaired.append)
    # Readers have pages of their own, of the disk as it is now.
    with closing(sqlite3.connect(log.log.path)) as reader:
        log.log.damaged.note(damaged_block(3, 4, 0, 0, "its checksum is wrong"), reader)
    # It is handed to the writer in the next turn of the event loop.
    await log.settled()
    await log.settled()
    assert [block.position for block in repaired] == [3]
    assert (len(log.log.damaged), await log.log.repaired()) == (0, [3])
    assert await log.log.call(rows) == before
    assert await log.log.call(lambda db: db.execute("SELECT * FROM damaged").fetchall()) == []


# --- a WAL that was flushed and then damaged ---------------------------------------------------------


async def crashed(open_log: OpenLogs, tmp_path: Path) -> Path:
    """The files of a log as a killed gateway leaves them: its newest commits are in the WAL."""
    log = await filled(await open_log(), 3)
    for stream, reason in ((await log.admit(), "s4"), (await log.admit("bb", "e9", "blog"), "b4")):
        log.append(stream, 4, stored(reason), owner=Owner())
    await log.settled()
    (tmp_path / "crashed").mkdir()
    for name in ("log.db", "log.db-wal"):
        shutil.copy(log.log.path.with_name(name), tmp_path / "crashed")
    return tmp_path / "crashed" / "log.db-wal"


def flip_frame(wal: Path, number: int) -> None:
    """Flip a bit of a page in the WAL; negative numbers count from its end."""
    content = bytearray(wal.read_bytes())
    frames = (len(content) - 32) // (24 + 4096)
    number %= frames
    content[32 + number * (24 + 4096) + 24 + 2_000] ^= 1
    wal.write_bytes(content)


async def test_a_wal_that_a_crash_left_is_read(open_log: OpenLogs, tmp_path: Path) -> None:
    await crashed(open_log, tmp_path)
    assert heads(await open_log("crashed")) == (4, 4)


async def test_acknowledged_commits_that_a_damaged_wal_hides_are_no_start(
    open_log: OpenLogs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wal = await crashed(open_log, tmp_path)
    flip_frame(wal, -8)
    content = wal.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"commits that were acknowledged cannot be read.*\.damaged"):
            await open_log("crashed")
        assert wal.read_bytes() == content
    # Whoever decides to go on without them says so with a copy of what is lost.
    shutil.copy(wal, wal.with_name("log.db-wal.damaged"))
    log = await open_log("crashed")
    assert heads(log)[0] < 4
    assert "left out" in caplog.text


@pytest.mark.parametrize("at", [0, 17, 30])
async def test_a_damaged_header_of_the_wal_is_no_start(open_log: OpenLogs, tmp_path: Path, at: int) -> None:
    wal = await crashed(open_log, tmp_path)
    content = bytearray(wal.read_bytes())
    content[at] ^= 1
    wal.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        await open_log("crashed")


async def test_a_commit_that_was_half_written_is_left_out_with_a_warning(
    open_log: OpenLogs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wal = await crashed(open_log, tmp_path)
    flip_frame(wal, -1)
    log = await open_log("crashed")
    assert heads(log) == (3, 3)
    assert "the newest commit is not whole" in caplog.text


async def test_a_wal_cut_off_within_its_newest_commit_is_as_after_a_crash(
    open_log: OpenLogs, tmp_path: Path
) -> None:
    wal = await crashed(open_log, tmp_path)
    wal.write_bytes(wal.read_bytes()[:-100])
    assert heads(await open_log("crashed")) == (3, 3)
