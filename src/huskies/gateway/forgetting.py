"""Forgets what the sleds of a project said, where someone asks for it: nobody is shown it any more."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from huskies.gateway.fleet import Fleet, Project
from huskies.gateway.quota import Quota
from huskies.gateway.sessions import Sessions
from huskies.gateway.store.index import Index
from huskies.gateway.store.log import Log

_log = logging.getLogger("huskies.log")


class Forgetting:
    """Has the log forget, and then all that follows it."""

    def __init__(self, *, log: Log, index: Index, fleet: Fleet, quota: Quota, sessions: Sessions) -> None:
        self._log = log
        self._sessions = sessions
        self._index = index
        self._fleet = fleet
        self._quota = quota

    async def forget(self, project: str) -> int | None:
        """How many events nobody is shown any more; None where the log never heard of the project.

        Raises `StoreError` where the log cannot be written.
        """
        self._sessions.forget_board(project)
        forgotten = await self._log.forget(project)
        if not forgotten.seqs:
            return None
        self._fleet.forget(project, forgotten.seqs)
        known = self._fleet.projects.get(project, Project())
        self._quota.forgotten(project, self._log.streams, known.said())
        ids = self._log.sequences.forgotten_numbers().get(project, [])
        try:
            await asyncio.to_thread(self._index.forget_project, project, ids)
        except sqlite3.Error as error:
            _log.warning("what is counted cannot be written: %s; that is done at the next start", error)
        _log.info("a project is forgotten", extra={"project": project, "events": forgotten.events})
        return forgotten.events
