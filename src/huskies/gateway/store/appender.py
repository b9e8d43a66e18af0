"""Appends batches within the writer's transaction: judges each, compares, packs what is new into blocks.

Contiguity and content are checked here, where commits are serialised (SPEC 5, rule 2).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from huskies.errors import StoreError
from huskies.events import codec
from huskies.events.model import RelayedEvent
from huskies.gateway.store import log_store
from huskies.gateway.store.appends import Append, AppendOwner, Claim, Conflict, Diverged, Lost
from huskies.gateway.store.blocks import Batch, Block, Stream, extend_digest, pack
from huskies.gateway.store.stream_reader import StreamReader
from huskies.gateway.store.streams import Streams, names_of
from huskies.protocol.branches import first_wins
from huskies.protocol.contiguity import Gap, Split, judge

_log = logging.getLogger("huskies.log")

# What came within so many milliseconds is kept as having come at once.
_SAME_MOMENT_MS: Final = 100

_Refusal: TypeAlias = Gap | Conflict | Lost | Diverged
# The newest seq that the log then holds, or why nothing was stored.
Result: TypeAlias = int | _Refusal


class Appender:
    """Appends to the log that ends at `position` with the checksum `chain`.

    `dirty` are the streams that advanced since it was last emptied. `cut` is called with the number of a
    sequence under which another branch lost.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        sequences: Streams,
        reader: StreamReader,
        *,
        position: int,
        chain: int,
        dirty: dict[int, Stream],
        cut: Callable[[Stream], None],
    ) -> None:
        self._connection = connection
        self._sequences = sequences
        self._reader = reader
        self._cut_told = cut
        self.position = position
        self.chain = chain
        self.dirty = dirty
        self._refused: WeakKeyDictionary[AppendOwner, Gap | Conflict] = WeakKeyDictionary()
        # What was accepted and is not packed yet, by the stream's number.
        self._waiting: dict[int, list[Batch]] = {}
        self._blocks: list[Block] = []

    def append(self, job: Append) -> Result:
        """Accept a batch, or say why not; what is accepted is in the log after `flush`."""
        # What a session sent behind something that was refused continues another history than the log's,
        # also where its first seq would be the next in turn.
        refused = self._refused.get(job.owner) if self._refused else None
        if refused is not None:
            return refused
        # Meanwhile the sequence may go on under another number.
        stream = self._sequences.live(job.stream.origin) or job.stream
        first_seq = job.first_seq or stream.last_seq + 1
        verdict: Split | _Refusal = judge(stream.last_seq, first_seq, job.count)
        if isinstance(verdict, Split):
            if verdict.held or (job.claim is not None and self._waits_unclaimed(stream)):
                self.flush()
            stream, verdict = self._compare(stream, job, verdict)
        if stream.contested:
            verdict = _contested(job, first_seq, verdict)
        if isinstance(verdict, Gap | Conflict):
            self._refused[job.owner] = verdict
        if not isinstance(verdict, Split):
            return verdict
        fresh = job.events[verdict.held :] if verdict.held else job.events
        last_seq = first_seq + job.count - 1
        if fresh:
            stream.last_seq = last_seq
            self.dirty[stream.id] = stream
            batch = Batch(stream, first_seq + verdict.held, job.received_ms, job.replayed_through, fresh)
            batch.claimed = None if job.claim is None else job.claim.after
            self._wait(batch)
        return last_seq

    def flush(self) -> None:
        """Put what waits into the log's transaction."""
        batches = [batch for of_stream in self._waiting.values() for batch in of_stream]
        for block, runs_json in pack(batches, self.position + 1, self.chain):
            log_store.insert_block(self._connection, block, runs_json)
            self.position, self.chain = block.last_position, block.chain
            self._reader.appended(block)
            self._blocks.append(block)
        for last in (of_stream[-1] for of_stream in self._waiting.values()):
            if last.claimed not in (None, last.stream.digest):
                _log.error("another gateway's digest is wrong", extra=names_of(last.stream))
        self._waiting.clear()

    def take_blocks(self) -> list[Block]:
        """The blocks that were appended since the last call."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def _wait(self, batch: Batch) -> None:
        """Let a batch wait for the end of the commit, joined with what waits of the same stream."""
        batches = self._waiting.setdefault(batch.stream.id, [])
        if batches and _are_alike(batches[-1], batch):
            batches[-1].events.extend(batch.events)
            batches[-1].claimed = batch.claimed
        else:
            batches.append(batch)

    def _waits_unclaimed(self, stream: Stream) -> bool:
        """Whether a digest of what waits of the stream is not known yet."""
        batches = self._waiting.get(stream.id, [])
        return bool(batches) and batches[-1].claimed is None

    def _compare(self, stream: Stream, job: Append, split: Split) -> tuple[Stream, Split | _Refusal]:
        """Compares what is held already, and says under which number and how the batch goes on.

        What a sled sends that differs goes into quarantine, with all that was sent behind. Of two branches
        that differ between logs, the same one wins everywhere, and the other goes into quarantine.
        """
        if job.claim is not None and self._is_elsewhere(stream, job, job.claim, split):
            return stream, Diverged()
        if not split.held:
            return stream, split
        last = job.first_seq + split.held - 1
        held = self._reader.events(stream.origin, job.first_seq, last)
        if job.claim is None:
            # What nobody is shown any more is still what its sled said.
            held.update(self._reader.forgotten(stream.origin, job.first_seq, last))
        for seq, event in enumerate(job.events[: split.held], job.first_seq):
            # What is no longer retained cannot be compared; it was when it came.
            if seq not in held or held[seq] == event:
                continue
            if job.claim is not None and first_wins(event, held[seq]):
                return self._cut(stream, job, seq), Split(seq - job.first_seq)
            self._quarantine(job, seq)
            if job.claim is None:
                return stream, Conflict(seq)
            self._sequences.contest(self._connection, stream)
            return stream, Lost(seq, self._digest_before(stream, job, seq))
        return stream, split

    def _is_elsewhere(self, stream: Stream, job: Append, claim: Claim, split: Split) -> bool:
        """Whether what another gateway sends continues something else than is held here."""
        if not split.held:
            waiting = self._waiting.get(stream.id)
            return claim.before != (waiting[-1].claimed if waiting else stream.digest)
        before = self._reader.digest(stream.origin, job.first_seq - 1)
        if before is not None and claim.before != before:
            return True
        # Of what was dropped, or forgotten, only the digest at its end is known.
        for seq, digest in ((stream.dropped_seq, stream.dropped_digest), self._forgotten(stream)):
            count = seq + 1 - job.first_seq
            if 0 < count <= split.held and _extended(claim, job.events[:count]) != digest:
                return True
        return False

    def _forgotten(self, stream: Stream) -> tuple[int, int]:
        """Up to which seq the sequence is forgotten, and its digest there."""
        if self._sequences.forgotten(stream.origin) is None:
            return 0, 0
        first = self._sequences.known(stream.origin)[0]
        return first.base_seq, first.base_digest

    def _digest_before(self, stream: Stream, job: Append, seq: int) -> int:
        digest = self._reader.digest(stream.origin, seq - 1)
        if digest is not None:
            return digest
        # Where what is held cannot be read, what agrees with it tells.
        if job.claim is None:
            raise StoreError(f"what a sled's seq {seq} continues is not in the log")
        return _extended(job.claim, job.events[: seq - job.first_seq])

    def _cut(self, stream: Stream, job: Append, seq: int) -> Stream:
        digest = self._digest_before(stream, job, seq)
        _log.error(
            "another branch of a sled's history won; what was held from there on is in quarantine",
            extra={**names_of(stream), "from": seq, "to": stream.last_seq},
        )
        following = self._sequences.cut(self._connection, stream, seq, digest)
        self._cut_told(stream)
        return following

    def _quarantine(self, job: Append, seq: int) -> None:
        events = job.events[seq - job.first_seq :]
        self._connection.execute(
            "INSERT INTO quarantine (stream_id, first_seq, received_ms, events) VALUES (?, ?, ?, ?)",
            (job.stream.id, seq, job.received_ms, codec.encode_batch(events)),
        )


def _contested(job: Append, first_seq: int, verdict: Split | _Refusal) -> Split | _Refusal:
    """What becomes of a batch of a sequence of which two histories have met."""
    if job.claim is None and isinstance(verdict, Split) and verdict.held < job.count:
        # The sled goes on in a new epoch; what it sent before and is held is acknowledged.
        return Conflict(first_seq + verdict.held)
    if job.claim is not None and isinstance(verdict, Gap):
        # What was in flight of the history that lost goes on beyond the end of the other.
        return Diverged()
    return verdict


def _extended(claim: Claim, events: Sequence[RelayedEvent]) -> int:
    """The digest of another gateway's sequence with these events, the first of those that it sent."""
    return extend_digest(claim.before, codec.encode_batch(events)[1:-1]) if events else claim.before


def _are_alike(before: Batch, batch: Batch) -> bool:
    return (
        before.replayed_through == batch.replayed_through
        and abs(batch.received_ms - before.received_ms) <= _SAME_MOMENT_MS
    )
