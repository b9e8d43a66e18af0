"""Flips bits of a gateway's store, and cuts its files, below SQLite; and reads what it says of itself."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

Column = Literal["events", "runs", "chain"]
# What an event says: no two say the same.
_VALUE = re.compile(rb'"sled\d+ \d+ \d+"')
# So much of a row lies in one piece, however long it is.
_LOCAL = 100


class Flipped(NamedTuple):
    """A bit of a block's column; `newest`: there is no block behind it."""

    position: int
    column: Column
    newest: bool


def flip_block(store: Path, column: Column, rng: random.Random, *, older: bool = False) -> Flipped | None:
    """A bit of a column of some block that lies in the main file; None where there is none.

    `older`: not where a commit that comes next would write over it.
    """
    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        positions = [row[0] for row in connection.execute("SELECT position FROM blocks ORDER BY position")]
        order = positions[: max(1, len(positions) // 2)] if older else list(positions)
        rng.shuffle(order)
        content = store.read_bytes()
        for position in order:
            runs, events = connection.execute(
                "SELECT runs, events FROM blocks WHERE position = ?", (position,)
            ).fetchone()
            place = _place(content, column, runs, events)
            if place is not None:
                flip(store, rng.choice(place), rng)
                return Flipped(position, column, newest=position == positions[-1])
    return None


def _place(content: bytes, column: Column, runs: bytes, events: bytes) -> range | None:
    """Where a part of a block's column lies in the file; None where it was cut up, or lies in the WAL."""
    if column == "events":
        for value in _VALUE.findall(events):
            if (at := content.find(value)) >= 0:
                return range(at, at + len(value))
        return None
    # The rest may lie in pages of its own.
    part = runs[:_LOCAL]
    if (at := content.find(part)) < 0:
        return None
    # In front of it stands the checksum, in as few bytes as it takes; the last ones are always there.
    return range(at, at + len(part)) if column == "runs" else range(at - 2, at)


def flip(path: Path, at: int, rng: random.Random) -> None:
    """One bit of one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << rng.randrange(8))]))


def flip_anywhere(path: Path, rng: random.Random) -> None:
    flip(path, rng.randrange(path.stat().st_size), rng)


def cut(path: Path, rng: random.Random) -> int:
    """Its tail, up to a third of it; says how many bytes."""
    size = path.stat().st_size
    lost = rng.randint(1, max(1, size // 3))
    with path.open("r+b") as file:
        file.truncate(size - lost)
    return lost
