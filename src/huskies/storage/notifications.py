"""`notifications.db` in the gateway's directory: what became of each message that people were to get.

`huskies chat` writes it, and now and then the gateway does, where someone asks for a message to be sent
again; so it keeps a rollback journal and no WAL (see `storage.sqlite` for what several writers do to a WAL).
Readers and writers hold each other up for the moment that a commit takes.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from huskies.errors import ConfigError, StoreError
from huskies.storage.files import create_private_file, ensure_private_directory
from huskies.storage.sqlite import open_reader

FILE_NAME: Final = "notifications.db"
VERSION: Final = 2
PAGE_MAX: Final = 1_000
_BUSY_SECONDS: Final = 5.0

DeliveryState = Literal[
    "queued", "sending", "sent", "acknowledged", "failed", "in_doubt", "muted", "overtaken"
]
STATES: Final[tuple[DeliveryState, ...]] = (
    "queued", "sending", "sent", "acknowledged", "failed", "in_doubt", "muted", "overtaken",
)  # fmt: skip
# What can be sent again: what did not arrive, for all anyone knows.
RESENDABLE: Final[tuple[DeliveryState, ...]] = ("failed", "in_doubt")

_SCHEMA: Final = """
CREATE TABLE deliveries (id INTEGER PRIMARY KEY AUTOINCREMENT, delivery_id TEXT NOT NULL UNIQUE,
                         channel TEXT NOT NULL, project TEXT NOT NULL, kind TEXT NOT NULL,
                         state TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
                         html TEXT NOT NULL, about TEXT NOT NULL,
                         queued_ms INTEGER NOT NULL, edits TEXT, thread TEXT, urgent INTEGER NOT NULL,
                         doubtful TEXT, attempts INTEGER NOT NULL, next_ms INTEGER NOT NULL, begun_ms INTEGER,
                         settled_ms INTEGER, remote_id TEXT NOT NULL, problem TEXT NOT NULL,
                         looks INTEGER NOT NULL, resent_ms INTEGER);
CREATE INDEX to_send ON deliveries (channel, state, id) WHERE state IN ('queued', 'sending');
CREATE INDEX edited ON deliveries (edits) WHERE edits IS NOT NULL;
CREATE INDEX settled ON deliveries (settled_ms) WHERE settled_ms IS NOT NULL;
CREATE TABLE state (kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key))
    WITHOUT ROWID;
CREATE TABLE seen (sled_id TEXT NOT NULL, epoch TEXT NOT NULL, ranges TEXT NOT NULL,
                   PRIMARY KEY (sled_id, epoch)) WITHOUT ROWID
"""
# By the version that they make a file of the next one.
_CHANGES: Final = {
    1: "ALTER TABLE deliveries ADD COLUMN resent_ms INTEGER; "
    "CREATE INDEX edited ON deliveries (edits) WHERE edits IS NOT NULL"
}


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one channel, and what became of it; times are Unix ms.

    `queued`: to be sent, at `next_ms`. `sending`: under way. `sent`: the channel took it; `acknowledged`: and
    named it (`remote_id`). `failed`: it did not, and is asked no more; `problem` says why. `in_doubt`:
    nobody knows. `muted`, `overtaken`: written down and not sent. `project` is empty where it tells of
    several; `about` are the identities of events that it tells of, the first hundred at most. `edits`,
    `thread`: the delivery_id of the message that it replaces, or belongs under.
    """

    id: Annotated[int, Meta(ge=1)]
    delivery_id: str
    channel: str
    project: str
    kind: str
    state: DeliveryState
    subject: str
    text: str
    about: list[str]
    queued_ms: int
    attempts: int
    next_ms: int | None
    settled_ms: int | None
    remote_id: str
    problem: str
    edits: str | None
    thread: str | None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which notifications are asked for; None: whichever. `before`: only those with a lower id."""

    state: str | None = None
    channel: str | None = None
    project: str | None = None
    before: int | None = None
    limit: int = 100


class NotificationsFile:
    """The file in `directory`, made where it is missing; raises `ConfigError` where it cannot be used.

    For one thread at a time.
    """

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
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and fsynced when it ends; raises `StoreError`."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # Some failures, a full disk among them, have ended it already.
                if self._connection.in_transaction:
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

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def _lay_out(self) -> int:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            _carry_out(connection, _SCHEMA)
        for version in range(found or VERSION, VERSION):
            _carry_out(connection, _CHANGES[version])
        if found < VERSION:
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
        return found


def _carry_out(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(statement)


def read_notifications(
    directory: Path, wanted: Wanted, may_read: Collection[str] | None
) -> list[Notification]:
    """The newest first; of these projects alone where `may_read` is given. None, where there is no file.

    Raises `StoreError`.
    """
    path = directory / FILE_NAME
    if not path.is_file() or not path.stat().st_size:
        return []
    conditions, values = ["1"], []
    for column, value in (("state", wanted.state), ("channel", wanted.channel), ("project", wanted.project)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.before is not None:
        conditions.append("id < ?")
        values.append(str(wanted.before))
    if may_read is not None:
        conditions.append("project IN (SELECT value FROM json_each(?))")
        values.append(msgspec.json.encode(sorted(may_read)).decode())
    query = f"SELECT * FROM deliveries WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"  # noqa: S608 - the columns are ours
    try:
        return _read(path, query, (*values, wanted.limit))
    except sqlite3.Error:
        # A process that ended within a commit leaves what only a writer can take back.
        _take_back(directory)
    try:
        return _read(path, query, (*values, wanted.limit))
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def _read(path: Path, query: str, values: tuple[object, ...]) -> list[Notification]:
    with closing(open_reader(path)) as reader:
        reader.row_factory = sqlite3.Row
        reader.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1_000)}")
        if not reader.execute("PRAGMA user_version").fetchone()[0]:
            return []
        return [_notification(row) for row in reader.execute(query, values)]


def _take_back(directory: Path) -> None:
    try:
        NotificationsFile(directory).close()
    except ConfigError as error:
        raise StoreError(str(error)) from None


def resend(file: NotificationsFile, ids: Collection[int] | None, now_ms: int) -> list[int]:
    """Queue these again, or all that did not arrive (None); returns those that now are. Raises `StoreError`.

    Only what failed or is in doubt is sent again; it has another day for that.
    """
    states = ", ".join(f"'{state}'" for state in RESENDABLE)
    query = f"SELECT id FROM deliveries WHERE state IN ({states}) ORDER BY id"  # noqa: S608 - the states are ours
    with file.transaction() as db:
        found = [int(row[0]) for row in db.execute(query)]
        chosen = found if ids is None else [one for one in found if one in ids]
        db.executemany(
            "UPDATE deliveries SET state = 'queued', attempts = 0, next_ms = ?, settled_ms = NULL, "
            "problem = '', looks = min(looks, 1), resent_ms = ? WHERE id = ?",
            ((now_ms, now_ms, one) for one in chosen),
        )
    return chosen


def _notification(row: sqlite3.Row) -> Notification:
    return Notification(
        id=row["id"],
        delivery_id=row["delivery_id"],
        channel=row["channel"],
        project=row["project"],
        kind=row["kind"],
        state=row["state"],
        subject=row["subject"],
        text=row["text"],
        about=msgspec.json.decode(row["about"], type=list[str]),
        queued_ms=row["queued_ms"],
        attempts=row["attempts"],
        next_ms=row["next_ms"] if row["state"] == "queued" else None,
        settled_ms=row["settled_ms"],
        remote_id=row["remote_id"],
        problem=row["problem"],
        edits=row["edits"],
        thread=row["thread"],
    )
