"""Taking over what was emitted: each spool entry is recorded exactly once, in the order of creation.

An entry's name is recorded in the transaction that records its event, the file is removed after it, and the
name is forgotten once the removal is durable. Whenever the process is killed, the next drain finds which
step comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.sled.intake import Entry, entry_from
from huskies.sled.layout import Layout
from huskies.sled.outbox import Outbox
from huskies.storage.files import ensure_private_directory, sync_directory

_log = logging.getLogger("huskies.sled")

# One transaction, and so how long an event published meanwhile may wait.
_BATCH: Final = 500
# A draft that is this old (seconds) was left by a process that died.
_ABANDONED: Final = 36 * 3_600.0

_Found: TypeAlias = list[tuple[str, Entry]]


class SpoolDrain:
    """Drains the project's spool into its outbox; `drained` are the entries that were recorded before."""

    def __init__(self, layout: Layout, outbox: Outbox, project: str, drained: set[str]) -> None:
        self._layout = layout
        self._outbox = outbox
        self._project = project
        self._drained = drained
        self._gone: list[str] = []
        self._stuck: set[str] = set()

    async def tidy(self) -> None:
        """At start: finish what a killed process began."""
        await asyncio.to_thread(self._remove_abandoned)
        # Removed or not there: also a removal that was never made durable is, when this returns.
        gone = await asyncio.to_thread(self._remove, sorted(self._drained))
        if gone:
            await self._outbox.forget_spooled(gone)

    async def drain(self) -> None:
        """Record everything that is there; raises `StoreError`."""
        await self.record(await self.waiting())

    async def waiting(self) -> list[str]:
        """The entries that are there, in the order of creation."""
        return [name for name in await asyncio.to_thread(self._names) if name not in self._stuck]

    async def record(self, names: Sequence[str]) -> None:
        """Record these, and remove them; raises `StoreError`."""
        for start in range(0, len(names), _BATCH):
            found = await asyncio.to_thread(self._load, names[start : start + _BATCH])
            if not found:
                continue
            ids = [name for name, _ in found]
            forget, self._gone = self._gone, []
            await self._outbox.record_published(
                [entry for _, entry in found], spool_ids=ids, forget_spool_ids=forget
            )
            self._gone = await asyncio.to_thread(self._remove, ids)

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._layout.spool_new))  # noqa: PTH208 - only names are wanted
        except FileNotFoundError:
            return []

    def _load(self, names: Sequence[str]) -> _Found:
        found: _Found = []
        for name in names:
            path = self._layout.spool_new / name
            try:
                with path.open("rb") as file:
                    data = file.read(limits.EVENT_BODY_BYTES_MAX + 1)
                found.append((name, entry_from(data)))
            except FileNotFoundError:
                continue
            except InvalidEventError as error:
                self._put_away(name, error.problem)
            except OSError as error:
                self._put_away(name, str(error.strerror))
        return found

    def _put_away(self, name: str, problem: str) -> None:
        _log.error(
            "The emitted event %s is put into %s: %s",
            ascii(name),
            self._layout.spool_bad,
            problem,
            extra={"project": self._project},
        )
        try:
            ensure_private_directory(self._layout.spool_bad)
            (self._layout.spool_new / name).rename(self._layout.spool_bad / name)
        except OSError:
            self._stuck.add(name)

    def _remove(self, names: list[str]) -> list[str]:
        """Remove the files; returns those that are durably gone."""
        gone: list[str] = []
        for name in names:
            try:
                (self._layout.spool_new / name).unlink(missing_ok=True)
                gone.append(name)
            except OSError:
                # It stays recorded as drained, and is not drained again.
                self._stuck.add(name)
        if gone:
            sync_directory(self._layout.spool_new)
        return gone

    def _remove_abandoned(self) -> None:
        with contextlib.suppress(OSError):
            for path in self._layout.spool_tmp.iterdir():
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink(missing_ok=True)
