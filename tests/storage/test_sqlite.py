from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huskies.errors import ConfigError
from huskies.storage.sqlite import open_reader, open_writer

SCHEMA = "CREATE TABLE things (name TEXT); CREATE INDEX things_by_name ON things (name)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a store?#.db"


def test_a_new_store_is_laid_out_and_an_old_one_kept(path: Path) -> None:
    with closing(open_writer(path, SCHEMA, 3)) as connection:
        connection.execute("INSERT INTO things VALUES ('a')")
    with closing(open_writer(path, "this is no SQL", 3)) as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("a",)]


@pytest.mark.parametrize(("durability", "number"), [("FULL", 2), ("OFF", 0)])
def test_a_store_is_as_durable_as_was_asked_for(path: Path, durability: str, number: int) -> None:
    with closing(open_writer(path, SCHEMA, 1, durability)) as connection:  # type: ignore[arg-type]
        assert connection.execute("PRAGMA synchronous").fetchone() == (number,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_is_fully_durable_where_nothing_else_was_asked_for(path: Path) -> None:
    with closing(open_writer(path, SCHEMA, 1)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_store_of_a_newer_version_is_refused(path: Path) -> None:
    open_writer(path, SCHEMA, 2).close()
    with pytest.raises(ConfigError, match=r"newer Huskies \(format 2, this one reads 1\)") as caught:
        open_writer(path, SCHEMA, 1)
    assert caught.value.where == str(path)


def test_a_file_that_is_no_database_is_refused_with_its_path(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        open_writer(path, SCHEMA, 1)


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        open_writer(tmp_path, SCHEMA, 1)


def test_a_reader_sees_commits_and_cannot_write(path: Path) -> None:
    with closing(open_writer(path, SCHEMA, 1)) as writer, closing(open_reader(path)) as reader:
        writer.execute("INSERT INTO things VALUES ('a')")
        assert reader.execute("SELECT name FROM things").fetchall() == [("a",)]
        with pytest.raises(sqlite3.OperationalError):
            reader.execute("INSERT INTO things VALUES ('b')")


def test_a_reader_makes_no_store(path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        open_reader(path)
    assert not path.exists()
