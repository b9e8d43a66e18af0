"""Watching directories: wakes the sled when something in them changes.

The operating system's notifications come through `watchfiles`, from one thread a sled. They are a hint:
whoever is woken looks for himself, so a notification that is lost, doubled or late costs time and never an
event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVarTuple, Unpack

import watchfiles

_log = logging.getLogger("huskies.sled")
# It would say of every change that there was one.
logging.getLogger("watchfiles").setLevel(logging.WARNING)

# `watchfiles` collects changes until none came for one step (ms): a change is seen after one to two steps.
# Each step costs a wakeup, so this is also what an idle sled costs: about 0.2 % of a core.
_STEP_MS: Final = 8
# While changes keep coming (a large checkout), they are handed over at least this often (ms).
_DEBOUNCE_MS: Final = 100

# `watchfiles` does not say when it has begun to watch. The first that it hands over, changes or after this
# time (ms) none, shows that it has; what changed in between is then looked for.
_ARMED_MS: Final = 100

_Args = TypeVarTuple("_Args")
_Inodes: TypeAlias = dict[Path, tuple[int, int]]


class Watch(Protocol):
    """Tells of changes in directories."""

    def arm(self) -> bool:
        """Watch the directories that are there now; true if they are others than before."""

    def disarm(self) -> None:
        """Stop watching."""


StartWatch: TypeAlias = Callable[[Sequence[Path], Callable[[set[Path]], None]], Watch]


class DirectoryWatch:
    """Watches those of `directories` that exist, each without its subdirectories.

    `changed` is called in the event loop with the directories in which something changed.
    """

    def __init__(self, directories: Sequence[Path], changed: Callable[[set[Path]], None]) -> None:
        self._directories = directories
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._armed: _Inodes = {}
        self._stop: threading.Event | None = None
        self._complained = False

    def arm(self) -> bool:
        """Watch the directories that are there now; true if they are others than before.

        Then look at everything: what changed before went unnoticed. `changed` names every directory once the
        watch has begun.
        """
        found = self._find()
        if found == self._armed:
            return False
        self.disarm()
        self._armed = found
        if found:
            self._stop = threading.Event()
            threading.Thread(
                target=self._run, args=(list(found), self._stop), name="huskies-watch", daemon=True
            ).start()
        return True

    def disarm(self) -> None:
        """Stop watching."""
        if self._stop is not None:
            self._stop.set()
        self._stop = None
        self._armed = {}

    def _find(self) -> _Inodes:
        found: _Inodes = {}
        for directory in self._directories:
            try:
                status = directory.stat()
            except OSError:
                continue
            found[directory] = (status.st_dev, status.st_ino)
        return found

    # --- in the watching thread --------------------------------------------------------------------

    def _run(self, directories: list[Path], stop: threading.Event) -> None:
        armed = False
        try:
            changes = watchfiles.watch(
                *directories,
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                rust_timeout=_ARMED_MS,
                yield_on_timeout=True,
                stop_event=stop,
                raise_interrupt=False,
                recursive=False,
                ignore_permission_denied=True,
            )
            for batch in changes:
                if not armed:
                    armed = True
                    self._tell(self._changed, set(directories))
                if not batch:
                    continue
                parents = {Path(os.path.dirname(path)) for _, path in batch}  # noqa: PTH120 - many paths
                self._tell(self._changed, parents)
        except Exception as error:  # noqa: BLE001 - whatever the library raises, looking goes on
            self._tell(self._broken, error, stop, armed)

    def _tell(self, what: Callable[[Unpack[_Args]], None], *args: *_Args) -> None:
        # Once the loop is closed, no one is left to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *args)

    def _broken(self, error: Exception, stop: threading.Event, was_armed: bool) -> None:  # noqa: FBT001 - through `_tell`
        if stop is not self._stop:
            return
        # Armed again at the next look: a directory may have vanished between finding and watching it.
        self.disarm()
        if was_armed:
            # It did watch; what it stumbled over (a name that is no UTF-8) is not what comes next.
            self._changed(set(self._directories))
        elif not self._complained:
            self._complained = True
            _log.warning("Changes are found only every few seconds: %s", error)
