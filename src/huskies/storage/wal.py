"""Finds commits in SQLite's WAL that SQLite itself would leave out without a word.

SQLite takes a WAL whose checksums stop holding for one that ends there: right for what a crash left half
written, and wrong for what was flushed and damaged later. The two can be told apart: a commit is flushed
before the next is begun, so of those that a crash leaves half written there is one, the last.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from huskies.storage.sqlite import open_reader

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">4I8x")
_MAGIC: Final = 0x377F0682
# The header of the index beside the WAL: how many frames count is its fifth number, in the machine's order.
_INDEX: Final = struct.Struct("=16xI")
_MOST_FRAMES: Final = 1 << 32


class WalDamage(msgspec.Struct, frozen=True):
    """`lost` commits at the end of a WAL of which SQLite reads `frames`; `proven`: a crash is no excuse."""

    frames: int
    lost: int
    proven: bool


def wal_path(store: Path) -> Path:
    """Where the WAL of a store lies."""
    return store.with_name(f"{store.name}-wal")


def find_damage(store: Path) -> WalDamage | None:
    """What of the store's WAL would be left out; changes nothing. To be asked before the store is opened."""
    wal = wal_path(store)
    if not wal.is_file() or wal.stat().st_size <= _HEADER.size:
        return None
    commits = _commits(wal)
    frames = _frames_read(store)
    if commits is None:
        return WalDamage(0, 1, proven=True)
    lost = sum(number > frames for number in commits)
    return WalDamage(frames, lost, proven=lost > 1) if lost else None


def _commits(wal: Path) -> list[int] | None:
    """The numbers of the frames that end a commit, as they are marked; None where the header is damaged."""
    with wal.open("rb") as file:
        header = file.read(_HEADER.size)
        magic, _, page_size, _, *salts, _, _ = _HEADER.unpack(header)
        if magic & ~1 != _MAGIC or not _header_holds(header, big_endian=bool(magic & 1)):
            return None
        commits: list[int] = []
        for number in range(1, _MOST_FRAMES):
            file.seek(_HEADER.size + (number - 1) * (_FRAME.size + page_size))
            frame = file.read(_FRAME.size)
            if len(frame) < _FRAME.size:
                break
            _, pages, *frame_salts = _FRAME.unpack(frame)
            if frame_salts != salts:
                # From before the WAL was begun anew; or damaged just here, where what follows tells.
                if not _goes_on(file.read(page_size + _FRAME.size)[page_size:], salts):
                    break
                continue
            if pages:
                commits.append(number)
    return commits


def _goes_on(frame: bytes, salts: list[int]) -> bool:
    return len(frame) == _FRAME.size and list(_FRAME.unpack(frame)[2:]) == salts


def _header_holds(header: bytes, *, big_endian: bool) -> bool:
    numbers = struct.unpack(">6I" if big_endian else "<6I", header[:24])
    first = second = 0
    for one, other in zip(numbers[::2], numbers[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return (first, second) == _HEADER.unpack(header)[6:]


def _frames_read(store: Path) -> int:
    """How many frames of the WAL SQLite takes for good."""
    # Reading makes the index; a connection that only reads neither moves the WAL nor removes it.
    with closing(open_reader(store)) as reader:
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.Error:
            # Whoever opens it to write says what is wrong.
            return _MOST_FRAMES
        index = store.with_name(f"{store.name}-shm").read_bytes()[: _INDEX.size]
        return int(_INDEX.unpack(index)[0]) if len(index) == _INDEX.size else _MOST_FRAMES
