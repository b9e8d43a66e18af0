"""Damaged blocks, put back from what other gateways hold of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Protocol

from huskies import limits
from huskies.events.model import RelayedEvent
from huskies.gateway.store.log import Log
from huskies.protocol import peer_wire as wire
from huskies.protocol.vectors import Origin


class Fetches:
    """What was asked of one other gateway; `send` sends a frame."""

    def __init__(self, send: Callable[[wire.Frame], None]) -> None:
        self._send = send
        self._asked: dict[tuple[Origin, int], asyncio.Future[list[RelayedEvent]]] = {}

    async def fetch(self, origin: Origin, first_seq: int, last_seq: int) -> list[RelayedEvent]:
        """These events; none where the other gateway does not hold all of them, or does not say."""
        sled_id, epoch = origin
        asked = self._asked.setdefault((origin, first_seq), asyncio.get_running_loop().create_future())
        self._send(wire.Fetch(sled_id=sled_id, epoch=epoch, first_seq=first_seq, last_seq=last_seq))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.FETCH_LIMIT):
                return await asyncio.shield(asked)
        return []

    def take(self, fetched: wire.Fetched) -> None:
        """An answer came."""
        asked = self._asked.pop(((fetched.sled_id.lower(), fetched.epoch), fetched.first_seq), None)
        if asked is not None and not asked.done():
            asked.set_result(fetched.events)


class Source(Protocol):
    """Another gateway that may hold what is damaged here."""

    async def fetch(self, origin: Origin, first_seq: int, last_seq: int) -> list[RelayedEvent]:
        """These events, or none."""


async def answer(log: Log, fetch: wire.Fetch) -> wire.Fetched:
    """What another gateway asks for, if all of it is held here."""
    held = await log.held((fetch.sled_id.lower(), fetch.epoch), fetch.first_seq, fetch.last_seq)
    whole = len(held) == fetch.last_seq + 1 - fetch.first_seq
    events = [held[seq] for seq in sorted(held)] if whole else []
    return wire.Fetched(sled_id=fetch.sled_id, epoch=fetch.epoch, first_seq=fetch.first_seq, events=events)


async def mend(log: Log, sources: Callable[[], Iterable[Source]]) -> None:
    """Put damaged blocks back, as soon as some source holds what they held."""
    while True:
        await asyncio.sleep(limits.MEND_INTERVAL)
        for damaged in log.damaged.ranges():
            for source in list(sources()):
                if await _mend_from(log, source, damaged.position):
                    break


async def _mend_from(log: Log, source: Source, position: int) -> bool:
    damaged = await log.damaged_block(position)
    if damaged is None or not damaged.runs:
        return False
    events: list[RelayedEvent] = []
    for run in damaged.runs:
        stream = log.streams[run.stream_id]
        assert stream is not None  # noqa: S101 - runs that name no stream are not taken for plausible
        fetched = await source.fetch(stream.origin, run.first_seq, run.last_seq)
        if len(fetched) != run.count:
            return False
        events += fetched
    return await log.repair(position, damaged.runs, events) is None
