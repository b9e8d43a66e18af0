"""The log's register of sequences: under which numbers each `(sled_id, epoch)` stands, and how far.

Changes happen in the writer's thread, within its transaction; the event loop only reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec

from huskies.gateway.store import stream_rows
from huskies.gateway.store.blocks import Run, Stream
from huskies.protocol.vectors import Origin, VersionVector


class MissingRange(msgspec.Struct, frozen=True):
    """Events of a stream from `first_seq` to `last_seq`, of which something is to be said."""

    sled_id: str
    epoch: str
    first_seq: int
    last_seq: int


class Forgotten(NamedTuple):
    """Up to which seq each sequence of a project is forgotten, and how many events were shown until then."""

    seqs: dict[Origin, int]
    events: int


class Streams:
    """All sequences of a log; `rows` is indexed by number (numbers begin at 1) and only grows."""

    def __init__(self, rows: list[Stream | None]) -> None:
        self.rows = rows
        # Counts what is said of sequences beyond their events, so that others are told of it.
        self.news = 0
        # Counts what was dropped of sequences.
        self.drops = 0
        self._numbers: dict[Origin, list[Stream]] = {}
        self._projects: dict[str, str] = {}
        for stream in rows:
            if stream is not None:
                self._numbers.setdefault(stream.origin, []).append(stream)
                self._projects.setdefault(stream.sled_id, stream.project)

    def live(self, origin: Origin) -> Stream | None:
        """The number under which the sequence goes on."""
        numbers = self._numbers.get(origin)
        return None if numbers is None else numbers[-1]

    def numbers(self, origin: Origin) -> list[Stream]:
        """All numbers that the sequence stands under, the older first."""
        return self._numbers.get(origin, [])

    def all_live(self) -> list[Stream]:
        """For each sequence the number under which it goes on."""
        return [numbers[-1] for numbers in list(self._numbers.values())]

    def owner(self, sled_id: str, project: str) -> str:
        """The project that the sled belongs to: this one, where it is new."""
        return self._projects.setdefault(sled_id, project)

    def heads(self) -> VersionVector:
        """How much of each sequence the log holds."""
        return VersionVector({stream.origin: stream.last_seq for stream in self.all_live()})

    def parts(self, origin: Origin, first_seq: int, last_seq: int) -> Iterator[tuple[Stream, int, int]]:
        """What the log retains and shows of these: under which number, from which seq to which."""
        for stream in self._numbers.get(origin, []):
            first = max(first_seq, stream.base_seq + 1, stream.dropped_seq + 1)
            last = min(last_seq, stream.shown_seq)
            if first <= last:
                yield stream, first, last

    def forgotten_parts(
        self, origin: Origin, first_seq: int, last_seq: int
    ) -> Iterator[tuple[Stream, int, int]]:
        """What is forgotten of these, and may stand in the log still, as `parts` has it."""
        numbers = self._numbers.get(origin, [])
        for stream, following in pairwise(numbers[: _forgotten(numbers) + 1]):
            first = max(first_seq, stream.base_seq + 1)
            last = min(last_seq, stream.last_seq, following.base_seq)
            if first <= last:
                yield stream, first, last

    def missing(self) -> dict[str, list[MissingRange]]:
        """For each project, what was recorded and neither came nor will."""
        found: dict[str, list[MissingRange]] = {}
        for numbers in list(self._numbers.values()):
            count = _forgotten(numbers)
            known = numbers[count:]
            live, end = known[-1], known[0].base_seq if count else 0
            for stream in known:
                _add(found, stream, end + 1, stream.base_seq)
                end = max(end, stream.shown_seq)
            if live.closed_seq is not None and not _is_forgotten(numbers):
                _add(found, live, live.last_seq + 1, live.closed_seq)
        return found

    def quarantined(self) -> dict[str, list[MissingRange]]:
        """For each project, what came and lost against another branch of the same sequence."""
        found: dict[str, list[MissingRange]] = {}
        for numbers in list(self._numbers.values()):
            for stream in numbers[_forgotten(numbers) :]:
                if stream.cut_seq is not None:
                    _add(found, stream, stream.cut_seq + 1, stream.last_seq)
        return found

    def known(self, origin: Origin) -> list[Stream]:
        """The numbers of the sequence that were not forgotten, the older first."""
        numbers = self._numbers.get(origin, [])
        return numbers[_forgotten(numbers) :]

    def forgotten(self, origin: Origin) -> int | None:
        """Up to which seq the sequence is forgotten; None where it never was."""
        numbers = self._numbers.get(origin, [])
        count = _forgotten(numbers)
        return numbers[count].base_seq if count else None

    def forgotten_numbers(self) -> dict[str, list[int]]:
        """For each project that was forgotten, under which numbers that stands."""
        found: dict[str, list[int]] = {}
        for numbers in list(self._numbers.values()):
            for stream in numbers[: _forgotten(numbers)]:
                found.setdefault(stream.project, []).append(stream.id)
        return found

    # --- in the writer's thread --------------------------------------------------------------------

    def register(self, connection: sqlite3.Connection, sled_id: str, epoch: str, project: str) -> Stream:
        """The number of this sequence, made where it is new."""
        known = self.live((sled_id, epoch))
        return known or self._add(connection, Stream(len(self.rows), sled_id, epoch, project))

    def close_epoch(self, connection: sqlite3.Connection, stream: Stream, closed_seq: int) -> bool:
        """Note the last seq that was not carried over; whether that is news."""
        if stream.closed_seq == closed_seq:
            return False
        stream.closed_seq = closed_seq
        self.news += 1
        stream_rows.write(connection, stream)
        return True

    def adopt_base(
        self, connection: sqlite3.Connection, stream: Stream, base_seq: int, digest: int
    ) -> Stream:
        """Go on beyond `base_seq`: what comes before is retained nowhere. The number to go on under."""
        if stream.last_seq >= base_seq:
            return stream
        return self._go_on(connection, stream, base_seq, digest, contested=stream.contested)

    def cut(self, connection: sqlite3.Connection, stream: Stream, from_seq: int, digest: int) -> Stream:
        """Another branch won from `from_seq` on: the number it goes on under.

        `digest` is the sequence's before `from_seq`.
        """
        stream.contested = True
        for number in self._numbers[stream.origin]:
            if number.shown_seq >= from_seq:
                number.cut_seq = max(number.base_seq, from_seq - 1)
                stream_rows.write(connection, number)
        self.news += 1
        return self._go_on(connection, stream, from_seq - 1, digest, contested=True)

    def contest(self, connection: sqlite3.Connection, stream: Stream) -> None:
        """Two branches of it have met: whichever won, sleds have to go on in a new epoch."""
        if not stream.contested:
            stream.contested = True
            self.news += 1
            stream_rows.write(connection, stream)

    def forget(self, connection: sqlite3.Connection, project: str) -> Forgotten:
        """Show nothing more of what a project's sequences hold now.

        They go on under new numbers, and so keep their identities: nothing that came already is taken again.
        """
        seqs: dict[Origin, int] = {}
        events = 0
        for stream in self.all_live():
            if stream.project != project:
                continue
            seqs[stream.origin] = stream.last_seq
            shown = self.parts(stream.origin, 1, stream.last_seq)
            events += sum(last + 1 - first for _, first, last in shown)
            if _is_forgotten(self._numbers[stream.origin]):
                continue
            for number in self._numbers[stream.origin]:
                number.cut_seq = number.base_seq
                stream_rows.write(connection, number)
            self._go_on(connection, stream, stream.last_seq, stream.digest, contested=stream.contested)
            # Who holds none of it is told that it is not retained.
            self.drops += 1
        return Forgotten(seqs, events)

    def drop(self, connection: sqlite3.Connection, run: Run) -> None:
        """What is up to the end of this run is no longer retained."""
        stream = self.rows[run.stream_id]
        assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
        seq, digest = run.last_seq, run.digest
        if seq > stream.shown_seq:
            # What is in quarantine is no part of the sequence; where that began, another number goes on.
            following = [s for s in self._numbers[stream.origin] if s.base_seq == stream.shown_seq]
            seq, digest = stream.shown_seq, following[-1].base_digest if following else stream.base_digest
        if seq <= max(stream.dropped_seq, stream.base_seq):
            return
        stream.dropped_seq, stream.dropped_digest = seq, digest
        self.drops += 1
        stream_rows.write(connection, stream)

    def _go_on(
        self, connection: sqlite3.Connection, stream: Stream, base_seq: int, digest: int, *, contested: bool
    ) -> Stream:
        following = Stream(
            len(self.rows),
            stream.sled_id,
            stream.epoch,
            stream.project,
            last_seq=base_seq,
            closed_seq=stream.closed_seq,
            digest=digest,
            base_seq=base_seq,
            base_digest=digest,
            contested=contested,
        )
        return self._add(connection, following)

    def _add(self, connection: sqlite3.Connection, stream: Stream) -> Stream:
        stream_rows.insert(connection, stream)
        self.rows.append(stream)
        self._numbers.setdefault(stream.origin, []).append(stream)
        self._projects.setdefault(stream.sled_id, stream.project)
        return stream


def _forgotten(numbers: list[Stream]) -> int:
    """How many of them were forgotten: up to the last that was left where it ended.

    Where another branch wins, the sequence goes on before the end of what lost.
    """
    for index in range(len(numbers) - 1, 0, -1):
        before, stream = numbers[index - 1], numbers[index]
        if before.cut_seq == before.base_seq and stream.base_seq == before.last_seq:
            return index
    return 0


def _is_forgotten(numbers: list[Stream]) -> bool:
    """Whether nothing came since the sequence was forgotten."""
    count = _forgotten(numbers)
    return count > 0 and numbers[-1].last_seq == numbers[count].base_seq


def _add(found: dict[str, list[MissingRange]], stream: Stream, first_seq: int, last_seq: int) -> None:
    if first_seq <= last_seq:
        found.setdefault(stream.project, []).append(
            MissingRange(stream.sled_id, stream.epoch, first_seq, last_seq)
        )


def names_of(stream: Stream) -> dict[str, object]:
    """Whose sequence it is, for a line of the log."""
    return {"project": stream.project, "sled_id": stream.sled_id, "epoch": stream.epoch}
