"""Cursors: positions in one gateway's log, from which a reader resumes.

A cursor carries the log's id, the position of the event it names (1 for the first), and the checksum that the
log had reached with that event's block. A log that was restored from a backup and then went another way has
another checksum at the same position, so an older cursor is recognised without anyone having to say that the
log was restored.
"""

from __future__ import annotations

import re

import msgspec

from huskies.errors import CursorError

_FORM = re.compile(r"([0-9a-f]{8})-([0-9]{1,19})-([0-9a-f]{8})")


class Cursor(msgspec.Struct, frozen=True):
    """The event at `position`, and everything before it, has been read."""

    log_id: str
    position: int
    chain: int

    def __str__(self) -> str:
        return f"{self.log_id}-{self.position}-{self.chain:08x}"


def parse(text: str) -> Cursor:
    """A cursor from its text; raises `CursorError` where it is none."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise CursorError(f"expected a cursor as this gateway gives them out, or 0; got {text[:64]!r}")
    return Cursor(match[1], int(match[2]), int(match[3], 16))
