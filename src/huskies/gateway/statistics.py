"""The shell of `GET /gateway/stats`: adds up in a thread, one answer at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

from huskies.errors import StoreError
from huskies.gateway.access.scopes import Scopes
from huskies.gateway.fleet import Fleet
from huskies.gateway.standing import held_up
from huskies.gateway.stats_view import Asked, StatsAnswer, answer, range_of
from huskies.gateway.store.cursors import Cursor
from huskies.gateway.store.stats_reader import read_sums


class Statistics:
    """Answers from the counts in the index at `path`, and from where the fleet stands."""

    def __init__(self, path: Path, log_id: str, fleet: Fleet, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._log_id = log_id
        self._fleet = fleet
        self._now_ms = now_ms
        # However many ask, the threads that write and read the log are left to those.
        self._one = asyncio.Lock()

    async def answer(self, asked: Asked, scopes: Scopes) -> StatsAnswer:
        """What was asked for, of the projects that may be read; raises `StoreError`."""

        def is_shown(name: str) -> bool:
            return asked.project in (None, name) and scopes.may_read(name)

        now_ms = self._now_ms()
        asked_for = range_of(asked, now_ms)
        shows_all = asked.project is None and scopes.reads_all
        async with self._one:
            try:
                sums = await asyncio.to_thread(
                    partial(read_sums, self._path, asked_for, None if shows_all else is_shown)
                )
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: cannot be read: {error}") from error
            held = {}
            for name, project in list(self._fleet.projects.items()):
                if is_shown(name):
                    held[name] = held_up(project.sequences, project.snapshot)
                    # A project may have a hundred thousand stories: others do not wait for all projects.
                    await asyncio.sleep(0)
        cursor = Cursor(self._log_id, sums.position, sums.chain)
        return answer(asked_for, now_ms, str(cursor), sums, held)
