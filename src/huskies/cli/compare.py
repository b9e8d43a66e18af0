"""Compares a log with a running gateway's, sequence by sequence, and finds where they begin to differ."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from huskies.cli import client
from huskies.gateway.store.blocks import Run, Stream, decode_runs
from huskies.gateway.store.damage import Damage
from huskies.gateway.store.digests import DIGESTS_PATH, DigestsAnswer, SequenceDigest
from huskies.gateway.store.log_store import runs_after
from huskies.gateway.store.stream_reader import StreamReader
from huskies.gateway.store.streams import Streams

_ANSWER_LIMIT: Final = 60.0


class Difference(msgspec.Struct, frozen=True):
    """What was found of one sequence; `seq` is the first that differs, where one does.

    A gateway that merely lacks the newest, or retains less, is no problem.
    """

    project: str
    sled_id: str
    epoch: str
    said: str
    seq: int | None = None
    is_problem: bool = False


class Comparison:
    """The differences between this log, whose `rows` were walked, and the gateway at `url`."""

    def __init__(self, connection: sqlite3.Connection, rows: list[Stream | None], url: str) -> None:
        self._url = url
        self._streams = Streams(rows)
        self._reader = StreamReader(connection, _Scan(connection), self._streams, Damage(quiet=True))

    def __iter__(self) -> Iterator[Difference]:
        """Ask and compare; raises `HuskiesError` where the gateway does not answer."""
        theirs = {(each.sled_id, each.epoch): each for each in self._ask().sequences}
        for stream in self._streams.all_live():
            other = theirs.pop(stream.origin, None)
            if other is None:
                if stream.last_seq:
                    yield _difference(stream, f"only here, up to seq {stream.last_seq}")
                continue
            found = self._compare(stream, other)
            if found is not None:
                yield found
        for other in theirs.values():
            if other.last_seq:
                text = f"only there, up to seq {other.last_seq}"
                yield Difference(other.project, other.sled_id, other.epoch, text)

    def _compare(self, stream: Stream, theirs: SequenceDigest) -> Difference | None:
        common = min(stream.last_seq, theirs.last_seq)
        here, there = (stream.last_seq, f"{stream.digest:08x}"), (theirs.last_seq, theirs.digest)
        if here == there or not common:
            return None
        same = False if here[0] == there[0] else self._is_same(stream, common)
        if same is False:
            return self._first_difference(stream, max(_retained_from(stream), theirs.dropped_seq), common)
        if same is None:
            return _difference(stream, f"cannot be compared up to seq {common}: one retains less")
        return _difference(stream, f"the same up to seq {common}; {here[0]} here, {there[0]} there")

    def _first_difference(self, stream: Stream, same: int, differs: int) -> Difference:
        """By bisection; the two agree up to `same`, unless it is what neither retains."""
        if same and self._is_same(stream, same) is False:
            return _difference(stream, f"differs at seq {same} already, which is no longer retained", same)
        while differs - same > 1:
            middle = (same + differs) // 2
            if self._is_same(stream, middle) is False:
                differs = middle
            else:
                same = middle
        return _difference(stream, f"DIFFERS from seq {differs} on", differs)

    def _is_same(self, stream: Stream, seq: int) -> bool | None:
        """Whether both have the same up to `seq`; None where one cannot say."""
        ours = self._reader.digest(stream.origin, seq)
        found = self._ask(sled_id=stream.sled_id, epoch=stream.epoch, seq=str(seq)).sequences
        theirs = found[0].digest if found else None
        return None if ours is None or theirs is None else f"{ours:08x}" == theirs

    def _ask(self, **query: str) -> DigestsAnswer:
        with client.get(self._url, DIGESTS_PATH, query=query, timeout=_ANSWER_LIMIT) as response:
            body = client.read_all(response, self._url)
        try:
            return msgspec.json.decode(body, type=DigestsAnswer)
        except (msgspec.DecodeError, UnicodeError):
            host = urlsplit(self._url).netloc
            raise client.GatewayRefusedError(
                self._url, response.status, f"no digests; does {host} run an older Huskies?"
            ) from None


def _retained_from(stream: Stream) -> int:
    return max(stream.base_seq, stream.dropped_seq)


def _difference(stream: Stream, said: str, seq: int | None = None) -> Difference:
    return Difference(stream.project, stream.sled_id, stream.epoch, said, seq, is_problem=seq is not None)


class _Scan:
    """Finds a stream's blocks by looking through the log once for each stream that is asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._stream_id = 0
        self._runs: Sequence[tuple[int, int, int]] = ()
        self._known_to = 0

    def run_positions(self, stream_id: int, first_seq: int, last_seq: int) -> tuple[list[int], int]:
        if stream_id != self._stream_id:
            self._scan(stream_id)
        positions = [at for at, first, last in self._runs if first <= last_seq and last >= first_seq]
        return positions, self._known_to

    def _scan(self, stream_id: int) -> None:
        self._stream_id, runs = stream_id, []
        mark = f"[{stream_id},".encode()
        for position, runs_json in runs_after(self._connection, 0):
            self._known_to = position
            if mark in runs_json:
                runs += [
                    (position, run.first_seq, run.last_seq)
                    for run in _readable(runs_json)
                    if run.stream_id == stream_id
                ]
        self._runs = runs


def _readable(runs_json: bytes) -> Sequence[Run]:
    try:
        return decode_runs(runs_json)
    except msgspec.DecodeError:
        return ()
