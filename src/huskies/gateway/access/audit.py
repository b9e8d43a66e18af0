"""The audit: who made, used and revoked what, and every attempt that was refused. It holds no secret."""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from huskies.gateway.access.file import AccessFile

# What repeats itself within so long is one entry that counts: a flood of attempts fills no disk.
_SAME_MS: Final = 60_000
# The oldest go beyond so many.
ENTRIES_MAX: Final = 100_000
REFUSALS_MAX: Final = 10_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, `count` times within a minute from `at_ms` (Unix ms) on.

    `who` did `action` to `subject` from `address` (empty: on this machine); `outcome` is `ok`, or why not.
    """

    at_ms: int
    who: str
    action: str
    subject: str = ""
    outcome: str = "ok"
    address: str = ""
    count: int = 1


def note(file: AccessFile, *entries: Entry) -> None:
    """Keep these; what was refused over and over is counted."""
    with file.transaction(changes_rights=False) as db:
        for entry in entries:
            if not _counted(db, entry):
                db.execute(f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", _values(entry))  # noqa: S608 - constant
        # What strangers try pushes nothing out of what those did who may.
        for where, most in (("who = ''", REFUSALS_MAX), ("who <> ''", ENTRIES_MAX)):
            db.execute(
                f"DELETE FROM audit WHERE {where} AND id <= (SELECT id FROM audit WHERE {where}"  # noqa: S608 - constant
                " ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (most,),
            )


def newest(file: AccessFile, count: int) -> list[Entry]:
    """The newest entries, the oldest of them first."""
    rows = file.read(f"SELECT {_COLUMNS} FROM audit ORDER BY id DESC LIMIT ?", (count,))  # noqa: S608 - constant
    return [Entry(**{name: row[name] for name in Entry.__struct_fields__}) for row in reversed(rows)]


_COLUMNS: Final = ", ".join(Entry.__struct_fields__)
_SAME: Final = ("who", "action", "subject", "outcome", "address")


def _values(entry: Entry) -> tuple[object, ...]:
    return msgspec.structs.astuple(entry)


def _counted(db: sqlite3.Connection, entry: Entry) -> bool:
    """Whether it was added to one that says the same, and began not long ago."""
    where = " AND ".join(f"{name} = ?" for name in _SAME)
    values = (*(getattr(entry, name) for name in _SAME), entry.at_ms - _SAME_MS)
    found = db.execute(
        f"SELECT id FROM audit WHERE id > (SELECT max(id) FROM audit) - 100 AND {where}"  # noqa: S608 - constant
        " AND at_ms > ? ORDER BY id DESC LIMIT 1",
        values,
    ).fetchone()
    if found is None:
        return False
    db.execute("UPDATE audit SET count = count + ? WHERE id = ?", (entry.count, found["id"]))
    return True
