"""The outbox's file: its schema, its one row of standing, and how events are read from it.

An event's row is its `position`, which only ever grows. Its seq is the position less the epoch's `base`, so
that opening an epoch renumbers everything it carries over by moving `base`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from huskies import limits
from huskies.protocol.outbox_view import OutboxView
from huskies.protocol.wire import PreviousEpoch, SnapshotStory
from huskies.sled.board import Published, merge
from huskies.sled.scan import SeenStory
from huskies.sled.story_file import StoryContent

VERSION: Final = 2
# What brings a file of the version before to the next one.
UPGRADES: Final = {
    1: "ALTER TABLE head ADD COLUMN held INTEGER NOT NULL DEFAULT 0;"
    " ALTER TABLE head ADD COLUMN held_by INTEGER NOT NULL DEFAULT 1",
}

# In `events`, `json` stands last, so that looking at times does not read the pages of long reasons.
SCHEMA: Final = """
CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), sled_id TEXT NOT NULL, project TEXT NOT NULL,
                   place TEXT NOT NULL, epoch TEXT NOT NULL, base INTEGER NOT NULL, last_seq INTEGER NOT NULL,
                   acked INTEGER NOT NULL, barrier INTEGER, barrier_set_aside INTEGER NOT NULL,
                   barrier_reason TEXT NOT NULL, inherited INTEGER NOT NULL, next_sled_id TEXT NOT NULL,
                   next_epoch TEXT NOT NULL, spoke_v1 INTEGER NOT NULL, held INTEGER NOT NULL,
                   held_by INTEGER NOT NULL);
CREATE TABLE events (position INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, stored INTEGER NOT NULL,
                     json BLOB NOT NULL);
CREATE INDEX events_by_time ON events (timestamp_ms);
CREATE TABLE previous_epochs (id INTEGER PRIMARY KEY, sled_id TEXT NOT NULL, epoch TEXT NOT NULL,
                              last_seq INTEGER NOT NULL);
CREATE TABLE set_aside (id INTEGER PRIMARY KEY, sled_id TEXT NOT NULL, epoch TEXT NOT NULL,
                        seq INTEGER NOT NULL, reason TEXT NOT NULL, json BLOB NOT NULL);
CREATE TABLE stories (story_id TEXT PRIMARY KEY, stage TEXT NOT NULL, story_name TEXT NOT NULL, blocked TEXT,
                      merge_failure TEXT, since_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE published (story_id TEXT PRIMARY KEY, story_name TEXT NOT NULL, stage TEXT, blocked TEXT,
                        merge_failure TEXT, since_ms INTEGER NOT NULL);
CREATE TABLE drained (spool_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE v2_gateways (url TEXT PRIMARY KEY) WITHOUT ROWID
"""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where the outbox stands.

    `barrier`: nothing from this seq on may be sent in this epoch; `next_sled_id` (empty: the same) and
    `next_epoch` are what comes after it. `inherited`: a copy never carries over what it holds up to this seq.
    `spoke_v1`: what is acked may have been sent on v1 alone, where nothing is acknowledged. At least
    `held_by` gateways hold everything up to `held`.
    """

    sled_id: str
    project: str
    place: str
    epoch: str
    base: int = 0
    last_seq: int = 0
    acked: int = 0
    barrier: int | None = None
    barrier_set_aside: bool = False
    barrier_reason: str = ""
    inherited: int = 0
    next_sled_id: str = ""
    next_epoch: str = ""
    spoke_v1: bool = False
    held: int = 0
    held_by: int = 1

    def held_by_at_least(self, copies: int) -> int:
        """Up to which seq so many gateways are known to hold everything."""
        if copies == 1:
            return self.acked
        return self.held if self.held_by >= copies else 0

    @property
    def last_sendable(self) -> int:
        """The newest event that may be sent in this epoch."""
        return self.last_seq if self.barrier is None else min(self.last_seq, self.barrier - 1)

    @property
    def unacked(self) -> int:
        """How many events wait for an ack."""
        return self.last_seq - self.acked

    def identity_of(self, seq: int) -> tuple[str, str, int]:
        """The (sled_id, epoch, seq) under which the event `seq` of this epoch will be delivered."""
        if self.barrier is None:
            return self.sled_id, self.epoch, seq
        last_kept = max(self.barrier - 1 + self.barrier_set_aside, self.inherited)
        if seq <= last_kept:
            return self.sled_id, self.epoch, seq
        return self.next_sled_id or self.sled_id, self.next_epoch, seq - last_kept


_HEAD: Final = ", ".join(Head.__struct_fields__)
_HEAD_MARKS: Final = ", ".join("?" * len(Head.__struct_fields__))


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring a file of an older version to this one; nothing for one that is not older."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    for version in range(found, VERSION):
        connection.executescript(f"BEGIN; {UPGRADES[version]}; PRAGMA user_version = {version + 1}; COMMIT")


def read_head(connection: sqlite3.Connection) -> Head | None:
    """The outbox's standing; None for one that was just made."""
    row = connection.execute(f"SELECT {_HEAD} FROM head").fetchone()  # noqa: S608 - constant
    if row is None:
        return None
    return msgspec.convert(dict(zip(Head.__struct_fields__, row, strict=True)), Head, strict=False)


def write_head(connection: sqlite3.Connection, head: Head) -> None:
    """Replace the outbox's standing; part of the caller's transaction."""
    connection.execute(
        f"INSERT OR REPLACE INTO head (id, {_HEAD}) VALUES (1, {_HEAD_MARKS})",  # noqa: S608 - constant
        msgspec.structs.astuple(head),
    )


def read_view(connection: sqlite3.Connection, head: Head, copies: int = 1) -> OutboxView:
    """What the relay protocol needs when a session begins; `copies` gateways are to hold each event."""
    oldest = connection.execute(
        "SELECT min(position) FROM events WHERE position > ?", (head.base,)
    ).fetchone()[0]
    rows = connection.execute(
        "SELECT epoch, last_seq FROM previous_epochs WHERE sled_id = ? ORDER BY id DESC LIMIT ?",
        (head.sled_id, limits.PREVIOUS_EPOCHS_MAX),
    ).fetchall()
    return OutboxView(
        project=head.project,
        sled_id=head.sled_id,
        epoch=head.epoch,
        last_seq=head.last_seq,
        acked=head.acked,
        # A commit may have brought the connection further than `head`.
        oldest=head.last_seq + 1 if oldest is None else min(oldest - head.base, head.last_seq + 1),
        copies=copies,
        held=head.held_by_at_least(copies),
        barrier=head.barrier,
        barrier_set_aside=head.barrier_set_aside,
        previous=tuple(PreviousEpoch(epoch=epoch, last_seq=last_seq) for epoch, last_seq in reversed(rows)),
    )


def read_events(
    connection: sqlite3.Connection, first_position: int, count: int, bytes_max: int
) -> list[tuple[bytes, bool]]:
    """Consecutive events as (json, stored): at most `count`, and `bytes_max` bytes unless one is larger.

    Ends where one is missing: what follows a hole has another seq.
    """
    events: list[tuple[bytes, bool]] = []
    size = 0
    rows = connection.execute(
        "SELECT position, json, stored FROM events WHERE position BETWEEN ? AND ? ORDER BY position",
        (first_position, first_position + count - 1),
    )
    for expected, (position, json, stored) in enumerate(rows, first_position):
        size += len(json) + 1
        if position != expected or (events and size > bytes_max):
            break
        events.append((json, bool(stored)))
    rows.close()
    return events


def read_since(connection: sqlite3.Connection, since_ms: int, count: int, bytes_max: int) -> list[bytes]:
    """Stored events recorded at `since_ms` or later, oldest first, each as JSON.

    Ends after `count` events or `bytes_max` bytes, but never between events of one millisecond: a poller
    goes on from the last time it saw.
    """
    events: list[bytes] = []
    size = 0
    last_ms = -1
    rows = connection.execute(
        "SELECT timestamp_ms, json FROM events WHERE timestamp_ms >= ? AND stored"
        " ORDER BY timestamp_ms, position",
        (since_ms,),
    )
    for timestamp_ms, json in rows:
        if timestamp_ms != last_ms and (len(events) >= count or size >= bytes_max):
            break
        events.append(json)
        size += len(json)
        last_ms = timestamp_ms
    rows.close()
    return events


def read_seen(connection: sqlite3.Connection) -> dict[str, SeenStory]:
    """The stories as the pipeline was last seen."""
    rows = connection.execute("SELECT story_id, stage, story_name, blocked, merge_failure FROM stories")
    return {
        row[0]: SeenStory(
            story_id=row[0],
            stage=row[1],
            content=StoryContent(name=row[2], blocked=row[3], merge_failure=row[4]),
        )
        for row in rows
    }


def read_snapshot(connection: sqlite3.Connection) -> tuple[int, list[SnapshotStory]]:
    """The newest seq and where the stories stand as of it."""
    connection.execute("BEGIN")
    try:
        seq = connection.execute("SELECT last_seq FROM head").fetchone()[0]
        rows = connection.execute(f"SELECT {_STORY} FROM stories")  # noqa: S608 - constant
        seen = [SnapshotStory(**_story_fields(row)) for row in rows]
        published = list(read_published(connection))
    finally:
        connection.execute("COMMIT")
    return seq, merge(seen, published)


def read_published(connection: sqlite3.Connection, story_id: str | None = None) -> Iterator[Published]:
    """What published events say of the stories, or of one, beyond their files."""
    where, values = ("", ()) if story_id is None else (" WHERE story_id = ?", (story_id,))
    for row in connection.execute(f"SELECT {_STORY} FROM published{where}", values):  # noqa: S608 - constant
        yield Published(**_story_fields(row))


_STORY: Final = "story_id, story_name, stage, blocked, merge_failure, since_ms"


def _story_fields(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_STORY.split(", "), row, strict=True))
