"""Whatever a column of the log's file holds: it serves, mends or refuses, and `verify` ends, in words."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Final

import pytest
from tests.gateway.conftest import OpenLog, OpenLogs, Owner, stored
from tests.gateway.test_damage import ORIGIN, filled, walk

from huskies.errors import ConfigError, StoreError
from huskies.gateway.store import log_store
from huskies.gateway.store.retention import Rules
from huskies.gateway.store.selection import Filter
from huskies.gateway.store.verify import LogCheck
from huskies.storage.sqlite import open_reader

VALUES: Final = ("'abc'", "CAST(x'ff' AS TEXT)", "x'00ff'", "NULL", "-5", str((1 << 63) - 1))
NUMBERS: Final = (
    *("last_seq", "closed_seq", "digest", "base_seq", "base_digest", "cut_seq", "contested"),
    *("dropped_seq", "dropped_digest", "crc", "head_crc"),
)
# Which rows of a table hold the value; the blocks at 1, 3, 5 and 7 are all there are.
ONE_BLOCK: Final = ("position = 3", "position = 7")
TWO_BLOCKS: Final = ("position IN (3, 5)", "position IN (5, 7)")
SEQUENCES: Final = ("id = 2", "id IN (1, 2)")
PLACES: Final = [
    *product(["blocks"], ["count", "before", "chain", "runs", "events"], [*ONE_BLOCK, *TWO_BLOCKS]),
    *product(["streams"], ["sled_id", "epoch", "project", *NUMBERS], SEQUENCES),
    *(("meta", "value", f"key = 'heads_{key}'") for key in ("position", "chain", "crc")),
]
UNREADABLE: Final = "UPDATE blocks SET events = x'00' WHERE position = {}"
# What the row beside it says is all that is known of a damaged block.
BESIDE: Final = [
    *product(["chain", "before", "count", "runs"], ["position = 5"], [3, 7]),
    *product(["chain", "before"], ["position = 3", "position = 7"], [5]),
    # And of one of which more than one column is.
    *product(["chain", "before", "count", "runs"], ["position = 7"], [7]),
]
# NULL is sound in these, and logs of version 1 have no checksum of the heads.
MAY_BE_NULL: Final = ("closed_seq", "cut_seq")
NO_CHECKSUM: Final = "key = 'heads_crc'"


def allow_any(db: sqlite3.Connection) -> None:
    """A flipped bit does not ask whether a column may be NULL."""
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")


@pytest.fixture
async def copies(open_log: OpenLogs, tmp_path: Path) -> Iterator[Path]:
    """Copies of the same log, in which one sequence has no events."""
    log = await filled(await open_log("original"))
    await log.admit("cc", "e2", "blog")
    await log.close()
    with closing(sqlite3.connect(log.log.path)) as db:
        allow_any(db)
        db.commit()

    def copied() -> Iterator[Path]:
        for number in range(1_000):
            directory = tmp_path / f"copy{number}"
            directory.mkdir()
            yield Path(shutil.copy(log.log.path, directory / log_store.FILE_NAME))

    return copied()


def verify(path: Path) -> None:
    """Ends with what is wrong in words; where SQLite itself gives up, the command says so."""
    with closing(open_reader(path)) as connection:
        try:
            assert list(LogCheck(connection).run())
        except sqlite3.Error as error:
            assert "UTF-8" in str(error)  # noqa: PT017 - few do


async def serve(log: OpenLog) -> None:
    """Everyone who reads gets to the end, and what comes is appended there."""
    for after in range(8):
        await log.history.blocks_after(after)
        await log.history.blocks_lacking(after, lambda _: True, 10)
    for back in (False, True):
        await walk(log, Filter(), back=back)
    await log.settled()
    for found in log.log.damaged.ranges():
        assert 1 <= found.position <= found.last_position <= 8
        await log.log.damaged_block(found.position)
    for seq in range(1, 5):
        await log.log.digest(ORIGIN, seq)
    log.append(await log.admit(), 5, stored("s5"), owner=(owner := Owner()))
    await log.settled()
    assert (owner.told, log.log.position) == ([("ack", 5)], 9)
    dropped = await log.log.trim(Rules(age_ms=-1), 6)
    assert dropped is not None
    assert dropped.last_position == 6
    assert (await walk(log, Filter()))[-1] == "s5"
    assert log.failures == []


async def check(open_log: OpenLogs, path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    verify(path)
    try:
        log = await open_log(path.parent.name)
    except (StoreError, ConfigError) as error:
        assert "huskies verify" in str(error)  # noqa: PT017 - others open
        return
    await serve(log)
    await log.close()
    await (await open_log(path.parent.name)).close()


@pytest.mark.parametrize(("table", "column", "where"), PLACES, ids=lambda each: each)
async def test_any_value_in_one_row_or_two(
    open_log: OpenLogs, copies: Iterator[Path], table: str, column: str, where: str
) -> None:
    harmless = column in MAY_BE_NULL or where == NO_CHECKSUM
    for value, path in zip(VALUES, copies, strict=False):
        if value == "NULL" and harmless:
            continue
        await check(open_log, path, f"UPDATE {table} SET {column} = {value} WHERE {where}")  # noqa: S608 - a test's


@pytest.mark.parametrize(("column", "where", "at"), BESIDE)
async def test_any_value_beside_a_block_that_cannot_be_read(
    open_log: OpenLogs, copies: Iterator[Path], column: str, where: str, at: int
) -> None:
    for value, path in zip(VALUES, copies, strict=False):
        await check(
            open_log,
            path,
            f"UPDATE blocks SET {column} = {value} WHERE {where}",  # noqa: S608 - a test's
            UNREADABLE.format(at),
        )


@pytest.mark.parametrize(("column", "at"), [("before", 5), ("chain", 1), ("before", 3), ("chain", 3)])
async def test_a_running_log_goes_on(open_log: OpenLogs, column: str, at: int) -> None:
    log = await filled(await open_log())
    await log.log.call(lambda db: db.execute(UNREADABLE.format(3)))
    await log.log.call(lambda db: db.execute(f"UPDATE blocks SET {column} = 'abc' WHERE position = {at}"))  # noqa: S608 - a test's
    await serve(log)
