"""Reads the log's blocks, checks each, and puts another in the place of one that is damaged.

What is damaged is never given to anyone: for its positions there is a block without events that says what is
wrong (`Block.damage`), so that whoever walks the log neither stops at it nor skips it in silence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from huskies.gateway.store.blocks import Block, checksum, damaged_block, decode_runs
from huskies.gateway.store.log_store import first_position, typed
from huskies.gateway.store.neighbours import end_of_newest

_NUMBERS: Final = ", ".join(["position", *(typed(name) for name in ("count", "before", "chain"))])
_COLUMNS: Final = ", ".join([_NUMBERS, typed("runs", "blob"), typed("events", "blob")])
_CHAINS: Final = f"{typed('before')}, {typed('chain')}"


class Row(msgspec.Struct, frozen=True):
    """A block as it is stored, unchecked."""

    position: int
    count: int
    before: int
    chain: int
    runs: bytes
    events: bytes


def _row(found: tuple[Any, ...]) -> Row:
    """The row as its shape has it, also where a column had another type."""
    position, count, before, chain = (value or 0 for value in found[:4])
    runs, events = (value or b"" for value in found[4:])
    return Row(position, count, before, chain, runs, events)


def blocks_after(connection: sqlite3.Connection, position: int) -> Iterator[Block]:
    """The blocks that hold events beyond `position`, oldest first."""
    row = connection.execute(
        "SELECT position FROM blocks WHERE position <= ? ORDER BY position DESC LIMIT 1", (position + 1,)
    ).fetchone()
    start = position + 1 if row is None else row[0]
    # What lies before the oldest retained block was dropped; nothing else may be missing.
    next_position = max(start, first_position(connection))
    chain = _chain_before(connection, start)
    for block in _walk(connection, _rows(connection, start), next_position, chain):
        if block.last_position > position:
            yield block


def blocks_before(connection: sqlite3.Connection, position: int) -> Iterator[Block]:
    """The blocks that hold events before `position`, newest first."""
    later = _following(connection, position - 1)
    held: Block | None = None
    for row in _rows(connection, position - 1, forward=False):
        block = _checked(connection, row, later)
        if held is not None:
            yield _continued(connection, block, held)
        if later is not None and block.last_position + 1 < later.position:
            yield _hole(block.last_position + 1, later)
        held, later = block, row
    if held is not None:
        yield held


def block_at(connection: sqlite3.Connection, position: int) -> Block | None:
    """The block that begins at `position`."""
    for row in _rows(connection, position):
        if row.position == position:
            return _checked(connection, row, _following(connection, position))
        break
    return None


def row_at(connection: sqlite3.Connection, position: int) -> Row | None:
    """The block that is stored at `position`, unchecked."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM blocks WHERE position = ?",  # noqa: S608 - constant
        (position,),
    ).fetchone()
    return None if found is None else _row(found)


def _walk(
    connection: sqlite3.Connection, rows: Iterator[Row], next_position: int, chain: int | None
) -> Iterator[Block]:
    held: Row | None = None
    damage: str | None = None
    for row in rows:
        if held is not None:
            # Where a damaged block ends is known by where the next begins.
            yield damaged_block(held.position, row.position - 1, held.before, row.before, damage or "")
            next_position, chain, held = row.position, None, None
        if row.position != next_position:
            yield _hole(next_position, row)
            chain = None
        damage = _damage(row, chain)
        if damage is None:
            block = _sound(row)
            yield block
            next_position, chain = block.last_position + 1, block.chain
        else:
            held = row
    if held is not None:
        yield _last_damaged(connection, held, damage or "")


def _checked(connection: sqlite3.Connection, row: Row, later: Row | None) -> Block:
    damage = _damage(row, None)
    if damage is None:
        return _sound(row)
    if later is None:
        return _last_damaged(connection, row, damage)
    return damaged_block(row.position, later.position - 1, row.before, later.before, damage)


def _continued(connection: sqlite3.Connection, earlier: Block, later: Block) -> Block:
    """The later block, damaged where it does not continue the other, which is sound."""
    if (
        earlier.damage is None
        and later.damage is None
        and earlier.last_position + 1 == later.position
        and later.before != earlier.chain
        and _chain_before(connection, earlier.position) in {None, earlier.before}
    ):
        return damaged_block(later.position, later.last_position, later.before, later.chain, _DISCONNECTED)
    return later


def _chain_before(connection: sqlite3.Connection, position: int) -> int | None:
    """The checksum that the block at `position` has to continue; None where that is not known."""
    found = connection.execute(
        f"SELECT {_CHAINS} FROM blocks WHERE position < ? ORDER BY position DESC LIMIT 2",  # noqa: S608 - constant
        (position,),
    ).fetchall()
    # One that does not itself continue what is before it says nothing about the next.
    if not found or (len(found) > 1 and found[0][0] != found[1][1]):
        return None
    chain: int | None = found[0][1]
    return chain


_DISCONNECTED: Final = "it does not continue the block before it"


def _damage(row: Row, chain: int | None) -> str | None:
    found = checksum(row.before, row.runs, row.events)
    if found != row.chain:
        return f"its checksum is {found:08x} and should be {row.chain:08x}"
    if chain is not None and row.before != chain:
        return _DISCONNECTED
    try:
        count = sum(run.count for run in decode_runs(row.runs))
    except msgspec.DecodeError as error:
        return f"its runs cannot be read: {error}"
    return None if count == row.count else f"it holds {count} events and says {row.count}"


def _sound(row: Row) -> Block:
    return Block(row.position, row.count, row.before, row.chain, decode_runs(row.runs), row.events)


def _last_damaged(connection: sqlite3.Connection, row: Row, damage: str) -> Block:
    last_position = end_of_newest(connection, row.position, row.count, row.runs)
    return damaged_block(row.position, last_position, row.before, row.chain, damage)


def _hole(position: int, later: Row) -> Block:
    damage = f"nothing is there before {later.position}"
    return damaged_block(position, later.position - 1, later.before, later.before, damage)


def _following(connection: sqlite3.Connection, position: int) -> Row | None:
    found = connection.execute(
        f"SELECT {_NUMBERS}, x'', x'' FROM blocks WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608 - constant
        (position,),
    ).fetchone()
    return None if found is None else _row(found)


# --- pages of the file that SQLite cannot read -----------------------------------------------------------


def _rows(connection: sqlite3.Connection, start: int, *, forward: bool = True) -> Iterator[Row]:
    """Rows from `start` on; where the file itself is damaged, those beyond the damage."""
    query = _query(forward=forward, limit=-1)
    at: int | None = start
    while at is not None:
        try:
            for found in connection.execute(query, (at,)):
                row = _row(found)
                at = row.position + (1 if forward else -1)
                yield row
        except sqlite3.DatabaseError as error:
            if not _is_corrupt(error):
                raise
            at = _beyond(connection, at, forward=forward)
        else:
            return


def _query(*, forward: bool, limit: int) -> str:
    where = "position >= ? ORDER BY position" if forward else "position <= ? ORDER BY position DESC"
    return f"SELECT {_COLUMNS} FROM blocks WHERE {where} LIMIT {limit}"  # noqa: S608 - constant


def _beyond(connection: sqlite3.Connection, unreadable: int, *, forward: bool) -> int | None:
    """The place nearest to `unreadable` from which rows can be read again; None where there is none."""
    way = 1 if forward else -1
    query = _query(forward=forward, limit=1)
    near, step = 0, 1
    while True:
        found = _try(connection, query, unreadable + way * step)
        if found is None:
            return None
        if found:
            break
        near, step = step, step * 2
    while step - near > 1:
        middle = (near + step) // 2
        if _try(connection, query, unreadable + way * middle):
            step = middle
        else:
            near = middle
    return unreadable + way * step


def _try(connection: sqlite3.Connection, query: str, at: int) -> bool | None:
    """Whether a row can be read from here; None where there is none any more."""
    if not 0 <= at < 1 << 62:
        return None
    try:
        return connection.execute(query, (at,)).fetchone() is not None or None
    except sqlite3.DatabaseError as error:
        if not _is_corrupt(error):
            raise
        return False


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT
