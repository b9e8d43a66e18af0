"""Which events a reader asked for, and how they are shown to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from huskies.events.model import RelayedEvent, event_type
from huskies.gateway.blocks import Block, Stream
from huskies.gateway.cursors import Cursor


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

    def admits(self, event: RelayedEvent) -> bool:
        """Whether the event is asked for, its project aside."""
        return (
            (self.story is None or event.story_id == self.story)
            and (self.type is None or event_type(event) == self.type)
            and (self.since is None or event.timestamp_ms >= self.since)
            and (self.until is None or event.timestamp_ms < self.until)
        )


class Shown(msgspec.Struct, frozen=True):
    """One event of the log as readers see it: its cursor, and the `GatewayStatusEvent` of SPEC 2 as JSON."""

    cursor: Cursor
    json: bytes


def select(
    block: Block, streams: Sequence[Stream | None], log_id: str, wanted: Filter, after: int = 0
) -> Iterator[Shown]:
    """The block's events beyond position `after` that are wanted, in order."""
    position = block.position
    offset = 0
    for run in block.runs:
        stream = streams[run.stream_id]
        assert stream is not None  # noqa: S101 - a run's stream is registered before its first event
        if position + run.count > after + 1 and wanted.project in (None, stream.project):
            skip = max(0, after + 1 - position)
            head = b'"project":"%b","sled_id":"%b","epoch":"%b","seq":' % (
                stream.project.encode(),
                stream.sled_id.encode(),
                stream.epoch.encode(),
            )
            yield from _select_run(
                block,
                run_range=(offset, skip, run.count),
                log_id=log_id,
                wanted=wanted,
                head=head,
                first_seq=run.first_seq,
                received_ms=run.received_ms,
                replayed_through=run.replayed_through,
            )
        position += run.count
        offset += run.count


def _select_run(
    block: Block,
    *,
    run_range: tuple[int, int, int],
    log_id: str,
    wanted: Filter,
    head: bytes,
    first_seq: int,
    received_ms: int,
    replayed_through: int,
) -> Iterator[Shown]:
    offset, skip, count = run_range
    parts = block.event_parts()
    events = block.events() if wanted.by_event else None
    for index in range(skip, count):
        if events is not None and not wanted.admits(events[offset + index]):
            continue
        cursor = Cursor(log_id, block.position + offset + index, block.chain)
        seq = first_seq + index
        yield Shown(
            cursor,
            b'{"cursor":"%b",%b%d,"received_ms":%d,"replayed":%b,"event":%b}'
            % (
                str(cursor).encode(),
                head,
                seq,
                received_ms,
                b"true" if seq <= replayed_through else b"false",
                parts[offset + index],
            ),
        )
