"""The register of what is damaged in the log: found at start or by whoever reads, said once, kept."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from huskies.gateway.store import stream_rows
from huskies.gateway.store.block_rows import blocks_after, row_at
from huskies.gateway.store.blocks import Block, Run, Stream, damaged_block, decode_runs
from huskies.gateway.store.log_store import first_position, runs_after, typed
from huskies.gateway.store.neighbours import begin_of_later, chain_of_earlier
from huskies.gateway.store.repair import Damaged
from huskies.gateway.store.streams import MissingRange, Streams
from huskies.protocol.vectors import Origin

_log = logging.getLogger("huskies.log")
_missing = msgspec.json.Decoder(list[MissingRange])


class DamagedRange(msgspec.Struct, frozen=True):
    """Positions that cannot be served, and which events stood there.

    `missing` is empty where that cannot be told.
    """

    position: int
    last_position: int
    problem: str
    missing: list[MissingRange]

    def as_block(self) -> Block:
        """What readers of these positions are given."""
        return damaged_block(self.position, self.last_position, 0, 0, self.problem)


class Damage:
    """What is known to be damaged; used from every thread that reads the log.

    `found` is called, in the thread that read it, with what was not known before. `quiet`: nothing is logged.
    """

    def __init__(self, found: Callable[[DamagedRange], None] | None = None, *, quiet: bool = False) -> None:
        self._found = found
        self._quiet = quiet
        self._lock = threading.Lock()
        self._ranges: dict[int, DamagedRange] = {}
        # What was damaged when it was dropped, and held events of which the log cannot say so otherwise.
        self._lost: dict[int, DamagedRange] = {}

    def __len__(self) -> int:
        return len(self._ranges)

    def ranges(self) -> list[DamagedRange]:
        """Everything that is there and damaged, oldest first."""
        with self._lock:
            return sorted(self._ranges.values(), key=lambda each: each.position)

    def at(self, position: int) -> DamagedRange | None:
        """The damaged block that begins at `position`."""
        return self._ranges.get(position)

    def within(self, first: int, last: int) -> list[Block]:
        """What is damaged between these positions, oldest first, as readers are given it."""
        return [e.as_block() for e in self.ranges() if e.position <= last and e.last_position >= first]

    def watch(self, blocks: Iterable[Block], connection: sqlite3.Connection) -> Iterator[Block]:
        """Pass blocks on, and note those that are damaged; what is known to be is not passed as sound."""
        for block in blocks:
            known = self._ranges.get(block.position)
            if block.damage is not None:
                self.note(block, connection)
                yield block
            elif known is not None:
                yield damaged_block(
                    block.position, block.last_position, block.before, block.chain, known.problem
                )
            else:
                yield block

    def note(self, block: Block, connection: sqlite3.Connection) -> None:
        """Register a damaged block and say so, once."""
        if block.position in self._ranges:
            return
        missing = find_missing(connection, block)
        found = DamagedRange(block.position, block.last_position, block.damage or "", missing)
        if not self.add(found) or self._quiet:
            return
        _log.critical(
            "the log is damaged at positions %d to %d: %s; these events are shown to no one. "
            "`huskies verify` says more; a backup or another gateway may hold them",
            found.position,
            found.last_position,
            found.problem,
            extra={"position": found.position, "streams": len(missing)},
        )
        if self._found is not None:
            self._found(found)

    def add(self, found: DamagedRange) -> bool:
        """Register what is known already; whether it is news."""
        with self._lock:
            if found.position in self._ranges:
                return False
            self._ranges[found.position] = found
            return True

    def forget(self, position: int) -> None:
        """It was repaired."""
        with self._lock:
            self._ranges.pop(position, None)

    def lose(self, found: DamagedRange) -> None:
        """It was dropped as it was: what it held, as far as `missing` says, is not there any more."""
        with self._lock:
            self._ranges.pop(found.position, None)
            if found.missing:
                self._lost[found.position] = found

    def settled(self, streams: Streams) -> list[int]:
        """Forget, and return, what was lost of which the log itself says by now that it is not retained."""
        gone = [
            each.position
            for each in self._lost.values()
            if all(_is_dropped(missing, streams) for missing in each.missing)
        ]
        with self._lock:
            for position in gone:
                del self._lost[position]
        return gone

    def hidden(self, origin: Origin, first_seq: int, last_seq: int) -> set[int]:
        """Which of these events of a sequence may stand, or stood, where the log is or was damaged."""
        hidden: set[int] = set()
        with self._lock:
            every = [*self._ranges.values(), *self._lost.values()]
        for each in every:
            if not each.missing:
                return set(range(first_seq, last_seq + 1))
            for missing in each.missing:
                if (missing.sled_id, missing.epoch) == origin:
                    first, last = max(first_seq, missing.first_seq), min(last_seq, missing.last_seq)
                    hidden.update(range(first, last + 1))
        return hidden


def _is_dropped(missing: MissingRange, streams: Streams) -> bool:
    origin = missing.sled_id, missing.epoch
    return not any(streams.parts(origin, missing.first_seq, missing.last_seq))


# --- in the log's file -----------------------------------------------------------------------------------


def save(connection: sqlite3.Connection, found: DamagedRange) -> None:
    """Keep it for the next start; part of the caller's transaction."""
    connection.execute(
        "INSERT OR REPLACE INTO damaged VALUES (?, ?, ?, ?)",
        (found.position, found.last_position, found.problem, msgspec.json.encode(found.missing)),
    )


def remove(connection: sqlite3.Connection, position: int) -> None:
    """It is damaged no more; part of the caller's transaction."""
    connection.execute("DELETE FROM damaged WHERE position = ?", (position,))


def load(connection: sqlite3.Connection, damage: Damage) -> None:
    """Register what was found before this start and is damaged still."""
    first = first_position(connection)
    for found in kept(connection):
        if found.last_position < first:
            damage.lose(found)
        elif is_sound(connection, found):
            remove(connection, found.position)
        else:
            damage.add(found)


def kept(connection: sqlite3.Connection) -> list[DamagedRange]:
    """What was saved; a row that is damaged itself says of its position alone that it is damaged."""
    rows = connection.execute(
        f"SELECT position, {typed('last_position')}, CAST(problem AS BLOB), {typed('missing', 'blob')} "  # noqa: S608 - constants
        "FROM damaged"
    ).fetchall()
    return [
        DamagedRange(
            position, last or position, (problem or b"").decode(errors="replace"), _readable(missing)
        )
        for position, last, problem, missing in rows
    ]


def _readable(missing: bytes | None) -> list[MissingRange]:
    try:
        return _missing.decode(missing or b"")
    except msgspec.DecodeError:
        return []


def is_sound(connection: sqlite3.Connection, found: DamagedRange) -> bool:
    """Whether what was found damaged is not so, or no more."""
    block = next(blocks_after(connection, found.position - 1), None)
    return (
        block is not None
        and block.damage is None
        and (block.position, block.last_position) == (found.position, found.last_position)
    )


def drop(connection: sqlite3.Connection, damage: Damage, last_position: int, streams: Streams) -> None:
    """What is up to here was dropped: what was damaged of it is so no more, but lost.

    What it held stays known as missing, until the log says of later events too that they were dropped. Part
    of the caller's transaction.
    """
    for each in damage.ranges():
        if each.last_position > last_position:
            continue
        missing = each.missing or _between_neighbours(connection, each.as_block(), streams.rows)
        lost = msgspec.structs.replace(each, missing=missing)
        damage.lose(lost)
        if missing:
            save(connection, lost)
        else:
            remove(connection, each.position)
    for position in damage.settled(streams):
        remove(connection, position)


def describe(
    connection: sqlite3.Connection, found: DamagedRange, streams: Sequence[Stream | None]
) -> Damaged:
    """What is known of a damaged block from the rows around it, and from the checkpoint of the heads."""
    own = row_at(connection, found.position)
    earlier = chain_of_earlier(connection, found.position)
    later = begin_of_later(connection, found.position)
    # The rows beside it are as good as sound; its own are not, and are taken where there is nothing else.
    before = earlier if earlier is not None else own.before if own is not None else 0
    if found.position == 1:
        before = 0
    last_position, chain, ends = found.last_position, own.chain if own is not None else 0, True
    heads = stream_rows.heads(connection)
    if later is not None and later[1] is not None:
        last_position, chain = later[0] - 1, later[1]
    elif later is not None:
        # The other is damaged too: it says where this one ends, and not with which checksum.
        last_position, ends = later[0] - 1, False
    elif heads.is_sound and heads.chain is not None and heads.position >= found.position:
        last_position, chain = heads.position, heads.chain
    else:
        ends = False
    block = damaged_block(found.position, last_position, before, chain, found.problem)
    runs = plausible_runs(connection, block, streams)
    return Damaged(found.position, block.count, before, chain, tuple(runs or ()), ends)


# --- which events stood there ----------------------------------------------------------------------------


def plausible_runs(
    connection: sqlite3.Connection, block: Block, streams: Sequence[Stream | None]
) -> list[Run] | None:
    """The runs of a damaged block, where they can be read and account for all of it."""
    row = row_at(connection, block.position)
    if row is None:
        return None
    try:
        runs = decode_runs(row.runs)
    except msgspec.DecodeError:
        return None
    known = all(0 < run.stream_id < len(streams) and streams[run.stream_id] is not None for run in runs)
    return runs if known and sum(run.count for run in runs) == block.count else None


def find_missing(connection: sqlite3.Connection, block: Block) -> list[MissingRange]:
    """Which events a damaged block held: by its runs, else by what is missing between the runs around it."""
    rows = stream_rows.read(connection)
    if rows.problems:
        # Whose events they were cannot be told, then.
        return []
    streams = rows.streams
    runs = plausible_runs(connection, block, streams)
    if runs is None:
        return _between_neighbours(connection, block, streams)
    return [_range(streams[run.stream_id], run.first_seq, run.last_seq) for run in runs]


def _between_neighbours(
    connection: sqlite3.Connection, block: Block, streams: Sequence[Stream | None]
) -> list[MissingRange]:
    found: list[MissingRange] = []
    # For each stream the seq up to which it was seen, and whether that was before the damaged block.
    seen = {s.id: max(s.base_seq, s.dropped_seq) for s in streams if s is not None}
    passed: set[int] = set()
    for position, runs_json in runs_after(connection, 0):
        try:
            runs = decode_runs(runs_json) if not block.position <= position <= block.last_position else []
        except msgspec.DecodeError:
            continue
        # What is damaged as well may name sequences that are not there.
        for run in (run for run in runs if run.stream_id in seen):
            if position > block.last_position and run.stream_id not in passed:
                passed.add(run.stream_id)
                if run.first_seq > seen[run.stream_id] + 1:
                    stream = streams[run.stream_id]
                    found.append(_range(stream, seen[run.stream_id] + 1, run.first_seq - 1))
            seen[run.stream_id] = run.last_seq
    found.extend(
        _range(stream, seen[stream.id] + 1, stream.last_seq)
        for stream in streams
        if stream is not None and stream.id not in passed and stream.last_seq > seen[stream.id]
    )
    return found


def _range(stream: Stream | None, first_seq: int, last_seq: int) -> MissingRange:
    assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
    return MissingRange(stream.sled_id, stream.epoch, first_seq, last_seq)
