"""Blocks: how the log keeps events. Pure.

A block is a row of the log: consecutive positions, made of runs. A run is consecutive events of one stream,
that is of one `(sled_id, epoch)`. The events stand in the block as one JSON array in canonical form, so that
storing them costs one row and no index for each event; every block carries a checksum chained to the one
before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from huskies import limits
from huskies.errors import CorruptLogError, InvalidEventError
from huskies.events import codec
from huskies.events.model import RelayedEvent


class Stream(msgspec.Struct):
    """One `(sled_id, epoch)` sequence; `id` is this log's number for it, `last_seq` the newest it holds.

    `closed_seq` is the last seq that the sled says it did not carry over to a newer epoch (None: still open,
    or never said). What lies between `last_seq` and `closed_seq` is missing, and no one will send it.
    `digest` is that of its events up to `last_seq`.

    A sequence may stand under several numbers, each beginning beyond its `base_seq`: where another branch of
    it won, the older number ends at `cut_seq`, and what it holds beyond is in quarantine; the sequence is
    then `contested`, and takes nothing from sleds any more. What is up to `dropped_seq` is no longer
    retained. Where a project was forgotten, all numbers are cut at their base (`Streams.forget`).
    """

    id: int
    sled_id: str
    epoch: str
    project: str
    last_seq: int = 0
    closed_seq: int | None = None
    digest: int = 0
    base_seq: int = 0
    base_digest: int = 0
    cut_seq: int | None = None
    contested: bool = False
    dropped_seq: int = 0
    dropped_digest: int = 0

    @property
    def origin(self) -> tuple[str, str]:
        """Whose sequence it is: `(sled_id, epoch)`."""
        return self.sled_id, self.epoch

    @property
    def is_hidden(self) -> bool:
        """Whether nothing of what is held under this number is part of the log any more."""
        return self.cut_seq == self.base_seq

    @property
    def shown_seq(self) -> int:
        """The newest seq under this number that is part of the log and not in quarantine."""
        return self.last_seq if self.cut_seq is None else self.cut_seq

    @property
    def beginning(self) -> tuple[int, int]:
        """The seq and the digest that come before the first event that is retained."""
        if self.dropped_seq > self.base_seq:
            return self.dropped_seq, self.dropped_digest
        return self.base_seq, self.base_digest


class Run(msgspec.Struct, array_like=True):
    """Consecutive events of one stream within a block; those up to `replayed_through` were replayed.

    `digest` is the stream's with the last of them.
    """

    stream_id: int
    first_seq: int
    count: int
    received_ms: int
    replayed_through: int
    digest: int

    @property
    def last_seq(self) -> int:
        """The seq of the last of them."""
        return self.first_seq + self.count - 1

    def shown(self, stream: Stream) -> int:
        """How many of them, from the first on, are not in quarantine."""
        if stream.cut_seq is None:
            return self.count
        return min(self.count, max(0, stream.cut_seq + 1 - self.first_seq))


class Block(msgspec.Struct):
    """Events at `position` … `position + count - 1`.

    `before` is the log's checksum without this block, `chain` with it. `damage` says why what is stored there
    is shown to no one; the block then has no events, and `count` is how many it had.
    """

    position: int
    count: int
    before: int
    chain: int
    runs: list[Run]
    events_json: bytes
    decoded: list[RelayedEvent] | None = None
    parts: list[msgspec.Raw] | None = None
    damage: str | None = None
    sizes: list[int] | None = None

    @property
    def last_position(self) -> int:
        """The position of the block's last event."""
        return self.position + self.count - 1

    def events(self) -> list[RelayedEvent]:
        """The events, in the order of their positions."""
        if self.decoded is None:
            try:
                self.decoded = codec.decode_batch(self.events_json)
            except InvalidEventError as error:
                raise CorruptLogError(self.position, error.problem) from None
        return self.decoded

    def event_parts(self) -> list[msgspec.Raw]:
        """The events as they stand in the block, each as JSON."""
        if self.parts is None:
            self.parts = _parts.decode(self.events_json)
        return self.parts

    def run_sizes(self) -> list[int]:
        """How many bytes the events of each run take in the block."""
        if self.sizes is None:
            parts = iter(self.event_parts())
            self.sizes = [
                sum(len(memoryview(part)) for part in islice(parts, run.count)) + run.count - 1
                for run in self.runs
            ]
        return self.sizes


def split_runs(block: Block) -> Iterator[tuple[Run, int, bytes]]:
    """The block's runs, each with its place in it and its events' JSON, separated by commas."""
    start, begin = 0, 1
    for run, size in zip(block.runs, block.run_sizes(), strict=True):
        yield run, start, block.events_json[begin : begin + size]
        start += run.count
        begin += size + 1


def damaged_block(position: int, last_position: int, before: int, chain: int, damage: str) -> Block:
    """What stands for a block whose events cannot be shown."""
    return Block(position, last_position + 1 - position, before, chain, [], b"[]", [], [], damage)


class Batch(msgspec.Struct):
    """Events of one stream that were accepted for appending, before they are packed into blocks.

    `claimed` is the stream's digest with them, where another gateway that sent them said so.
    """

    stream: Stream
    first_seq: int
    received_ms: int
    replayed_through: int
    events: list[RelayedEvent]
    claimed: int | None = None


_runs_encoder = msgspec.json.Encoder()
_runs_decoder = msgspec.json.Decoder(list[Run])
_parts = msgspec.json.Decoder(list[msgspec.Raw])


def encode_runs(runs: Sequence[Run]) -> bytes:
    """The runs as a block's row keeps them."""
    return _runs_encoder.encode(runs)


def decode_runs(data: bytes) -> list[Run]:
    """The inverse of `encode_runs`; raises `msgspec.DecodeError`.

    It is asked of rows whose checksums do not hold, too: what stands there may be anything.
    """
    try:
        return _runs_decoder.decode(data)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None


def checksum(chain: int, runs_json: bytes, events_json: bytes) -> int:
    """The CRC-32 of a block, chained to that of the block before it."""
    return zlib.crc32(events_json, zlib.crc32(runs_json, chain))


def extend_digest(digest: int, events_json: bytes) -> int:
    """The digest of a stream that goes on with these events, given as JSON separated by commas.

    A CRC-32 of the events' canonical JSON, each followed by a comma: it does not depend on how the stream was
    cut into runs, so that two logs can compare theirs.
    """
    return zlib.crc32(b",", zlib.crc32(events_json, digest))


def pack(batches: Iterable[Batch], position: int, chain: int) -> Iterator[tuple[Block, bytes]]:
    """Blocks out of batches, from `position` on, each with its runs as stored; advances the digests."""
    waiting: list[Batch] = []
    count = 0
    for batch in _pieces(batches):
        waiting.append(batch)
        count += len(batch.events)
        if count >= limits.BLOCK_EVENTS_MAX:
            block, runs_json = _pack_one(waiting, count, position, chain)
            yield block, runs_json
            position, chain = position + count, block.chain
            waiting, count = [], 0
    if waiting:
        yield _pack_one(waiting, count, position, chain)


def _pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    size = limits.BLOCK_EVENTS_MAX
    for batch in batches:
        if len(batch.events) <= size:
            yield batch
            continue
        for start in range(0, len(batch.events), size):
            yield Batch(
                batch.stream,
                batch.first_seq + start,
                batch.received_ms,
                batch.replayed_through,
                batch.events[start : start + size],
            )


def _pack_one(batches: list[Batch], count: int, position: int, chain: int) -> tuple[Block, bytes]:
    runs: list[Run] = []
    parts: list[bytes] = []
    for batch in batches:
        stream = batch.stream
        part = codec.encode_batch(batch.events)[1:-1]
        stream.digest = extend_digest(stream.digest, part)
        runs.append(
            Run(
                stream.id,
                batch.first_seq,
                len(batch.events),
                batch.received_ms,
                batch.replayed_through,
                stream.digest,
            )
        )
        parts.append(part)
    events = (
        batches[0].events if len(batches) == 1 else [event for batch in batches for event in batch.events]
    )
    runs_json = encode_runs(runs)
    events_json = b"[%b]" % b",".join(parts)
    block = Block(position, count, chain, checksum(chain, runs_json, events_json), runs, events_json, events)
    block.sizes = [len(part) for part in parts]
    return block, runs_json
