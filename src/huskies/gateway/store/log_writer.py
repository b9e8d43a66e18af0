"""The log's one writer: its file, opened, changed and closed in the writer's thread."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from huskies.errors import StoreError
from huskies.events.model import RelayedEvent
from huskies.gateway.store import damage, log_store, recovery, repair, retention, stream_rows
from huskies.gateway.store.appender import Appender
from huskies.gateway.store.blocks import Block, Run, Stream
from huskies.gateway.store.damage import Damage, DamagedRange, describe
from huskies.gateway.store.stream_reader import Lookup, StreamReader
from huskies.gateway.store.streams import Forgotten, Streams, names_of
from huskies.gateway.store.tail import check_wal, read_tail, refuse_damaged, unreadable
from huskies.protocol import peer_wire
from huskies.protocol.wire import PreviousEpoch
from huskies.storage.sqlite import open_writer

_log = logging.getLogger("huskies.log")

# Checkpointing the heads this often keeps start-up short whatever the log's length.
_CHECKPOINT_EVENTS: Final = 200_000


class Known(NamedTuple):
    """A sequence that another gateway named: this log's number for it, and whether the two agree so far."""

    theirs: peer_wire.Sequence
    stream: Stream
    agrees: bool


class Standing(NamedTuple):
    """How far the log holds a sequence, and its digest there."""

    stream: Stream
    last_seq: int
    digest: int


class LogWriter:
    """The log's file in `directory`; everything but opening and closing it happens in a `transaction`.

    `cut` is called with each number of a sequence under which another branch lost.
    """

    def __init__(
        self,
        directory: Path,
        *,
        lookup: Lookup,
        damaged: Damage,
        cut: Callable[[Stream], None],
        now_ms: Callable[[], int],
    ) -> None:
        self.path = directory / log_store.FILE_NAME
        check_wal(self.path)
        self._connection = open_writer(self.path, log_store.SCHEMA, log_store.VERSION, shrinks=True)
        try:
            self._connection.executescript(log_store.ADDED)
            refuse_damaged(stream_rows.upgrade(self._connection), self.path)
            self.log_id = log_store.log_id(self._connection)
            tail = read_tail(self._connection, damaged, self.path)
        except sqlite3.Error as error:
            self._connection.close()
            raise unreadable(self.path, error) from None
        except BaseException:
            self._connection.close()
            raise
        self._damaged = damaged
        self.now_ms = now_ms
        self._failed = False
        self.sequences = Streams(tail.streams)
        self.reader = StreamReader(self._connection, lookup, self.sequences, damaged)
        self.appender = Appender(
            self._connection,
            self.sequences,
            self.reader,
            position=tail.position,
            chain=tail.chain,
            # What the last process did not checkpoint counts too: the next checkpoint covers all before it.
            dirty=tail.advanced,
            cut=cut,
        )
        self._checkpoint_position = tail.position

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, fsynced when it ends. Raises `StoreError`; nothing may be written after that."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self.appender.flush()
            if self.appender.position - self._checkpoint_position >= _CHECKPOINT_EVENTS:
                self._write_heads()
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._failed = True
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.path}: {error}") from error
            raise

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            # After a commit that failed, memory is ahead of the disk; what is there is what counts.
            if not self._failed:
                if self.appender.dirty:
                    with self.transaction():
                        self._write_heads()
                # A copy of log.db alone is then a copy of the log.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
        except (sqlite3.Error, StoreError) as error:
            _log.warning("the log could not be checkpointed: %s", error)

    def admit(
        self, sled_id: str, epoch: str, project: str, previous: Sequence[PreviousEpoch]
    ) -> tuple[Stream, int] | str:
        """The stream of this identity and the newest seq it holds; or the project that the sled is of."""
        owner = self.sequences.owner(sled_id, project)
        if owner != project:
            return owner
        for older in previous:
            self._close_epoch(sled_id, older, project)
        stream = self.sequences.register(self._connection, sled_id, epoch, project)
        return stream, stream.last_seq

    def standing(self) -> list[Standing]:
        """How far each sequence is held."""
        return [Standing(stream, stream.last_seq, stream.digest) for stream in self.sequences.all_live()]

    def compare(self, theirs: peer_wire.Sequence) -> Known:
        """Register what another gateway names, and say whether this log agrees with it so far."""
        connection, sequences = self._connection, self.sequences
        stream = sequences.register(connection, theirs.sled_id.lower(), theirs.epoch, theirs.project)
        if theirs.closed_seq is not None and theirs.closed_seq > (stream.closed_seq or -1):
            sequences.close_epoch(connection, stream, theirs.closed_seq)
        if theirs.contested:
            sequences.contest(connection, stream)
        agrees = True
        if 0 < theirs.last_seq <= stream.last_seq:
            digest = self.reader.digest(stream.origin, theirs.last_seq)
            # What is no longer retained cannot be compared.
            agrees = digest is None or digest == theirs.digest
        return Known(theirs, stream, agrees)

    def adopt_base(self, stream: Stream, seq: int, digest: int) -> None:
        """Go on with a sequence beyond `seq`."""
        live = self.sequences.live(stream.origin) or stream
        self.sequences.adopt_base(self._connection, live, seq, digest)

    def trim(self, rules: retention.Rules, up_to: int) -> retention.Dropped | None:
        """Drop some of the oldest blocks that are retained no more, none beyond position `up_to`."""
        connection = self._connection
        dropped = retention.drop(connection, self.sequences, rules, self.now_ms(), up_to)
        if dropped is not None:
            # The next start works the heads out from the blocks beyond this position.
            heads = stream_rows.heads(connection)
            if dropped.last_position > heads.position or not heads.is_sound:
                self._write_heads()
            damage.drop(connection, self._damaged, dropped.last_position, self.sequences)
            connection.execute("DELETE FROM repaired WHERE position <= ?", (dropped.last_position,))
        retention.shrink(connection)
        return dropped

    def forget(self, project: str) -> Forgotten:
        """Show nothing more of what a project's sleds have said."""
        forgotten = self.sequences.forget(self._connection, project)
        self._connection.execute("DELETE FROM snapshots WHERE project = ?", (project,))
        ids = [number.id for origin in forgotten.seqs for number in self.sequences.numbers(origin)]
        self._connection.executemany("DELETE FROM quarantine WHERE stream_id = ?", [(each,) for each in ids])
        return forgotten

    def damaged_block(self, position: int) -> repair.Damaged | None:
        """What is known of the damaged block at `position`; None where none is."""
        found = self._damaged.at(position)
        return None if found is None else describe(self._connection, found, self.sequences.rows)

    def repair(self, position: int, runs: Sequence[Run], events: Sequence[RelayedEvent]) -> Block | str:
        """Put a damaged block back, if it held exactly these; else say why not."""
        damaged = self.damaged_block(position)
        if damaged is None:
            return f"nothing is damaged at position {position}"
        rebuilt = repair.rebuild(damaged, runs, events)
        if isinstance(rebuilt, str):
            return rebuilt
        recovery.put_back(self._connection, rebuilt)
        return rebuilt.block

    def examine(self, found: DamagedRange) -> Block | None:
        """Keep what was found damaged for the next start, or put it back; the block, where that was done."""
        connection = self._connection
        first = log_store.first_position(connection)
        if found.last_position < first:
            # Whoever found it read the log as it was before it was dropped.
            damage.drop(connection, self._damaged, first - 1, self.sequences)
            return None
        recovered = recovery.recover(connection, found, self.sequences.rows)
        if recovered is None:
            damage.save(connection, found)
        return recovered

    def _close_epoch(self, sled_id: str, older: PreviousEpoch, project: str) -> None:
        stream = self.sequences.register(self._connection, sled_id, older.epoch, project)
        news = self.sequences.close_epoch(self._connection, stream, older.last_seq)
        if news and older.last_seq > stream.last_seq:
            _log.error(
                "events are missing: their sled no longer holds them",
                extra={**names_of(stream), "from": stream.last_seq + 1, "to": older.last_seq},
            )

    def _write_heads(self) -> None:
        dirty = self.appender.dirty
        position, chain = self.appender.position, self.appender.chain
        stream_rows.write_heads(self._connection, dirty.values(), position, chain)
        dirty.clear()
        self._checkpoint_position = self.appender.position
