"""What the bot must not forget: how far it has read, and which commands it took and has not answered yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from huskies.storage.sqlite import open_writer

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE place (account TEXT PRIMARY KEY, token TEXT NOT NULL);
CREATE TABLE commands (
  event_id TEXT PRIMARY KEY,
  room_id TEXT NOT NULL,
  sender TEXT NOT NULL,
  body TEXT NOT NULL,
  thread TEXT,
  sent_ms INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('taken', 'begun', 'answered'))
);
"""
# Came later: files from before get them, too.
_ADDED: Final = (
    "CREATE TABLE IF NOT EXISTS waiting (event_id TEXT PRIMARY KEY, room_id TEXT NOT NULL, source TEXT)",
    "CREATE TABLE IF NOT EXISTS invited (room_id TEXT PRIMARY KEY)",
)
# The place in the stream keeps a command from coming again; this is for a homeserver that was restored.
_KEPT_MS: Final = 7 * 24 * 3_600_000


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A command that someone sent, as it came; `sent_ms` is the homeserver's time.

    `begun`: what it does may have been done, and must not be done again. `reacts_to`: the message under which
    it was said with a reaction; not stored, for what the bot asked is forgotten with its process.
    """

    event_id: str
    room_id: str
    sender: str
    body: str
    thread: str | None
    sent_ms: int
    begun: bool = False
    reacts_to: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose keys have not come yet; `source` is the event as it came (JSON)."""

    event_id: str
    room_id: str
    source: str


class CommandStore:
    """`bot.db`; each method is one transaction, durable when it returns. Raises `sqlite3.Error`.

    What is in it of another account than `account` means nothing to this one, and is dropped.
    """

    def __init__(self, path: Path, account: str) -> None:
        self._db = open_writer(path, _SCHEMA, _VERSION)
        self._account = account
        with self._transaction() as db:
            for statement in _ADDED:
                db.execute(statement)
            if db.execute("DELETE FROM place WHERE account != ?", (account,)).rowcount:
                db.execute("DELETE FROM commands")
                db.execute("DELETE FROM waiting")
                db.execute("DELETE FROM invited")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def token(self) -> str | None:
        """How far the homeserver's stream was read; None: never."""
        row = self._db.execute("SELECT token FROM place").fetchone()
        return None if row is None else str(row[0])

    def take(
        self,
        token: str,
        commands: Sequence[Taken],
        waiting: Sequence[Waiting] | None = None,
        invited: Sequence[str] = (),
    ) -> list[Taken]:
        """Note commands, and that the stream was read up to `token`; returns those never taken before.

        `waiting` is all that waits for its keys now; None: what did before. `invited`: rooms that the bot is
        to join.
        """
        new = []
        with self._transaction() as db:
            for one in commands:
                row = (one.event_id, one.room_id, one.sender, one.body, one.thread, one.sent_ms)
                if db.execute(
                    "INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?, ?, 'taken')", row
                ).rowcount:
                    new.append(one)
            db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (self._account, token))
            db.executemany("INSERT OR IGNORE INTO invited VALUES (?)", [(room_id,) for room_id in invited])
            if waiting is not None:
                db.execute("DELETE FROM waiting")
                db.executemany(
                    "INSERT INTO waiting VALUES (?, ?, ?)",
                    [(one.event_id, one.room_id, one.source) for one in waiting],
                )
            if new:
                before_ms = max(one.sent_ms for one in new) - _KEPT_MS
                db.execute("DELETE FROM commands WHERE state = 'answered' AND sent_ms < ?", (before_ms,))
        return new

    def waiting(self) -> list[Waiting]:
        """What waits for its keys, the oldest first."""
        query = "SELECT event_id, room_id, source FROM waiting ORDER BY rowid"
        with closing(self._db.execute(query)) as rows:
            return [Waiting(event_id=one, room_id=room_id, source=source) for one, room_id, source in rows]

    def invited(self) -> list[str]:
        """The rooms that the bot is to join, and has not yet."""
        with closing(self._db.execute("SELECT room_id FROM invited ORDER BY rowid")) as rows:
            return [room_id for (room_id,) in rows]

    def settled(self, room_id: str) -> None:
        """Note that the bot has joined a room, or never will."""
        with self._transaction() as db:
            db.execute("DELETE FROM invited WHERE room_id = ?", (room_id,))

    def begun(self, event_id: str) -> None:
        """Note that what the command does is about to be done."""
        self._set(event_id, "begun")

    def answered(self, event_id: str) -> None:
        """Note that the command has its answer."""
        self._set(event_id, "answered")

    def unanswered(self) -> list[Taken]:
        """Those that were taken and have no answer yet, in the order in which they were."""
        columns = "event_id, room_id, sender, body, thread, sent_ms, state"
        query = f"SELECT {columns} FROM commands WHERE state != 'answered' ORDER BY rowid"  # noqa: S608 - made of constants
        with closing(self._db.execute(query)) as rows:
            return [
                Taken(
                    event_id=event_id, room_id=room_id, sender=sender, body=body, thread=thread,
                    sent_ms=sent_ms, begun=state == "begun",
                )
                for event_id, room_id, sender, body, thread, sent_ms, state in rows
            ]  # fmt: skip

    def _set(self, event_id: str, state: str) -> None:
        with self._transaction() as db:
            db.execute("UPDATE commands SET state = ? WHERE event_id = ?", (state, event_id))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
