"""SQLite as Huskies uses it: one connection writes and alone checkpoints, the others only read.

SQLite before 3.51.3 can damage a WAL that several connections write and checkpoint at once; with a single
writer that alone checkpoints it cannot happen, whichever version Python brings.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

from huskies.errors import ConfigError

Durability = Literal["FULL", "NORMAL"]


def open_writer(
    path: Path, schema: str, version: int, durability: Durability = "FULL", *, shrinks: bool = False
) -> sqlite3.Connection:
    """The connection that writes, with the schema laid out; usable from any one thread at a time.

    `FULL` fsyncs every commit; `NORMAL` may lose the newest with the machine, and is for what can be made
    again. `shrinks`: a file that is new can give room back, step by step (`PRAGMA incremental_vacuum`).
    Raises `ConfigError` where the file cannot be used or was written by a newer version.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            if shrinks:
                # Only before anything is written; a file that is not new stays as it is.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            found = _lay_out(connection, schema, version, durability)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise ConfigError(str(path), f"cannot be used as a store: {error}") from None
    if found > version:
        connection.close()
        raise ConfigError(
            str(path),
            f"written by a newer Huskies (format {found}, this one reads {version}); upgrade this one",
        )
    return connection


def _lay_out(connection: sqlite3.Connection, schema: str, version: int, durability: Durability) -> int:
    """Set the connection up, lay out a file that is new, and return the version of one that is not."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {durability}")
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == 0:
        connection.executescript(f"BEGIN; {schema}; PRAGMA user_version = {version}; COMMIT")
    return found


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, and never checkpoints."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection
