"""Which events a reader asked for, and how they are shown to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from huskies.gateway.blocks import Block, Run, Stream
from huskies.gateway.cursors import Cursor, parse


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What to show; None: everything. `since` (inclusive) and `until` (exclusive) are the event's Unix ms."""

    project: str | None = None
    type: str | None = None
    story: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def by_event(self) -> bool:
        """Whether events must be looked at one by one."""
        return (self.type, self.story, self.since, self.until) != (None, None, None, None)

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
        """Whether the time of an event in canonical JSON, which ends with it, is asked for."""
        if self.since is None and self.until is None:
            return True
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
    marks = wanted.marks()
    if not all(mark in block.events_json for mark in marks):
        return
    position = block.position
    for run in block.runs:
        stream = streams[run.stream_id]
        assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
        if position + run.count > after + 1 and wanted.project in (None, stream.project):
            yield from _select_run(block, run, position, stream, log_id, wanted, max(position, after + 1))
        position += run.count


def _select_run(  # noqa: PLR0917 - one caller, once a run
    block: Block, run: Run, position: int, stream: Stream, log_id: str, wanted: Filter, start: int
) -> Iterator[Shown]:
    # Written out by hand, with what is the same for the whole run made once: a reader of everything takes
    # each event through here.
    marks = wanted.marks()
    head = b'"project":"%b","sled_id":"%b","epoch":"%b","seq":' % (
        stream.project.encode(),
        stream.sled_id.encode(),
        stream.epoch.encode(),
    )
    prefix, suffix = f"{log_id}-".encode(), f"-{block.chain:08x}".encode()
    parts = block.event_parts()
    for at in range(start, position + run.count):
        part = parts[at - block.position]
        if wanted.by_event and not _is_wanted(bytes(part), marks, wanted):
            continue
        cursor = b"%b%d%b" % (prefix, at, suffix)
        seq = run.first_seq + at - position
        replayed = b"true" if seq <= run.replayed_through else b"false"
        yield Shown(
            at,
            cursor,
            b'{"cursor":"%b",%b%d,"received_ms":%d,"replayed":%b,"event":%b}'
            % (cursor, head, seq, run.received_ms, replayed, part),
        )


def _is_wanted(json: bytes, marks: list[bytes], wanted: Filter) -> bool:
    return all(mark in json for mark in marks) and wanted.admits_time(json)
