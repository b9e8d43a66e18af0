"""The index: which blocks hold a project's, a story's or a stream's events.

It follows the log from its own position and can be deleted at any time: it is then made again. Whoever reads
it also looks through what the log holds beyond that position, so an index that lags costs time, never truth.
What pictures are drawn of (`stats_rows`) is counted in the same transactions, up to the same position.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from huskies.gateway.fleet import Fleet
from huskies.gateway.stats import DAY_MS, Told
from huskies.gateway.store import stats_rows
from huskies.gateway.store.blocks import Block, Stream
from huskies.storage.sqlite import open_reader, open_writer

FILE_NAME: Final = "views.db"
_VERSION: Final = 3
_SCHEMA: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE by_key (segment INTEGER NOT NULL, key INTEGER NOT NULL, position INTEGER NOT NULL,
                     PRIMARY KEY (segment, key, position)) WITHOUT ROWID;
CREATE TABLE by_stream (stream_id INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
                        position INTEGER NOT NULL, size INTEGER NOT NULL,
                        PRIMARY KEY (stream_id, first_seq)) WITHOUT ROWID;
CREATE TABLE fleet (id INTEGER PRIMARY KEY CHECK (id = 1), data BLOB NOT NULL);
{stats_rows.SCHEMA}
"""
# Came later: the numbers of sequences that were forgotten, of which nothing is counted here any more.
_ADDED: Final = "CREATE TABLE IF NOT EXISTS forgotten (stream_id INTEGER PRIMARY KEY)"
_MADE_AGAIN: Final = ("meta", "by_key", "by_stream", "forgotten", *stats_rows.TABLES)
# Keys are spread evenly, so new rows go all over the tree they are in. A tree for each so many positions
# stays small enough for the cache, and a query has one more place to look for each.
_SEGMENT: Final = 1_000_000
_CACHE_KIB: Final = 65_536
_CHECKPOINT_PAGES: Final = 16_000
_CHUNK: Final = 1_000
_FORGET_ROWS: Final = 5_000


class IndexRows(msgspec.Struct):
    """What some blocks add to the index; `position` is how far the log is indexed with them.

    `told` is for the counts: it is folded in the thread that writes. `passed`: where damaged blocks begin.
    """

    position: int = 0
    chain: int = 0
    by_key: list[tuple[int, int, int]] = []
    by_stream: list[tuple[int, int, int, int, int]] = []
    told: list[Told] = []
    passed: list[int] = []

    def extend(self, rows: IndexRows) -> None:
        """Add what later blocks add."""
        self.position, self.chain = rows.position, rows.chain
        self.by_key += rows.by_key
        self.by_stream += rows.by_stream
        self.told += rows.told
        self.passed += rows.passed


@lru_cache(maxsize=200_000)
def story_key(project: str, story_id: str | None) -> int:
    """A 63-bit key for a project (story None) or one of its stories.

    Two stories that share a key only cost a reader a look at blocks it did not need.
    """
    text = f"{project}\n{story_id}" if story_id is not None else project
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rows_of(blocks: Sequence[Block], streams: Sequence[Stream | None]) -> IndexRows:
    """What these blocks add to the index."""
    by_key: list[tuple[int, int, int]] = []
    by_stream: list[tuple[int, int, int, int, int]] = []
    told: list[Told] = []
    for block in blocks:
        segment = block.position // _SEGMENT
        keys: set[int] = set()
        events = block.events()
        start = 0
        for run, size in zip(block.runs, block.run_sizes(), strict=True):
            stream = streams[run.stream_id]
            assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
            by_stream.append((run.stream_id, run.first_seq, run.last_seq, block.position, size))
            if not stream.is_hidden:
                project, shown = stream.project, events[start : start + run.shown(stream)]
                keys.add(story_key(project, None))
                keys.update(
                    [story_key(project, event.story_id) for event in events[start : start + run.count]]
                )
                told.append(Told(project, run.stream_id, run.received_ms, shown))
            start += run.count
        by_key.extend((segment, key, block.position) for key in keys)
    last = blocks[-1]
    passed = [block.position for block in blocks if block.damage is not None]
    return IndexRows(last.last_position, last.chain, by_key, by_stream, told, passed)


class Index:
    """The index in `directory`; `write` from one thread at a time, the rest from any."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        # What a crash of the machine takes away is made again, so no commit waits for the disk.
        self._writer = open_writer(self.path, _SCHEMA, _VERSION, "NORMAL")
        self._upgrade()
        self._writer.execute(_ADDED)
        stats_rows.prepare(self._writer)
        self._writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        row = self._writer.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
        self.position = 0 if row is None else int(row[0])
        self._tidied_day = -1
        # One transaction at a time, whichever thread it comes from.
        self._lock = threading.Lock()
        self._forgotten: set[int] = set()

    def _upgrade(self) -> None:
        """Of an older version only the fleet is kept: it knows of stories that the log may not any more."""
        if self._writer.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
            tables = "; ".join(f"DROP TABLE IF EXISTS {table}" for table in _MADE_AGAIN)
            schema = _SCHEMA.replace("CREATE TABLE fleet", "CREATE TABLE IF NOT EXISTS fleet")
            self._writer.executescript(f"BEGIN; {tables}; {schema}; PRAGMA user_version = {_VERSION}; COMMIT")

    def chain(self) -> int:
        """The log's checksum at `position` when it was indexed."""
        row = self._writer.execute("SELECT value FROM meta WHERE key = 'chain'").fetchone()
        return 0 if row is None else int(row[0])

    def write(self, rows: IndexRows, fleet: bytes | None = None, now_ms: int = 0) -> float:
        """Add rows and note how far the log is indexed, in one transaction; `now_ms` by the wall clock.

        Answers how many seconds counting took.
        """
        with self._transaction():
            self._insert(rows)
            started = time.perf_counter()
            stats_rows.take(self._writer, rows.told, rows.passed)
            counting = time.perf_counter() - started
            self._tidy(now_ms // DAY_MS)
            self._set("position", rows.position)
            self._set("chain", rows.chain)
            if fleet is not None:
                self._insert_fleet(fleet)
        self.position = rows.position
        return counting

    def add(self, position: int, rows: IndexRows) -> None:
        """Add rows of the block at `position`, behind how far the log is indexed: it was damaged then."""
        with self._transaction():
            self._insert(rows)
            stats_rows.take_late(self._writer, position, rows.told)

    def forget(self, first_position: int, dropped: Mapping[int, int]) -> dict[int, int]:
        """Remove what the log retains no more, before `first_position`; `dropped` says it by stream, in seqs.

        Answers how many bytes of events each stream had of that. A segment goes as a whole: its rows are not
        in the order of their positions.
        """
        with self._transaction():
            sizes = {stream_id: self._forget_runs(stream_id, seq) for stream_id, seq in dropped.items()}
        segments = self._segments_before(first_position // _SEGMENT)
        for segment in segments:
            while self._forget_some(segment):
                pass
        return sizes

    def forget_project(self, name: str, stream_ids: Sequence[int]) -> None:
        """Remove what is counted of a project, of which these sequences were forgotten, and note that."""
        with self._transaction():
            # What is just being indexed may have been read before.
            self._forgotten.update(stream_ids)
            stats_rows.forget_project(self._writer, name, stream_ids)
            self._writer.executemany(
                "INSERT OR IGNORE INTO forgotten VALUES (?)", [(each,) for each in stream_ids]
            )

    def has_forgotten(self, stream_ids: Sequence[int]) -> bool:
        """Whether that was noted of all of these."""
        with self._lock:
            noted = {row[0] for row in self._writer.execute("SELECT stream_id FROM forgotten")}
        return noted.issuperset(stream_ids)

    def sizes(self) -> dict[int, int]:
        """How many bytes the events of each stream take that are indexed."""
        with self._lock:
            return dict(self._writer.execute("SELECT stream_id, sum(size) FROM by_stream GROUP BY stream_id"))

    def _forget_runs(self, stream_id: int, seq: int) -> int:
        deleted = self._writer.execute(
            "DELETE FROM by_stream WHERE stream_id = ?1 AND first_seq <= ?2 AND last_seq <= ?2 "
            "RETURNING size",
            (stream_id, seq),
        )
        return sum(size for (size,) in deleted)

    def _segments_before(self, segment: int) -> range:
        row = self._writer.execute("SELECT min(segment) FROM by_key").fetchone()
        return range(segment if row[0] is None else min(row[0], segment), segment)

    def _forget_some(self, segment: int) -> int:
        with self._transaction():
            return self._writer.execute(
                "DELETE FROM by_key WHERE segment = ?1 AND key <= coalesce((SELECT key FROM by_key "
                "WHERE segment = ?1 ORDER BY key LIMIT 1 OFFSET ?2), 9223372036854775807)",
                (segment, _FORGET_ROWS),
            ).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._writer.execute("BEGIN")
            try:
                yield
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _insert(self, rows: IndexRows) -> None:
        connection = self._writer
        if self._forgotten:
            rows.told = [told for told in rows.told if told.stream_id not in self._forgotten]
        connection.executemany("INSERT OR IGNORE INTO by_key VALUES (?, ?, ?)", sorted(rows.by_key))
        connection.executemany("INSERT OR REPLACE INTO by_stream VALUES (?, ?, ?, ?, ?)", rows.by_stream)

    def _tidy(self, day: int) -> None:
        """Drop counts that are too old, once a day."""
        if day != self._tidied_day:
            stats_rows.forget(self._writer, day * DAY_MS)
            self._tidied_day = day

    def clear(self) -> None:
        """Forget everything: it is made again from the log."""
        deleted = "; ".join(f"DELETE FROM {table}" for table in _MADE_AGAIN)  # noqa: S608 - constant
        self._writer.executescript(f"BEGIN; {deleted}; COMMIT")
        self.position = 0

    def write_fleet(self, fleet: bytes) -> None:
        """Keep the fleet as it stands, so that start-up need not fold the whole log."""
        with self._transaction():
            self._insert_fleet(fleet)

    def _insert_fleet(self, fleet: bytes) -> None:
        self._writer.execute("INSERT OR REPLACE INTO fleet VALUES (1, ?)", (fleet,))

    def read_fleet(self) -> Fleet:
        """The fleet as it was kept last; an empty one where there is none."""
        row = self._writer.execute("SELECT data FROM fleet").fetchone()
        if row is None:
            return Fleet()
        try:
            return msgspec.msgpack.decode(row[0], type=Fleet)
        except msgspec.DecodeError:
            return Fleet()

    def _set(self, key: str, value: int) -> None:
        self._writer.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )

    def close(self) -> None:
        """Close the writing connection."""
        with self._lock:
            self._writer.close()


class IndexReader:
    """Reads the index over a connection of its own, from one thread at a time."""

    def __init__(self, index: Index) -> None:
        self._connection = open_reader(index.path)

    def position(self) -> int:
        """How far the log is indexed."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
        return 0 if row is None else int(row[0])

    def after(self, keys: Sequence[int], position: int) -> list[int]:
        """The next blocks from `position` on that may hold these keys' events, oldest first."""
        for segment in range(position // _SEGMENT, self.position() // _SEGMENT + 1):
            found = self._positions(
                "SELECT DISTINCT position FROM by_key WHERE segment = ? AND key IN (SELECT value FROM "
                "json_each(?)) AND position >= ? ORDER BY position LIMIT ?",
                (segment, json.dumps(keys), position, _CHUNK),
            )
            if found:
                return found
        return []

    def before(self, keys: Sequence[int], position: int) -> list[int]:
        """The last blocks that begin before `position` and may hold these, newest first."""
        for segment in range(min(position, self.position()) // _SEGMENT, -1, -1):
            found = self._positions(
                "SELECT DISTINCT position FROM by_key WHERE segment = ? AND key IN (SELECT value FROM "
                "json_each(?)) AND position < ? ORDER BY position DESC LIMIT ?",
                (segment, json.dumps(keys), position, _CHUNK),
            )
            if found:
                return found
        return []

    def run_positions(self, stream_id: int, first_seq: int, last_seq: int) -> tuple[list[int], int]:
        """Positions of the blocks that hold these of a stream, and how far the log is indexed."""
        known_to = self.position()
        positions = self._positions(
            "SELECT position FROM by_stream WHERE stream_id = ?1 AND first_seq <= ?3 AND first_seq >= "
            "coalesce((SELECT max(first_seq) FROM by_stream WHERE stream_id = ?1 AND first_seq <= ?2), 0)",
            (stream_id, first_seq, last_seq),
        )
        return positions, known_to

    def _positions(self, query: str, values: tuple[int | str, ...]) -> list[int]:
        return [row[0] for row in self._connection.execute(query, values)]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
