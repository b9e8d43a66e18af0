"""What an outbox's file says, read as it lies there."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path


def carried(path: Path, *, with_acknowledged: bool = True) -> set[tuple[str, str, int]]:
    """The identities of what an outbox holds in its epoch, and can send again."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        head = db.execute("SELECT sled_id, epoch, base, acked FROM head").fetchone()
        if head is None:
            return set()
        sled_id, epoch, base, acked = head
        after = base if with_acknowledged else base + acked
        rows = db.execute("SELECT position FROM events WHERE position > ?", (after,))
        return {(sled_id, epoch, position - base) for (position,) in rows}


def recorded(path: Path) -> set[int]:
    """The numbers of the events that an outbox's file holds, whether acknowledged or not."""
    return _numbers(path, 0)


def unacknowledged(path: Path) -> set[int]:
    """The numbers of those that no gateway had acknowledged."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        [newest] = db.execute("SELECT base + acked FROM head").fetchone() or (0,)
    return _numbers(path, newest)


def epoch_of(path: Path) -> str:
    """The epoch that an outbox's file stands in; empty where nothing was recorded."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT epoch FROM head").fetchone()
    return "" if found is None else str(found[0])


def _numbers(path: Path, after: int) -> set[int]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT json FROM events WHERE position > ?", (after,)).fetchall()
    return {int(json.loads(text)["reason"].split()[1]) for (text,) in rows}


def unsettled(path: Path) -> str:
    """Why an outbox is not at rest; empty where it is."""
    if not path.exists():
        return "it has no outbox yet"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        head = db.execute("SELECT last_seq, acked, barrier FROM head").fetchone()
    if head is None:
        return "nothing was recorded yet"
    last_seq, acked, barrier = head
    if barrier is not None:
        return f"it stands before a barrier at {barrier}"
    return "" if acked >= last_seq else f"{last_seq - acked} of its events wait for an ack"
