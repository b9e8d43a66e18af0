"""Whether what another log, a backup or its own row holds is exactly the block that is damaged here. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.events.model import RelayedEvent
from huskies.gateway.store.blocks import Block, Run, checksum, decode_runs, encode_runs


class Damaged(msgspec.Struct, frozen=True):
    """What is known of a damaged block from the rows around it.

    `before` is the log's checksum with the block before it, `chain` the one that the next block continues.
    `runs` are its own, where they can still be read: they tell which events to look for. `ends`: what comes
    behind it says its `chain` and `count`; else they are its own, and no better than the rest of it.
    """

    position: int
    count: int
    before: int
    chain: int
    runs: tuple[Run, ...] = ()
    ends: bool = True


class Rebuilt(msgspec.Struct, frozen=True):
    """The block as it was, and its runs as they are stored."""

    block: Block
    runs_json: bytes


def rebuild(damaged: Damaged, runs: Sequence[Run], events: Sequence[RelayedEvent]) -> Rebuilt | str:
    """The block out of candidates; or why they are not what stood there."""
    held = sum(run.count for run in runs)
    if held != damaged.count or len(events) != damaged.count:
        return f"expected {damaged.count} events, got {len(events)} and runs of {held}"
    runs_json, events_json = encode_runs(runs), codec.encode_batch(events)
    chain = checksum(damaged.before, runs_json, events_json)
    if chain != damaged.chain:
        return f"their checksum is {chain:08x}, and the next block continues {damaged.chain:08x}"
    block = Block(
        damaged.position, damaged.count, damaged.before, chain, list(runs), events_json, list(events)
    )
    return Rebuilt(block, runs_json)


class Candidate(msgspec.Struct, frozen=True):
    """What a damaged block's own row may have been; `proven`: by its checksum, like anything else."""

    rebuilt: Rebuilt
    proven: bool


def candidate(damaged: Damaged, runs_json: bytes, events_json: bytes) -> Candidate | None:
    """The block out of its own row, where that fits what is known of it, or does with one bit turned back.

    A bit is looked for in the checksum, where nothing but the row itself says that, and in the runs; there
    is one at most that fits. Longer damage might be taken for such a bit, though hardly ever: so that alone
    proves nothing.
    """
    found = checksum(damaged.before, runs_json, events_json)
    difference = found ^ damaged.chain
    chain = damaged.chain
    if not damaged.ends and difference.bit_count() == 1:
        chain = found
    elif difference:
        place = _place(difference, len(runs_json), len(events_json))
        if place is None:
            return None
        at, bit = place
        runs_json = b"%b%c%b" % (runs_json[:at], runs_json[at] ^ bit, runs_json[at + 1 :])
    rebuilt = _as_stored(damaged, chain, runs_json, events_json)
    return None if rebuilt is None else Candidate(rebuilt, not difference)


def _as_stored(damaged: Damaged, chain: int, runs_json: bytes, events_json: bytes) -> Rebuilt | None:
    try:
        runs, events = decode_runs(runs_json), codec.decode_batch(events_json)
    except (msgspec.DecodeError, InvalidEventError):
        return None
    count = sum(run.count for run in runs)
    if encode_runs(runs) != runs_json or len(events) != count or (damaged.ends and count != damaged.count):
        return None
    block = Block(damaged.position, count, damaged.before, chain, runs, events_json, events)
    return Rebuilt(block, runs_json)


def _place(difference: int, length: int, behind: int) -> tuple[int, int] | None:
    """Which bit of `length` bytes makes such a difference to a CRC-32, with so many bytes behind them."""
    zeros = zlib.crc32(bytes(behind + 1))
    # What each bit of the last byte does to it; what one does a byte earlier follows from that.
    effects = [zlib.crc32(bytes([1 << bit]) + bytes(behind)) ^ zeros for bit in range(8)]
    for at in range(length - 1, -1, -1):
        if difference in effects:
            return at, 1 << effects.index(difference)
        effects = [effect >> 8 ^ _TABLE[effect & 0xFF] for effect in effects]
    return None


_TABLE: Final = [zlib.crc32(bytes([byte])) ^ zlib.crc32(b"\0") for byte in range(256)]
