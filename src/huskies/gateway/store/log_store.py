"""The log's file: its schema, and what it says about itself.

`block_rows` reads its blocks, `stream_rows` the rows of its sequences.
"""

from __future__ import annotations

import logging
import re
import secrets
import sqlite3
from collections.abc import Iterator
from typing import Final

from huskies.gateway.store.blocks import Block

_log = logging.getLogger("huskies.log")

FILE_NAME: Final = "log.db"
# As cursors have it.
_LOG_ID: Final = re.compile("[0-9a-f]{8}")
# 2: the rows of sequences carry checksums (`stream_rows`), which logs of version 1 get when they are opened.
VERSION: Final = 2

# `runs` stands before `events`, so that reading only the runs does not read the events' pages.
SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE blocks (position INTEGER PRIMARY KEY, count INTEGER NOT NULL, before INTEGER NOT NULL,
                     chain INTEGER NOT NULL, runs BLOB NOT NULL, events BLOB NOT NULL);
CREATE TABLE streams (id INTEGER PRIMARY KEY, sled_id TEXT NOT NULL, epoch TEXT NOT NULL,
                      project TEXT NOT NULL, last_seq INTEGER NOT NULL, closed_seq INTEGER,
                      digest INTEGER NOT NULL, base_seq INTEGER NOT NULL, base_digest INTEGER NOT NULL,
                      cut_seq INTEGER, contested INTEGER NOT NULL, dropped_seq INTEGER NOT NULL,
                      dropped_digest INTEGER NOT NULL, crc INTEGER NOT NULL DEFAULT 0,
                      head_crc INTEGER NOT NULL DEFAULT 0);
CREATE TABLE snapshots (project TEXT PRIMARY KEY, stream_id INTEGER NOT NULL, seq INTEGER NOT NULL,
                        position INTEGER NOT NULL, received_ms INTEGER NOT NULL, stories BLOB NOT NULL)
                       WITHOUT ROWID;
CREATE TABLE quarantine (id INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL, first_seq INTEGER NOT NULL,
                         received_ms INTEGER NOT NULL, events BLOB NOT NULL)
"""
# Came later; logs that lack them get them when they are opened.
ADDED: Final = """
CREATE TABLE IF NOT EXISTS dropped (day INTEGER PRIMARY KEY, last_position INTEGER NOT NULL,
                                    events INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS damaged (position INTEGER PRIMARY KEY, last_position INTEGER NOT NULL,
                                    problem TEXT NOT NULL, missing BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS repaired (position INTEGER PRIMARY KEY)
"""


def typed(column: str, kind: str = "integer") -> str:
    """SQL of a block's column; NULL where its value is of another type than it was stored with.

    A flipped bit may give it any type, and of text that is none SQLite would not give out the row at all.
    """
    return f"CASE typeof({column}) WHEN '{kind}' THEN {column} END"


_COUNT: Final = typed("count")
_BEFORE: Final = typed("before")
_CHAIN: Final = typed("chain")
_RUNS: Final = typed("runs", "blob")


def insert_block(connection: sqlite3.Connection, block: Block, runs_json: bytes) -> None:
    """Append one block; part of the caller's transaction."""
    connection.execute(
        "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
        (block.position, block.count, block.before, block.chain, runs_json, block.events_json),
    )


def read_meta(connection: sqlite3.Connection, key: str) -> str | int | None:
    """A value that the log keeps about itself."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def write_meta(connection: sqlite3.Connection, key: str, value: str | int) -> None:
    """Set such a value; part of the caller's transaction."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
    )


def log_id(connection: sqlite3.Connection) -> str:
    """The log's id, drawn when the log is new, and where it was damaged: then readers begin again."""
    found = read_meta(connection, "log_id")
    if found is None or is_damaged_id(found):
        drawn = secrets.token_hex(4)
        if found is not None:
            _log.error("the log's id, %a, was damaged; it is %s now, and readers begin again", found, drawn)
        write_meta(connection, "log_id", drawn)
        found = drawn
    return str(found)


def is_damaged_id(found: object) -> bool:
    """Whether a log's id as it is stored cannot be one."""
    return not isinstance(found, str) or _LOG_ID.fullmatch(found) is None


def first_position(connection: sqlite3.Connection) -> int:
    """The position of the oldest event that is retained; 1 for an empty log."""
    row = connection.execute("SELECT position FROM blocks ORDER BY position LIMIT 1").fetchone()
    return 1 if row is None else int(row[0])


def chain_at(connection: sqlite3.Connection, position: int) -> int | None:
    """The checksum of the block that holds `position`; None where no block does."""
    row = connection.execute(
        f"SELECT position, {_COUNT}, {_CHAIN} FROM blocks "  # noqa: S608 - constants
        "WHERE position <= ? ORDER BY position DESC LIMIT 1",
        (position,),
    ).fetchone()
    if row is None:
        return None
    # The next block says it too, and may be sound where this one is not.
    following = connection.execute(
        f"SELECT {_BEFORE} FROM blocks WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608 - constant
        (position,),
    ).fetchone()
    if following is not None and following[0] is not None:
        return int(following[0])
    start, count, chain = row
    holds = following is not None or count is None or position < start + count
    return chain if holds else None


def runs_after(connection: sqlite3.Connection, position: int) -> Iterator[tuple[int, bytes]]:
    """Position and runs of the blocks that begin beyond `position`, unchecked; b"" for what are no runs."""
    yield from connection.execute(
        f"SELECT position, ifnull({_RUNS}, x'') FROM blocks WHERE position > ? ORDER BY position",  # noqa: S608 - constant
        (position,),
    )
