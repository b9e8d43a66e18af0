"""Which events a reader asked for, and how they are shown to it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from huskies.gateway.store.blocks import Block, Run, Stream
from huskies.gateway.store.cursors import Cursor, parse

_BEGIN: Final = b'{"type":"'


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What to show; None: everything. `since` (inclusive) and `until` (exclusive) are the event's Unix ms.

    `allowed`: the projects that the reader may see at all.
    """

    project: str | None = None
    allowed: frozenset[str] | None = None
    type: str | None = None
    story: str | None = None
    since: int | None = None
    until: int | None = None

    def admits_project(self, project: str) -> bool:
        """Whether events of a project are asked for, and may be seen."""
        return self.project in (None, project) and (self.allowed is None or project in self.allowed)

    @property
    def by_time(self) -> bool:
        """Whether the events' times matter."""
        return self.since is not None or self.until is not None

    def marks(self) -> list[bytes]:
        """What stands in the canonical JSON of every event that is asked for, and of no other."""
        marks = []
        if self.type is not None:
            marks.append(b'{"type":"%b",' % self.type.encode())
        if self.story is not None:
            # Within a JSON string the quotes would be escaped.
            marks.append(b'"story_id":%b,' % msgspec.json.encode(self.story))
        return marks

    def admits_time(self, json: bytes) -> bool:
        """Whether the time of an event, with which its canonical JSON ends, is asked for."""
        timestamp_ms = int(json[json.rindex(b":") + 1 : -1])
        return (self.since is None or timestamp_ms >= self.since) and (
            self.until is None or timestamp_ms < self.until
        )


class Shown(msgspec.Struct, frozen=True):
    """One event of the log as readers see it: its cursor as text, and the `GatewayStatusEvent` as JSON."""

    position: int
    id: bytes
    json: bytes

    @property
    def cursor(self) -> Cursor:
        """The event's cursor."""
        return parse(self.id.decode())


def select(
    block: Block, streams: Sequence[Stream | None], log_id: str, wanted: Filter, after: int = 0
) -> Iterator[Shown]:
    """The block's events beyond position `after` that are wanted, in order.

    Works on the canonical JSON as the block holds it; nothing is decoded.
    """
    hits = _hits(block, wanted)
    position = block.position
    for run in block.runs:
        stream = streams[run.stream_id]
        assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
        shown = run.shown(stream)
        if position + shown > after + 1 and wanted.admits_project(stream.project):
            first = max(position, after + 1) - block.position
            last = position + shown - block.position
            yield from _show(block, run, position, stream, log_id, hits[_at(hits, first) : _at(hits, last)])
        position += run.count


def _hits(block: Block, wanted: Filter) -> Sequence[int]:
    """Which of the block's events are wanted, their project aside."""
    hits: Sequence[int] = range(block.count)
    for mark in wanted.marks():
        marked = _marked(block.events_json, mark)
        hits = marked if isinstance(hits, range) else [index for index in hits if index in marked]
    if hits and wanted.by_time:
        parts = block.event_parts()
        hits = [index for index in hits if wanted.admits_time(bytes(parts[index]))]
    return hits


def _marked(events_json: bytes, mark: bytes) -> list[int]:
    """Which events of a canonical JSON array hold the mark; found without taking the array apart."""
    found: list[int] = []
    counted = index = 0
    at = events_json.find(mark)
    while at >= 0:
        # An event begins with its type, and nothing inside a JSON string can look like that.
        index += events_json.count(_BEGIN, counted, at + len(_BEGIN))
        counted = at + len(_BEGIN)
        found.append(index - 1)
        at = events_json.find(mark, at + len(mark))
    return found


def _at(hits: Sequence[int], index: int) -> int:
    return index if isinstance(hits, range) else bisect_left(hits, index)


def _show(  # noqa: PLR0917 - one caller, once a run
    block: Block, run: Run, position: int, stream: Stream, log_id: str, hits: Sequence[int]
) -> Iterator[Shown]:
    # Written out by hand, with what is the same for the whole run made once: a reader of everything takes
    # each event through here.
    head = b'"project":"%b","sled_id":"%b","epoch":"%b","seq":' % (
        stream.project.encode(),
        stream.sled_id.encode(),
        stream.epoch.encode(),
    )
    prefix, suffix = f"{log_id}-".encode(), f"-{block.chain:08x}".encode()
    parts = block.event_parts()
    for index in hits:
        at = block.position + index
        cursor = b"%b%d%b" % (prefix, at, suffix)
        seq = run.first_seq + at - position
        replayed = b"true" if seq <= run.replayed_through else b"false"
        yield Shown(
            at,
            cursor,
            b'{"cursor":"%b",%b%d,"received_ms":%d,"replayed":%b,"event":%b}'
            % (cursor, head, seq, run.received_ms, replayed, parts[index]),
        )
