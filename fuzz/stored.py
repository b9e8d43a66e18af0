"""A log on a disk that has rotted, or that someone wrote into: read, verified, and looked at at a start."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from fuzz.samples import EPOCH, EVENTS, KEY, OTHER_KEY
from fuzz.target import Check, Outcome, Target, always, refused, taken
from huskies.errors import CorruptLogError, StoreError
from huskies.gateway.store import log_store, stream_rows
from huskies.gateway.store.block_rows import blocks_after, blocks_before
from huskies.gateway.store.blocks import Batch, Block, Stream, decode_runs, encode_runs, pack
from huskies.gateway.store.damage import Damage
from huskies.gateway.store.tail import read_tail
from huskies.gateway.store.verify import LogCheck

_COLUMNS: Final = {
    "blocks": ("position", "count", "before", "chain", "runs", "events"),
    "streams": ("id", "sled_id", "epoch", "project", "last_seq", "digest", "base_seq", "crc", "head_crc"),
    "damaged": ("position", "last_position", "problem", "missing"),
    "meta": ("key", "value"),
}
_KEYS: Final = {"blocks": "position", "streams": "id", "damaged": "position", "meta": "key"}


def runs(data: bytes) -> Outcome:
    """A block's runs, which are read also where its checksum does not fit."""
    try:
        found = decode_runs(data)
    except msgspec.DecodeError as error:
        return refused(error)
    assert decode_runs(encode_runs(found)) == found
    return taken(f"{min(len(found), 3)} runs")


def _whole() -> bytes:
    """A log of three blocks and two sequences, as SQLite keeps it."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(log_store.SCHEMA + ";" + log_store.ADDED)
        db.execute(f"PRAGMA user_version = {log_store.VERSION}")
        streams = [Stream(1, KEY, EPOCH, "shop"), Stream(2, OTHER_KEY, EPOCH, "blog")]
        position, chain = 1, 0
        for first_seq in (1, 6, 11):
            batches = [Batch(stream, first_seq, 9, 0, list(EVENTS)) for stream in streams]
            for block, runs_json in pack(batches, position, chain):
                log_store.insert_block(db, block, runs_json)
                position, chain = block.last_position + 1, block.chain
        for stream in streams:
            stream.last_seq = 15
            stream_rows.insert(db, stream)
        stream_rows.write_heads(db, streams, position - 1, chain)
        db.execute("INSERT INTO damaged VALUES (11, 20, 'p', ?)", (b"[]",))
        db.commit()
        return db.serialize()


@contextmanager
def _log() -> Iterator[Check]:
    """Each line of an input changes one cell: which table, row and column, and what becomes of it."""
    whole = _whole()

    def check(data: bytes) -> Outcome:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            db.deserialize(whole)
            changed = sum(_change(db, line) for line in data.split(b"\n")[:8])
            return _read(db, changed)

    yield check


def _change(db: sqlite3.Connection, line: bytes) -> bool:
    try:
        wanted: Any = json.loads(line)
        table, row, column = wanted["table"], wanted["row"], wanted["column"]
        if column == "row":
            return db.execute(f"DELETE FROM {table} WHERE {_KEYS[table]} = ?", (row,)).rowcount > 0  # noqa: S608 - ours
        if column not in _COLUMNS[table]:
            return False
        value = wanted.get("value")
        if "flip" in wanted:
            value = _flipped(db, table, row, column, wanted["flip"])
        elif "bytes" in wanted:
            value = str(wanted["bytes"]).encode("utf-8", "surrogateescape")
        query = f"UPDATE {table} SET {column} = ? WHERE {_KEYS[table]} = ?"  # noqa: S608 - ours
        return db.execute(query, (value, row)).rowcount > 0
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, sqlite3.Error):
        # No change that can be made.
        return False


def _flipped(db: sqlite3.Connection, table: str, row: object, column: str, bit: int) -> object:
    query = f"SELECT {column} FROM {table} WHERE {_KEYS[table]} = ?"  # noqa: S608 - ours
    [value] = db.execute(query, (row,)).fetchone()
    if isinstance(value, bytes):
        at = bit // 8 % len(value)
        return value[:at] + bytes([value[at] ^ 1 << bit % 8]) + value[at + 1 :]
    return value ^ 1 << bit % 62


def _read(db: sqlite3.Connection, changed: int) -> Outcome:
    found = list(blocks_after(db, 0))
    _check_places(found)
    list(blocks_before(db, 1 << 40))
    sound = [block for block in found if block.damage is None]
    for block in sound:
        try:
            block.events()
        except CorruptLogError as error:
            return refused(error)
    problems = list(LogCheck(db).run())
    for problem in problems:
        str(problem.problem).encode()
    try:
        read_tail(db, Damage(quiet=True), Path("log.db"))
    except StoreError as error:
        return refused(error)
    return taken(f"{changed} changed, {len(sound)} of {len(found)}, {problems[:1]}")


def _check_places(blocks: list[Block]) -> None:
    """Nothing is shown twice, and nothing passed over in silence."""
    for earlier, later in itertools.pairwise(blocks):
        assert earlier.last_position + 1 == later.position, "a reader would miss something, or see it twice"


def _line(table: str, row: object, column: str, **change: object) -> bytes:
    return json.dumps({"table": table, "row": row, "column": column, **change}).encode()


TARGETS: Final = (
    Target(
        name="stored-runs",
        opened=always(runs),
        seeds=(b"[[1,1,5,9,0,77],[2,6,1,9,3,78]]", b"[]", b"[[1,1,1,1,1,1,[]]]"),
        words=(b"[1,1,1,1,1,1],", b',"\xff"', b"-1"),
    ),
    Target(
        name="stored-log",
        opened=_log,
        seeds=(
            _line("blocks", 11, "runs", flip=77),
            _line("blocks", 21, "events", flip=700) + b"\n" + _line("blocks", 11, "chain", value=3),
            _line("blocks", 1, "count", value=2) + b"\n" + _line("streams", 1, "last_seq", value=4),
            _line("damaged", 11, "missing", bytes='[{"sled_id":"a","epoch":"b","first_seq":1,"last_seq":2}]'),
            _line("meta", "heads_position", "value", value=20),
            _line("blocks", 11, "row"),
            _line("streams", 2, "head_crc", flip=3),
        ),
        words=(b'"blocks"', b'"streams"', b'"runs"', b'"events"', b'"flip":', b'"bytes":'),
        inputs=20_000,
        grows=False,
    ),
)
