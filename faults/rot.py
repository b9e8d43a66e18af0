"""Flips bits of a gateway's store, and cuts its files, below SQLite; and reads what it says of itself."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

Column = Literal["events", "runs", "chain"]
# What begins each block's events.
_EVENTS = b'[{"'


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
            runs, head = connection.execute(
                "SELECT runs, substr(events, 1, 60) FROM blocks WHERE position = ?", (position,)
            ).fetchone()
            assert head.startswith(_EVENTS), head
            # Its beginning, for the rest may lie in pages of its own.
            at = content.find(runs[:100] + head if len(runs) <= 100 else runs[:100])
            if at < 0:
                continue
            start, size = {
                "runs": (at, min(len(runs), 100)),
                "events": (at + len(runs), len(head)),
                # SQLite keeps a number in as few bytes as it takes; the last ones are always there.
                "chain": (at - 2, 2),
            }[column]
            if column == "events" and len(runs) > 100:
                continue
            flip(store, rng.randrange(start, start + size), rng)
            return Flipped(position, column, newest=position == positions[-1])
    return None


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
