"""The outbox's writes: each method is one durable step, carried out inside `transaction`."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from huskies import limits
from huskies.errors import ConfigError, StoreError
from huskies.events import codec
from huskies.events.model import StageTransition
from huskies.sled import outbox_schema as schema
from huskies.sled.board import Published, fold
from huskies.sled.identity import Identity
from huskies.sled.intake import Entry
from huskies.sled.scan import Changes, SeenStory
from huskies.storage.files import create_private_file
from huskies.storage.sqlite import open_writer

# Stories that only other programs speak of; beyond so many the ones that changed longest ago are forgotten.
_PUBLISHED_MAX: Final = 1_000
# Pruned in one commit beyond what it acknowledges: a backlog of old events goes away in steps that hold up
# nothing for long.
_PRUNE_STEP: Final = 1_000


class Keeping(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept after a gateway acknowledged it: all of the last `ms`, and what fewer than `copies` hold.

    Time counts from when an event was recorded.
    """

    ms: int = limits.KEEP_ACKED_MS
    copies: int = 1


class OutboxStore:
    """The outbox in the file `path`. Raises `ConfigError` where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # SQLite makes its files readable like the first one.
        try:
            create_private_file(path, b"")
        except FileExistsError:
            pass
        except OSError as error:
            raise ConfigError(str(path), f"cannot be made: {error.strerror}") from None
        self._connection = open_writer(path, schema.SCHEMA, schema.VERSION)
        try:
            schema.upgrade(self._connection)
            self._head = schema.read_head(self._connection)
        except (sqlite3.Error, msgspec.ValidationError) as error:
            self._connection.close()
            raise ConfigError(str(path), f"cannot be used as an outbox: {error}") from None

    @property
    def is_new(self) -> bool:
        """Whether nothing was recorded yet, not even whose outbox it is."""
        return self._head is None

    @property
    def head(self) -> schema.Head:
        """Where the outbox stands, inside a transaction as that one leaves it."""
        assert self._head is not None  # noqa: S101 - `create` comes first
        return self._head

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and fsynced when it ends; raises `StoreError`."""
        before = self._head
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if self._head is not before and self._head is not None:
                    schema.write_head(self._connection, self._head)
                self._connection.execute("COMMIT")
            except BaseException:
                self._head = before
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: the outbox cannot be written: {error}") from None

    def close(self) -> None:
        """Checkpoint and close."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    # --- identity ----------------------------------------------------------------------------------

    def create(self, identity: Identity, sled_id: str, epoch: str) -> None:
        """Say whose outbox this is."""
        self._head = schema.Head(sled_id=sled_id, project=identity.project, place=identity.place, epoch=epoch)

    def open_epoch(self, carry_from: int, epoch: str, identity: Identity, sled_id: str) -> bool:
        """Begin an epoch that carries over what is held from `carry_from` on, numbered from 1.

        Nothing of it is acknowledged, also where it was in the old epoch. What a copy holds of its original
        is never carried over. Returns whether an event was set aside.
        """
        head = self.head
        carry_from = max(carry_from, head.inherited + 1)
        sets_aside = head.barrier is not None and head.barrier_set_aside and carry_from == head.barrier + 1
        if sets_aside:
            self._set_aside(head, carry_from - 1)
        self._connection.execute(
            "INSERT INTO previous_epochs (sled_id, epoch, last_seq) VALUES (?, ?, ?)",
            (head.sled_id, head.epoch, carry_from - 1),
        )
        self._connection.execute(
            "DELETE FROM previous_epochs WHERE id <= (SELECT max(id) FROM previous_epochs) - ?",
            (limits.PREVIOUS_EPOCHS_MAX,),
        )
        self._head = schema.Head(
            sled_id=sled_id,
            project=identity.project,
            place=identity.place,
            epoch=epoch,
            base=head.base + carry_from - 1,
            last_seq=head.last_seq - carry_from + 1,
        )
        return sets_aside

    def set_barrier(self, seq: int, next_epoch: str, reason: str, *, set_aside: bool) -> None:
        """Nothing from `seq` on may be sent in this epoch.

        `next_epoch` comes after it, unless one is already foreseen.
        """
        self._update(
            barrier=seq,
            barrier_set_aside=set_aside,
            barrier_reason=reason,
            next_epoch=self.head.next_epoch or next_epoch,
        )

    def foresee(self, sled_id: str, epoch: str, inherited: int) -> None:
        """The next epoch, under another key; what is held up to `inherited` is not carried over into it."""
        self._update(next_sled_id=sled_id, next_epoch=epoch, inherited=max(inherited, self.head.inherited))

    def remember_v2(self, gateway_url: str) -> None:
        """The gateway at this URL has spoken v2."""
        self._connection.execute("INSERT OR IGNORE INTO v2_gateways VALUES (?)", (gateway_url,))

    # --- events ------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> int:
        """Add the events; returns the seq of the first."""
        head = self.head
        first = head.base + head.last_seq + 1
        self._connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            (
                (position, entry.timestamp_ms, entry.stored, entry.json)
                for position, entry in enumerate(entries, first)
            ),
        )
        self._update(last_seq=head.last_seq + len(entries))
        return head.last_seq + 1

    def acknowledge(self, seq: int) -> None:
        """The gateway holds everything up to `seq`."""
        if seq > self.head.acked:
            self._update(acked=min(seq, self.head.last_seq))

    def hold(self, seq: int, copies: int) -> None:
        """At least `copies` gateways hold everything up to `seq`."""
        if seq > self.head.held_by_at_least(copies):
            self._update(held=min(seq, self.head.last_seq), held_by=copies)

    def mark_sent_v1(self, seq: int) -> None:
        """Everything up to `seq` was or is about to be sent where nothing is ever acknowledged."""
        self.acknowledge(seq)
        self._update(spoke_v1=True)

    def forgettable(self, copies: int) -> int:
        """The position of the newest event that is acknowledged, and by `copies` gateways held.

        What older epochs did not carry over counts as such: nothing can be sent under them any more.
        """
        head = self.head
        return head.base + min(head.acked, head.held_by_at_least(copies))

    def prune(self, now_ms: int, keep: Keeping, more: int) -> None:
        """Forget a bounded number of the events that need not be kept any longer.

        `more`: how many became forgettable in this transaction, so that pruning keeps pace.
        """
        too_old_ms = now_ms - keep.ms
        through = 0
        rows = self._connection.execute(
            "SELECT position, timestamp_ms FROM events WHERE position <= ? ORDER BY position LIMIT ?",
            (self.forgettable(keep.copies), _PRUNE_STEP + more),
        )
        for position, timestamp_ms in rows:
            # What is held stays without gaps, also where a clock went backwards.
            if timestamp_ms >= too_old_ms:
                break
            through = position
        rows.close()
        if through:
            self._connection.execute("DELETE FROM events WHERE position <= ?", (through,))

    # --- the pipeline and other programs -----------------------------------------------------------

    def save_changes(self, changes: Changes, now_ms: int) -> None:
        """The pipeline was seen to be so."""
        self._connection.executemany(
            "INSERT INTO stories (story_id, stage, story_name, blocked, merge_failure, since_ms)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET story_name = excluded.story_name,"
            " since_ms = CASE WHEN stage = excluded.stage THEN since_ms ELSE excluded.since_ms END,"
            " stage = excluded.stage, blocked = excluded.blocked, merge_failure = excluded.merge_failure",
            (
                (s.story_id, s.stage, s.content.name, s.content.blocked, s.content.merge_failure, now_ms)
                for s in changes.seen
            ),
        )
        gone = [(story_id,) for story_id in changes.gone]
        self._connection.executemany("DELETE FROM stories WHERE story_id = ?", gone)
        moved = [(event.story_id,) for event in changes.events if isinstance(event, StageTransition)]
        self._connection.executemany("DELETE FROM published WHERE story_id = ?", gone + moved)

    def save_published(self, entry: Entry) -> None:
        """Another program said this of a story."""
        if not entry.stored:
            return
        event = codec.decode_status(entry.json)
        before = next(schema.read_published(self._connection, event.story_id), None)
        after = fold(before, event, entry.timestamp_ms)
        if after is not None:
            self._connection.execute(
                "INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?, ?, ?)", _published_row(after)
            )
        if before is None:
            self._connection.execute(
                "DELETE FROM published WHERE rowid <= (SELECT max(rowid) FROM published) - ?",
                (_PUBLISHED_MAX,),
            )

    def seen(self) -> dict[str, SeenStory]:
        """The stories as the pipeline was last seen."""
        return schema.read_seen(self._connection)

    def drained(self) -> set[str]:
        """The spool entries that are recorded and whose files may still be there."""
        return {spool_id for (spool_id,) in self._connection.execute("SELECT spool_id FROM drained")}

    def add_drained(self, spool_ids: Iterable[str]) -> None:
        """These spool entries are recorded in this transaction."""
        self._connection.executemany("INSERT INTO drained VALUES (?)", ((i,) for i in spool_ids))

    def forget_drained(self, spool_ids: Iterable[str]) -> None:
        """The files of these spool entries are gone, durably."""
        self._connection.executemany("DELETE FROM drained WHERE spool_id = ?", ((i,) for i in spool_ids))

    def _set_aside(self, head: schema.Head, seq: int) -> None:
        position = head.base + seq
        self._connection.execute(
            "INSERT INTO set_aside (sled_id, epoch, seq, reason, json)"
            " SELECT ?, ?, ?, ?, json FROM events WHERE position = ?",
            (head.sled_id, head.epoch, seq, head.barrier_reason, position),
        )
        self._connection.execute("DELETE FROM events WHERE position = ?", (position,))

    def _update(self, **fields: object) -> None:
        self._head = msgspec.structs.replace(self.head, **fields)


def _published_row(story: Published) -> tuple[object, ...]:
    return (
        story.story_id,
        story.story_name,
        story.stage,
        story.blocked,
        story.merge_failure,
        story.since_ms,
    )
