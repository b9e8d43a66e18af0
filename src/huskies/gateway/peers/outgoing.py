"""What another gateway lacks of the log, cut into frames. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from huskies import limits
from huskies.gateway.store.blocks import Block, Run, Stream, extend_digest
from huskies.protocol import peer_wire as wire
from huskies.protocol.vectors import Origin


class Theirs(NamedTuple):
    """How much of a sequence the other gateway has, or will have once it took what was sent.

    `row` is the newest of this log's numbers for the sequence that this takes account of.
    """

    seq: int
    digest: int
    row: int


class RunsOut(NamedTuple):
    """Runs to be sent in one frame, with their events as JSON separated by commas."""

    runs: list[wire.SentRun]
    events_json: bytes


Outgo: TypeAlias = wire.Sequences | wire.Base | RunsOut
_NOTHING = Theirs(0, 0, 0)


class Outgoing:
    """Keeps what one other gateway has; `frames` then says what to send it."""

    def __init__(self) -> None:
        self._theirs: dict[Origin, Theirs] = {}
        self._numbers: dict[Origin, int] = {}
        self._origins: list[Origin] = []
        # A frame ends once it has so many bytes of events.
        self.frame_bytes = limits.PEER_FRAME_BYTES

    def announcement(self, stream: Stream, last_seq: int = 0, digest: int = 0) -> wire.Sequence:
        """Names a sequence, and how much of it is committed here where that is to be said."""
        return wire.Sequence(
            self._number(stream.origin),
            stream.sled_id,
            stream.epoch,
            stream.project,
            last_seq,
            digest,
            stream.closed_seq,
            stream.contested,
        )

    def is_named(self, origin: Origin) -> bool:
        """Whether the other gateway knows this side's number for the sequence."""
        return origin in self._numbers

    def origin(self, number: int) -> Origin | None:
        """The sequence that has this number on this connection."""
        return self._origins[number - 1] if 0 < number <= len(self._origins) else None

    def ends(self, runs: Sequence[wire.SentRun]) -> dict[Origin, int]:
        """How far sequences go with these runs."""
        return {self._origins[run.number - 1]: run.first_seq + run.count - 1 for run in runs}

    def they_have(self, origin: Origin, seq: int, digest: int, row: int) -> None:
        """They hold at least so much of it."""
        theirs = self._theirs.get(origin, _NOTHING)
        if seq > theirs.seq:
            self._theirs[origin] = Theirs(seq, digest, max(row, theirs.row))

    def they_have_only(self, origin: Origin, seq: int, digest: int) -> None:
        """They hold the same as this log only so far: what comes beyond is sent again."""
        theirs = self._theirs.get(origin, _NOTHING)
        self._theirs[origin] = Theirs(seq, digest, theirs.row)

    def lacks(self, run: Run, stream: Stream) -> bool:
        """Whether something of a run is to be sent."""
        theirs = self._theirs.get(stream.origin, _NOTHING)
        known = theirs.seq if theirs.row >= stream.id else min(theirs.seq, stream.base_seq)
        return run.first_seq + run.shown(stream) - 1 > known

    def frames(self, blocks: Sequence[Block], streams: Sequence[Stream | None]) -> Iterator[Outgo]:
        """What to send of these blocks, in the log's order; notes it as held by the other gateway."""
        bundle = _Bundle(self.frame_bytes)
        for block in blocks:
            start = 0
            for run in block.runs:
                stream = streams[run.stream_id]
                assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
                if self.lacks(run, stream):
                    yield from self._take(bundle, block, run, start, stream)
                start += run.count
            if bundle.is_full:
                yield from bundle.flush()
        yield from bundle.flush()

    def bases(self, streams: Iterable[Stream]) -> Iterator[Outgo]:
        """What of these sequences is not retained and they have not been told, once all that is was sent.

        A sequence of which nothing is retained has no run that would say so.
        """
        for stream in streams:
            base = _base(stream)
            if self._current(stream).seq < base.seq:
                if not self.is_named(stream.origin):
                    yield wire.Sequences(sequences=[self.announcement(stream)])
                yield wire.Base(number=self._number(stream.origin), seq=base.seq, digest=base.digest)
                self._theirs[stream.origin] = base

    def _take(self, bundle: _Bundle, block: Block, run: Run, start: int, stream: Stream) -> Iterator[Outgo]:
        origin = stream.origin
        if not self.is_named(origin):
            yield wire.Sequences(sequences=[self.announcement(stream)])
        theirs = self._current(stream)
        base = _base(stream)
        if theirs.seq < base.seq:
            theirs = base
            # It comes behind what was taken before, and ahead of what continues it.
            yield from bundle.flush()
            yield wire.Base(number=self._number(origin), seq=theirs.seq, digest=theirs.digest)
        skipped = theirs.seq + 1 - run.first_seq
        count = run.shown(stream) - skipped
        if skipped < 0 or count <= 0:
            # Beyond what may come next: the rest was not read, and will be.
            self._theirs[origin] = theirs
            return
        part = _part(block, start + skipped, count)
        whole = skipped + count == run.count
        after = run.digest if whole else extend_digest(theirs.digest, part)
        bundle.add(
            wire.SentRun(
                self._number(origin),
                theirs.seq + 1,
                count,
                run.received_ms,
                run.replayed_through,
                theirs.digest,
                after,
            ),
            part,
        )
        self._theirs[origin] = Theirs(theirs.seq + count, after, stream.id)

    def _current(self, stream: Stream) -> Theirs:
        theirs = self._theirs.get(stream.origin, _NOTHING)
        if theirs.row < stream.id and theirs.seq > stream.base_seq:
            # Another branch has won here since: theirs is the same only as far as that one's base.
            return Theirs(stream.base_seq, stream.base_digest, stream.id)
        return theirs

    def _number(self, origin: Origin) -> int:
        number = self._numbers.get(origin)
        if number is None:
            self._origins.append(origin)
            number = self._numbers[origin] = len(self._origins)
        return number


def _base(stream: Stream) -> Theirs:
    """Up to where nothing of the sequence is retained, under this number."""
    base = max((stream.base_seq, stream.base_digest), (stream.dropped_seq, stream.dropped_digest))
    return Theirs(*base, stream.id)


class _Bundle:
    """Runs that go into one frame."""

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self._runs: list[wire.SentRun] = []
        self._parts: list[bytes] = []
        self._events = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self._events >= limits.BATCH_EVENTS_MAX or self._bytes >= self._frame_bytes

    def add(self, run: wire.SentRun, part: bytes) -> None:
        self._runs.append(run)
        self._parts.append(part)
        self._events += run.count
        self._bytes += len(part)

    def flush(self) -> Iterator[Outgo]:
        if self._runs:
            yield RunsOut(self._runs, b",".join(self._parts))
            self._runs, self._parts, self._events, self._bytes = [], [], 0, 0


def _part(block: Block, start: int, count: int) -> bytes:
    """Some of a block's events as JSON, separated by commas."""
    if count == block.count:
        return block.events_json[1:-1]
    return b",".join(bytes(part) for part in block.event_parts()[start : start + count])
