"""The rows of the log's sequences: the one place that reads and writes them, each under its checksums.

A row has two: one for what it says of the sequence, and one for its head, which is written only when heads
are checkpointed. Rows are written from memory, whole: what was damaged on the disk meanwhile is never given
a checksum that fits it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from huskies.gateway.store import log_store
from huskies.gateway.store.blocks import Stream

_COLUMNS: Final = ", ".join(Stream.__struct_fields__)
# As they are stored: a flipped bit may leave a name that is no text, which SQLite would not read at all.
_RAW: Final = ", ".join(
    f"CAST({name} AS BLOB)" if name in {"sled_id", "epoch", "project"} else name
    for name in Stream.__struct_fields__
)
_SAID: Final = tuple(name for name in Stream.__struct_fields__ if name not in {"id", "last_seq", "digest"})
_MARKS: Final = ", ".join("?" * (len(Stream.__struct_fields__) + 2))
# The first version whose rows carry checksums.
_CHECKED_VERSION: Final = 2


class RowProblem(msgspec.Struct, frozen=True):
    """What is wrong with the row of this number; `stream` is what it says, where that can be read.

    `head`: with its head alone, which also follows from the runs of the log.
    """

    number: int
    problem: str
    stream: Stream | None = None
    head: bool = False

    def __str__(self) -> str:
        stream = self.stream
        names = f"sled {stream.sled_id}, epoch {stream.epoch}, project {stream.project}" if stream else ""
        return f"the row of sequence {self.number}{names and f' ({names})'}: {self.problem}"


class Rows(msgspec.Struct):
    """All sequences, indexed by number (numbers begin at 1), as of the last checkpoint of the heads."""

    streams: list[Stream | None]
    problems: list[RowProblem]


class Heads(msgspec.Struct, frozen=True):
    """The checkpoint of the heads: `position` as of which rows have them, and the log's checksum there.

    `chain` is None where it was not noted. `is_sound`: it fits its own checksum.
    """

    position: int = 0
    chain: int | None = None
    is_sound: bool = True


# --- reading ---------------------------------------------------------------------------------------------


def read(connection: sqlite3.Connection) -> Rows:
    """All rows, also those that are not sound, and what is wrong with them."""
    checked = connection.execute("PRAGMA user_version").fetchone()[0] >= _CHECKED_VERSION
    checksums = ", crc, head_crc" if checked else ""
    rows = Rows([None], [])
    for number, *cells in connection.execute(f"SELECT id, {_RAW}{checksums} FROM streams ORDER BY id"):  # noqa: S608 - constants
        for absent in range(len(rows.streams), max(0, number)):
            rows.problems.append(RowProblem(absent, "it is not there"))
            rows.streams.append(None)
            if len(rows.problems) > _MOST_PROBLEMS:
                return rows
        stream, problem = _checked(number, cells, checked=checked)
        if problem is not None:
            rows.problems.append(problem)
        if number == len(rows.streams):
            rows.streams.append(stream)
    return rows


# A number that was damaged may be as large as numbers get: what is not there is not named without end.
_MOST_PROBLEMS: Final = 1_000


def _checked(number: int, cells: list[Any], *, checked: bool) -> tuple[Stream | None, RowProblem | None]:
    values, checksums = cells[: len(Stream.__struct_fields__)], cells[len(Stream.__struct_fields__) :]
    try:
        texts = [value.decode() if isinstance(value, bytes) else value for value in values]
        stream = msgspec.convert(
            dict(zip(Stream.__struct_fields__, texts, strict=True)), Stream, strict=False
        )
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        return None, RowProblem(number, f"it cannot be read: {error}")
    if checked:
        for found, stored, of_head in (
            (_crc(stream), checksums[0], False),
            (_head_crc(stream), checksums[1], True),
        ):
            if found != stored:
                what = "its head's checksum" if of_head else "its checksum"
                text = f"{what} is {found:08x} and should be {_hex(stored)}"
                return stream, RowProblem(number, text, stream, of_head)
    return stream, None


def heads(connection: sqlite3.Connection) -> Heads:
    """The last checkpoint of the heads."""
    position, chain, crc = (
        log_store.read_meta(connection, key) for key in ("heads_position", "heads_chain", "heads_crc")
    )
    if position is None:
        return Heads()
    if not isinstance(position, int) or not isinstance(chain, int | None):
        return Heads(is_sound=False)
    # Logs of version 1 have no checksum of it.
    return Heads(position, chain, crc is None or crc == _checkpoint_crc(position, chain))


# --- writing, as a part of the caller's transaction ------------------------------------------------------


def insert(connection: sqlite3.Connection, stream: Stream) -> None:
    """A sequence, or another number of one, that is new."""
    connection.execute(
        f"INSERT INTO streams ({_COLUMNS}, crc, head_crc) VALUES ({_MARKS})",  # noqa: S608 - constants
        (*msgspec.structs.astuple(stream), _crc(stream), _head_crc(stream)),
    )


def write(connection: sqlite3.Connection, stream: Stream) -> None:
    """What is said of a sequence, except for its head: that stands as of the checkpoint."""
    sets = ", ".join(f"{name} = ?" for name in (*_SAID, "crc"))
    connection.execute(
        f"UPDATE streams SET {sets} WHERE id = ?",  # noqa: S608 - constants
        (*(getattr(stream, name) for name in _SAID), _crc(stream), stream.id),
    )


def write_heads(connection: sqlite3.Connection, streams: Iterable[Stream], position: int, chain: int) -> None:
    """Checkpoint what would otherwise have to be worked out from the runs up to `position`."""
    connection.executemany(
        "UPDATE streams SET last_seq = ?, digest = ?, head_crc = ? WHERE id = ?",
        [(stream.last_seq, stream.digest, _head_crc(stream), stream.id) for stream in streams],
    )
    log_store.write_meta(connection, "heads_position", position)
    log_store.write_meta(connection, "heads_chain", chain)
    log_store.write_meta(connection, "heads_crc", _checkpoint_crc(position, chain))


def upgrade(connection: sqlite3.Connection) -> list[RowProblem]:
    """Give a log of version 1 the checksums that it lacks; where a row cannot be read, nothing is changed."""
    if connection.execute("PRAGMA user_version").fetchone()[0] >= _CHECKED_VERSION:
        return []
    rows = read(connection)
    if rows.problems:
        return rows.problems
    connection.execute("BEGIN IMMEDIATE")
    for column in ("crc", "head_crc"):
        connection.execute(f"ALTER TABLE streams ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    connection.executemany(
        "UPDATE streams SET crc = ?, head_crc = ? WHERE id = ?",
        [(_crc(stream), _head_crc(stream), stream.id) for stream in rows.streams if stream is not None],
    )
    if (position := log_store.read_meta(connection, "heads_position")) is not None:
        log_store.write_meta(connection, "heads_crc", _checkpoint_crc(int(position), None))
    connection.execute(f"PRAGMA user_version = {_CHECKED_VERSION}")
    connection.execute("COMMIT")
    return []


# --- checksums -------------------------------------------------------------------------------------------


def _crc(stream: Stream) -> int:
    return _of(stream.id, *(getattr(stream, name) for name in _SAID))


def _head_crc(stream: Stream) -> int:
    return _of(stream.id, stream.last_seq, stream.digest)


def _checkpoint_crc(position: int, chain: int | None) -> int:
    return _of(position, chain)


def _of(*values: object) -> int:
    return zlib.crc32(msgspec.json.encode(values))


def _hex(stored: object) -> str:
    return f"{stored:08x}" if isinstance(stored, int) else repr(stored)
