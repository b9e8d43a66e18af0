"""The file that says who may do what: `access.db` in the gateway's directory.

The gateway and the commands that an operator runs beside it write it in turn, so it keeps a rollback journal
and no WAL (see `storage.sqlite` for what several writers do to a WAL). Of secrets it holds hashes alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huskies.errors import ConfigError, StoreError
from huskies.storage.files import create_private_file, ensure_private_directory

FILE_NAME: Final = "access.db"
VERSION: Final = 1
_BUSY_SECONDS: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL,
                     created_ms INTEGER NOT NULL, created_by TEXT NOT NULL, expires_ms INTEGER,
                     revoked_ms INTEGER, last_used_ms INTEGER);
CREATE TABLE invites (id TEXT PRIMARY KEY, project TEXT NOT NULL, hash BLOB NOT NULL,
                      created_ms INTEGER NOT NULL, created_by TEXT NOT NULL, expires_ms INTEGER NOT NULL,
                      adds INTEGER NOT NULL, used_ms INTEGER);
CREATE TABLE sleds (sled_id TEXT PRIMARY KEY, project TEXT NOT NULL, state TEXT NOT NULL,
                    enrolled_ms INTEGER NOT NULL, invite TEXT NOT NULL, last_used_ms INTEGER);
CREATE TABLE logins (hash BLOB PRIMARY KEY, token TEXT NOT NULL, created_ms INTEGER NOT NULL,
                     expires_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rights (id INTEGER PRIMARY KEY CHECK (id = 1), changes INTEGER NOT NULL);
INSERT INTO rights VALUES (1, 0);
CREATE TABLE audit (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
                    subject TEXT NOT NULL, outcome TEXT NOT NULL, address TEXT NOT NULL,
                    count INTEGER NOT NULL)
"""


def hashed(secret: str) -> bytes:
    """What is kept of a secret. They are random and long, so that one round of SHA-256 is enough."""
    # A header may hold any bytes; those that are no UTF-8 come as surrogates.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


class AccessFile:
    """The file in `directory`, made where it is missing; raises `ConfigError` where it cannot be used."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        try:
            ensure_private_directory(directory, parents=True)
            with contextlib.suppress(FileExistsError):
                # SQLite makes its journal readable like the file itself.
                create_private_file(self.path, b"")
        except OSError as error:
            problem = f"cannot be made: {error.strerror}; run it as the gateway's user"
            raise ConfigError(str(self.path), problem) from None
        try:
            self._connection = sqlite3.connect(
                self.path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            found = self._lay_out()
        except sqlite3.Error as error:
            raise ConfigError(str(self.path), f"cannot be used as a store: {error}") from None
        if found > VERSION:
            self._connection.close()
            problem = f"written by a newer Huskies (format {found}, this one reads {VERSION})"
            raise ConfigError(str(self.path), f"{problem}; upgrade this one")

    @contextlib.contextmanager
    def transaction(self, *, changes_rights: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing, and fsynced when it ends; raises `StoreError`.

        `changes_rights`: someone may do more or less after it.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                if changes_rights:
                    self._connection.execute("UPDATE rights SET changes = changes + 1")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """All rows of a query; raises `StoreError`."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None

    def version(self) -> int:
        """Differs from before once another process has changed the file. Raises `StoreError`."""
        return int(self.read("PRAGMA data_version")[0][0])

    def rights(self) -> int:
        """Differs from before once anyone's rights have changed. Raises `StoreError`."""
        return int(self.read("SELECT changes FROM rights")[0][0])

    def wait_no_more(self) -> None:
        """From now on give up at once where another process writes."""
        self._connection.execute("PRAGMA busy_timeout = 0")

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def _lay_out(self) -> int:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
        return found
