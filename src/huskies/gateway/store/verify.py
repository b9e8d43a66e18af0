"""Walks a whole log and names everything that is wrong with it; reads only, also beside a running gateway."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import msgspec

from huskies.gateway.store import log_store, stream_rows
from huskies.gateway.store.block_rows import blocks_after
from huskies.gateway.store.blocks import Block, Run, Stream, extend_digest, split_runs
from huskies.gateway.store.damage import find_missing, kept
from huskies.gateway.store.neighbours import last_block
from huskies.gateway.store.streams import MissingRange

# A read that takes longer than this many blocks would keep the log's WAL from being reused.
_CHUNK_BLOCKS: Final = 500


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that is wrong at `position`, and with which sequence, where it is about one.

    `missing`: the events that no one can read there.
    """

    position: int
    problem: str
    last_position: int | None = None
    project: str | None = None
    sled_id: str | None = None
    epoch: str | None = None
    missing: list[MissingRange] = []


class Verdict(msgspec.Struct):
    """What was looked at: events at `first_position` … `last_position`; `bytes` of blocks."""

    first_position: int = 1
    last_position: int = 0
    blocks: int = 0
    events: int = 0
    streams: int = 0
    bytes: int = 0
    problems: int = 0


class _Seen(msgspec.Struct):
    """How far a stream was walked."""

    seq: int
    digest: int


class LogCheck:
    """One walk over the log that `connection` reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.verdict = Verdict()
        self.rows: list[Stream | None] = []
        self._since = 0
        self._seen: dict[int, _Seen] = {}
        self._at_checkpoint: dict[int, _Seen] = {}
        self._missing: list[MissingRange] = []
        # Numbers of sequences of which something was walked.
        self._walked: set[int] = set()
        # Whether something was dropped of the log, before the walk or during it.
        self._begins_late = False
        # Numbers of damaged rows: what they say of the beginning, and of the head, is not compared.
        self._unsound: set[int] = set()

    def run(self, progress: Callable[[int], None] = lambda _: None) -> Iterator[Problem]:
        """Everything that is wrong, in the order of positions; `progress` is told each position reached.

        The walk ends where the log did when it began. Raises `sqlite3.Error` where that cannot be read.
        """
        for problem in self._walk(progress):
            self.verdict.problems += 1
            yield problem
        # What was walked says more than the rows, which are as of the last checkpoint.
        for stream in self.rows:
            if stream is not None and (seen := self._seen.get(stream.id)) is not None:
                stream.last_seq, stream.digest = seen.seq, seen.digest

    def _walk(self, progress: Callable[[int], None]) -> Iterator[Problem]:
        verdict = self.verdict
        yield from self._begin()
        reached = verdict.first_position - 1
        while reached < verdict.last_position:
            blocks = list(islice(blocks_after(self._connection, reached), _CHUNK_BLOCKS))
            if not blocks:
                # Pages of the file that cannot be read, up to its end.
                yield Problem(reached + 1, "nothing can be read from here on", verdict.last_position)
                break
            if blocks[0].position > reached + 1:
                self._dropped_meanwhile()
            for block in blocks:
                if block.position > verdict.last_position:
                    break
                yield from self._check(block)
                reached = block.last_position
            else:
                progress(reached)
                continue
            break
        yield from self._check_heads()

    def _begin(self) -> Iterator[Problem]:
        connection, verdict = self._connection, self.verdict
        connection.execute("BEGIN")
        try:
            rows, heads = stream_rows.read(connection), stream_rows.heads(connection)
            log_id = log_store.read_meta(connection, "log_id")
            verdict.first_position = log_store.first_position(connection)
            verdict.last_position = last_block(connection)[0]
            self._begins_late = verdict.first_position > 1
            self._missing = _known_missing(connection)
        finally:
            connection.execute("COMMIT")
        if log_id is not None and log_store.is_damaged_id(log_id):
            yield Problem(verdict.first_position, f"the log's id cannot be {log_id!a}")
        self.rows = rows.streams
        self._unsound = {problem.number for problem in rows.problems}
        for problem in rows.problems:
            yield _of_row(problem, verdict.first_position)
        if heads.is_sound:
            self._since = heads.position
        else:
            yield Problem(verdict.first_position, "the checkpoint of the heads does not fit its checksum")
            self._unsound.update(range(len(self.rows)))
        damaged = {problem.number for problem in rows.problems if not problem.head}
        for stream in self.rows:
            if stream is not None:
                verdict.streams += 1
                if stream.id not in damaged:
                    self._seen[stream.id] = _beginning(stream)
                    self._at_checkpoint[stream.id] = _beginning(stream)

    def _dropped_meanwhile(self) -> None:
        self._begins_late = True
        self._walked -= {stream.id for stream in self.rows if stream and stream.cut_seq is not None}
        for stream, row in zip(stream_rows.read(self._connection).streams, self.rows, strict=False):
            if stream is None or row is None:
                continue
            begins = _beginning(stream)
            if begins.seq > row.last_seq:
                # Heads are written before what they stand for is dropped.
                row.last_seq, row.digest = begins.seq, begins.digest
            for seen in (self._seen, self._at_checkpoint):
                if row.id in seen and begins.seq > seen[row.id].seq:
                    seen[row.id] = _beginning(stream)

    def _check(self, block: Block) -> Iterator[Problem]:
        self.verdict.blocks += 1
        if block.damage is not None:
            missing = find_missing(self._connection, block)
            self._missing += missing
            yield Problem(block.position, block.damage, block.last_position, missing=missing)
            return
        self.verdict.events += block.count
        self.verdict.bytes += len(block.events_json)
        try:
            parts = block.event_parts()
        except msgspec.DecodeError as error:
            yield Problem(block.position, f"its events cannot be read: {error}", block.last_position)
            return
        if len(parts) != block.count:
            yield Problem(block.position, f"it holds {len(parts)} events and says {block.count}")
            return
        yield from self._check_runs(block)

    def _check_runs(self, block: Block) -> Iterator[Problem]:
        for run, start, events_json in split_runs(block):
            problem = self._check_run(run, events_json)
            stream = self.rows[run.stream_id] if 0 < run.stream_id < len(self.rows) else None
            if problem is not None:
                names = (None, None, None) if stream is None else (stream.project, *stream.origin)
                yield Problem(block.position + start, problem, None, *names)
            if stream is not None or run.stream_id in self._unsound:
                self._seen[run.stream_id] = _Seen(run.last_seq, run.digest)
                self._walked.add(run.stream_id)
                if block.last_position <= self._since:
                    self._at_checkpoint[run.stream_id] = _Seen(run.last_seq, run.digest)

    def _check_run(self, run: Run, events_json: bytes) -> str | None:
        seen = self._seen.get(run.stream_id)
        if seen is None and run.stream_id in self._unsound:
            # Its row is damaged, which was said: where the sequence begins is taken as it stands.
            return None
        if seen is None:
            return f"no stream has the number {run.stream_id}"
        if run.first_seq <= seen.seq:
            return f"seq {run.first_seq} comes again: {seen.seq} came before it"
        if run.first_seq == seen.seq + 1:
            found = extend_digest(seen.digest, events_json)
            problem = f"the digest up to seq {run.last_seq} is {found:08x} and should be {run.digest:08x}"
            return None if found == run.digest else problem
        # Its digest cannot be worked out then, and is taken as it stands.
        explained = self._is_explained(run.stream_id, seen.seq + 1)
        return None if explained else f"seq {seen.seq + 1} to {run.first_seq - 1} are not there"

    def _check_heads(self) -> Iterator[Problem]:
        for stream in self.rows:
            if stream is None or stream.id in self._unsound:
                continue
            seen = self._at_checkpoint[stream.id]
            if self._is_explained(stream.id, seen.seq + 1):
                if self._seen[stream.id].seq < stream.last_seq:
                    self._seen[stream.id] = _Seen(stream.last_seq, stream.digest)
                continue
            if (stream.last_seq, stream.digest) != (seen.seq, seen.digest):
                problem = (
                    f"its head is seq {stream.last_seq}, {stream.digest:08x}; its events end with "
                    f"{seen.seq}, {seen.digest:08x}"
                )
                yield Problem(self._since, problem, None, stream.project, *stream.origin)

    def _is_explained(self, stream_id: int, seq: int) -> bool:
        """Whether an event is missing because a block is damaged, which was said already.

        Or it was shown to nobody any more: how much of that was dropped is noted nowhere.
        """
        stream = self.rows[stream_id]
        if stream is not None and seq > stream.shown_seq and stream_id not in self._walked:
            return self._begins_late
        return stream is not None and any(
            (missing.sled_id, missing.epoch) == stream.origin and missing.first_seq <= seq <= missing.last_seq
            for missing in self._missing
        )


def _known_missing(connection: sqlite3.Connection) -> list[MissingRange]:
    """What the gateway itself found missing, also in damaged blocks that were dropped since."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'damaged'").fetchone()
    return [missing for found in kept(connection) for missing in found.missing] if known else []


def _of_row(found: stream_rows.RowProblem, position: int) -> Problem:
    """What is wrong with a sequence's row; it concerns the log from its beginning on."""
    stream = found.stream
    names = (None, None, None) if stream is None else (stream.project, *stream.origin)
    return Problem(position, f"the row of sequence {found.number}: {found.problem}", None, *names)


def _beginning(stream: Stream) -> _Seen:
    return _Seen(*stream.beginning)
