"""Reads single streams out of the log: their events and their digests, by seq."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from huskies.errors import StoreError
from huskies.events.model import RelayedEvent
from huskies.gateway.store.block_rows import block_at
from huskies.gateway.store.blocks import Block, Run, Stream, extend_digest
from huskies.gateway.store.damage import Damage
from huskies.gateway.store.log_store import runs_after
from huskies.gateway.store.streams import Streams
from huskies.protocol.vectors import Origin

# What came over several ways at once is compared with what was just committed, and needs no disk for it.
_RECENT_EVENTS: Final = 20_000
_RECENT_BLOCKS: Final = 500


class Lookup(Protocol):
    """Finds blocks by stream; only as fresh as it says."""

    def run_positions(self, stream_id: int, first_seq: int, last_seq: int) -> tuple[list[int], int]:
        """Positions of blocks that may hold these, and the position up to which that is the whole truth."""


class HeldRun(NamedTuple):
    """Consecutive events of a sequence, and when the first gateway received them."""

    first_seq: int
    received_ms: int
    events: list[RelayedEvent]


class StreamReader:
    """Reads over `connection`, in the thread that it belongs to."""

    def __init__(
        self, connection: sqlite3.Connection, lookup: Lookup, streams: Streams, damage: Damage
    ) -> None:
        self._connection = connection
        self._damage = damage
        self._lookup = lookup
        self._streams = streams
        self._recent: deque[Block] = deque()
        self._recent_events = 0
        # From which seq on a stream's runs may be among them.
        self._recent_from: dict[int, int] = {}

    def appended(self, block: Block) -> None:
        """The log now ends with this block."""
        self._recent.append(block)
        self._recent_events += block.count
        for run in block.runs:
            self._recent_from.setdefault(run.stream_id, run.first_seq)
        while self._recent_events > _RECENT_EVENTS or len(self._recent) > _RECENT_BLOCKS:
            oldest = self._recent.popleft()
            self._recent_events -= oldest.count
            for run in oldest.runs:
                self._recent_from[run.stream_id] = run.last_seq + 1

    def events(self, origin: Origin, first_seq: int, last_seq: int) -> dict[int, RelayedEvent]:
        """What the log retains of a sequence between these, by seq; raises `StoreError`.

        What stands where the log is damaged is left out.
        """
        held: dict[int, RelayedEvent] = {}
        for run in self.runs(origin, first_seq, last_seq):
            held.update(enumerate(run.events, run.first_seq))
        return held

    def forgotten(self, origin: Origin, first_seq: int, last_seq: int) -> dict[int, RelayedEvent]:
        """What is forgotten of these and is in the log still, as far as that is found without a search."""
        held: dict[int, RelayedEvent] = {}
        for stream, first, last in self._streams.forgotten_parts(origin, first_seq, last_seq):
            for block, run, start in self._runs(stream, first, last, search=False):
                events = enumerate(block.events()[start : start + run.count], run.first_seq)
                held.update((seq, event) for seq, event in events if first <= seq <= last)
        return held

    def runs(self, origin: Origin, first_seq: int, last_seq: int) -> list[HeldRun]:
        """The same, in whole runs: some of it may lie outside, or come twice."""
        found: list[HeldRun] = []
        for stream, first, last in self._streams.parts(origin, first_seq, last_seq):
            wanted = self._readable(origin, first, last)
            held: set[int] = set()
            for block, run, start in self._runs(stream, first, last):
                if held >= wanted:
                    break
                events = block.events()[start : start + run.shown(stream)]
                held.update(range(run.first_seq, run.first_seq + len(events)))
                found.append(HeldRun(run.first_seq, run.received_ms, events))
            if missing := (wanted & self._readable(origin, first, last)) - held:
                raise StoreError(f"the log ought to hold seq {min(missing)} of sled {origin[0]} and does not")
        return found

    def digest(self, origin: Origin, seq: int) -> int | None:
        """The digest of a sequence up to `seq`; None where the log does not hold, or not retain, that."""
        if seq == 0:
            return 0
        for stream, _, _ in self._streams.parts(origin, seq, seq):
            if seq == stream.last_seq and stream.cut_seq is None:
                return stream.digest
            if not self._readable(origin, seq, seq):
                return None
            for block, run, start in self._runs(stream, seq, seq):
                return self._digest_within(stream, block, run, start, seq)
        return self._noted_digest(origin, seq)

    def _readable(self, origin: Origin, first_seq: int, last_seq: int) -> set[int]:
        return set(range(first_seq, last_seq + 1)) - self._damage.hidden(origin, first_seq, last_seq)

    def _digest_within(self, stream: Stream, block: Block, run: Run, start: int, seq: int) -> int | None:
        if run.last_seq == seq:
            return run.digest
        before = self._digest_before(stream, run)
        if before is None:
            return None
        parts = block.event_parts()[start : start + seq + 1 - run.first_seq]
        return extend_digest(before, b",".join(bytes(part) for part in parts))

    def _digest_before(self, stream: Stream, run: Run) -> int | None:
        """The digest with the run before this one of the same number, or with its base."""
        before = run.first_seq - 1
        if before == stream.base_seq:
            return stream.base_digest
        for _, earlier, _ in self._runs(stream, before, before):
            return earlier.digest
        return self._noted_digest(stream.origin, before)

    def _noted_digest(self, origin: Origin, seq: int) -> int | None:
        for stream in self._streams.numbers(origin):
            if seq == stream.base_seq:
                return stream.base_digest
            if seq == stream.dropped_seq:
                return stream.dropped_digest
        return None

    def _runs(
        self, stream: Stream, first_seq: int, last_seq: int, *, search: bool = True
    ) -> Iterator[tuple[Block, Run, int]]:
        """The runs of a number that hold some of these, each with its block and its place in it.

        The same may come more than once. `search`: the whole log, if they are found nowhere else.
        """
        for block in self._blocks(stream, first_seq, last_seq, search=search):
            start = 0
            for run in block.runs:
                if run.stream_id == stream.id and run.first_seq <= last_seq and run.last_seq >= first_seq:
                    yield block, run, start
                start += run.count

    def _blocks(self, stream: Stream, first_seq: int, last_seq: int, *, search: bool) -> Iterator[Block]:
        if last_seq >= self._recent_from.get(stream.id, last_seq + 1):
            yield from reversed(self._recent)
        indexed, known_to = self._lookup.run_positions(stream.id, first_seq, last_seq)
        yield from self._blocks_at(indexed)
        # The index follows the log; what it has not seen yet is looked through. Should it ever lack what it
        # ought to know, the whole log is: taking what is held for something else would store it twice.
        for after in (known_to, 0) if search else (known_to,):
            yield from self._blocks_at(self._positions(stream, after))

    def _blocks_at(self, positions: Sequence[int]) -> Iterator[Block]:
        for position in positions:
            block = block_at(self._connection, position)
            if block is not None and block.damage is not None:
                self._damage.note(block, self._connection)
            elif block is not None:
                yield block

    def _positions(self, stream: Stream, after: int) -> list[int]:
        mark = f"[{stream.id},".encode()
        return [position for position, runs_json in runs_after(self._connection, after) if mark in runs_json]
