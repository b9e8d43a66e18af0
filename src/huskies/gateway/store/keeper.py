"""Keeps the log as long and as large as it is to be, and each project within its quota."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from typing import Final, NamedTuple

import msgspec

from huskies.gateway.fleet import Fleet
from huskies.gateway.metrics import Metrics
from huskies.gateway.quota import Quota
from huskies.gateway.store import log_store, retention
from huskies.gateway.store.index import Index
from huskies.gateway.store.log import Log

_log = logging.getLogger("huskies.log")

_INTERVAL: Final = 5.0
# Dropping takes at most this share of the writer's time: what sleds push does not wait for it.
_SHARE: Final = 0.2
_UNWRITTEN: Final = "the index cannot be written: %s"


class _Extent(NamedTuple):
    first_position: int
    size: int
    due: bool


class Keeper:
    """Drops what `rules` say; tells `metrics` how far back the log reaches and how large it is."""

    def __init__(
        self,
        *,
        log: Log,
        index: Index,
        fleet: Fleet,
        quota: Quota,
        metrics: Metrics,
        rules: retention.Rules,
    ) -> None:
        self._log = log
        self._index = index
        self._fleet = fleet
        self._quota = quota
        self._metrics = metrics
        self._rules = rules

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.round()
            await asyncio.sleep(_INTERVAL)

    async def round(self) -> int:
        """Drop what is due now; how many events that were."""
        for name, project in self._fleet.projects.items():
            self._quota.stories(name, project.said())
        self._metrics.over_quota(len(self._quota.over))
        extent = await self._extent()
        if not extent.due:
            return 0
        events = await self._drop()
        first = (await self._extent()).first_position
        _log.info("events are retained no more", extra={"events": events, "up_to": first - 1})
        return events

    async def _extent(self) -> _Extent:
        def read(connection: sqlite3.Connection) -> _Extent:
            return _Extent(
                log_store.first_position(connection),
                retention.used_bytes(connection),
                retention.is_due(connection, self._rules, self._log.now_ms()),
            )

        extent = await self._log.call(read)
        self._metrics.retained(extent.first_position, extent.size)
        return extent

    async def _drop(self) -> int:
        # The board of a story whose events are all gone is known from what was kept of the fleet alone.
        up_to = self._fleet.position
        try:
            await asyncio.to_thread(self._index.write_fleet, msgspec.msgpack.encode(self._fleet))
        except sqlite3.Error as error:
            _log.warning(_UNWRITTEN, error)
            return 0
        events = 0
        seqs: dict[int, int] = {}
        more, last = True, 0
        while more and not self._log.crowded:
            started = time.perf_counter()
            dropped = await self._log.trim(self._rules, up_to)
            if dropped is None:
                break
            events += dropped.events
            seqs.update((run.stream_id, run.last_seq) for run in dropped.runs)
            more, last = dropped.more, dropped.last_position
            # Waiting for other commits counts too: the more there is to do, the longer the pause.
            await asyncio.sleep((time.perf_counter() - started) * (1 / _SHARE - 1))
        try:
            sizes = await asyncio.to_thread(self._index.forget, last + 1, seqs)
        except sqlite3.Error as error:
            _log.warning(_UNWRITTEN, error)
        else:
            self._quota.dropped(sizes, self._log.streams)
        return events
