"""The disk of a simulated place: SQLite's files in memory, commits that take time, and errors.

What was committed is on the disk, and nothing else: a process that is killed loses its connections, and the
next one opens the files as they are. A disk that is `broken` fails whatever would write.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from enum import Enum, auto
from random import Random
from typing import Any, Final, Generic, TypeVar

from huskies.errors import StoreError
from huskies.testing.loop import CURRENT

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

_COMMIT_SECONDS: Final = (0.0005, 0.01)
_STALL_CHANCE: Final = 0.005
_STALL_SECONDS: Final = 8.0
_HOP_SECONDS: Final = 0.001


_connect = sqlite3.connect


class Failing(Enum):
    """How a disk that is broken fails."""

    # No room: nothing can be written.
    FULL = auto()
    # An error before anything of a commit is on the disk.
    BEFORE = auto()
    # An error after all of it is: the program hears of a failure, and the next one finds the commit there.
    AFTER = auto()


class Disk:
    """How long a commit takes, and whether it can be made."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.broken: Failing | None = None
        self.failures = 0

    def commit_seconds(self) -> float:
        """How long the next commit takes."""
        if self._random.random() < _STALL_CHANCE:
            return self._random.uniform(0.0, _STALL_SECONDS)
        return self._random.uniform(*_COMMIT_SECONDS)

    def hop_seconds(self) -> float:
        """How long until the event loop hears of it."""
        return self._random.uniform(0.0, _HOP_SECONDS)

    def error(self) -> sqlite3.OperationalError:
        """What SQLite says."""
        self.failures += 1
        return sqlite3.OperationalError(
            "database or disk is full" if self.broken is Failing.FULL else "disk I/O error"
        )


class Connection(sqlite3.Connection):
    """A connection whose writes fail while its place's disk is broken; closed when its process is killed."""

    _disk: Disk | None = None

    def on(self, disk: Disk) -> None:
        """Which disk the file lies on."""
        self._disk = disk

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - as SQLite has it
        """As in SQLite, unless the disk fails."""
        failing = None if self._disk is None else self._disk.broken
        if failing is not None and sql.startswith(_WRITES[failing]):
            assert self._disk is not None  # noqa: S101 - it is what fails
            if failing is Failing.AFTER:
                super().execute(sql, parameters)
            raise self._disk.error()
        return super().execute(sql, parameters)

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        """As in SQLite, unless the disk fails."""
        if self._disk is not None and self._disk.broken is not None:
            raise self._disk.error()
        return super().executescript(sql_script)


_WRITES: Final = {
    Failing.FULL: ("BEGIN", "INSERT", "UPDATE"),
    Failing.BEFORE: ("COMMIT", "INSERT OR REPLACE INTO fleet"),
    Failing.AFTER: ("COMMIT",),
}


def connect(*args: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - as SQLite has it
    """What stands in for `sqlite3.connect`: a connection of the process that asks for it."""
    connection: Connection = _connect(*args, factory=Connection, **options)
    process = CURRENT.get(None)
    if process is not None and process.place is not None:
        connection.on(process.place.disk)
        process.stores.append(connection)
    return connection


class SimulatedCommits(Generic[_Job, _Result]):
    """Carries out jobs as `storage.commits.CommitThread` does, without a thread, in virtual time."""

    def __init__(
        self,
        *,
        name: str,
        commit: Callable[[Sequence[_Job]], Sequence[_Result]],
        deliver: Callable[[Sequence[_Job], Sequence[_Result]], None],
        failed: Callable[[StoreError], None],
        cost: Callable[[_Job], int],
        max_cost: int,
    ) -> None:
        del name
        self._commit = commit
        self._deliver = deliver
        self._failed = failed
        self._cost = cost
        self._max_cost = max_cost
        self._loop = asyncio.get_running_loop()
        place = CURRENT.get().place
        assert place is not None  # noqa: S101 - stores lie at places
        self._disk = place.disk
        self._context = copy_context()
        self._waiting: deque[_Job] = deque()
        self._busy = False
        self._over = False
        self._due = 0.0
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, job: _Job) -> None:
        """Hand over a job; after `stop` or a failure it is never carried out."""
        if not self._over:
            self._waiting.append(job)
            self._start()

    async def stop(self) -> None:
        """Carry out what was submitted, deliver it, and end."""
        await self._idle.wait()
        self._over = True

    def _start(self) -> None:
        if not self._busy:
            self._busy = True
            self._idle.clear()
            self._loop.call_later(self._disk.commit_seconds(), self._carry_out, context=self._context)

    def _carry_out(self) -> None:
        jobs = self._next_jobs()
        self._due = max(self._due, self._loop.time() + self._disk.hop_seconds())
        try:
            results = self._commit(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing of it may be acknowledged
            problem = error if isinstance(error, StoreError) else StoreError(f"{error}")
            self._over = True
            self._waiting.clear()
            self._loop.call_at(self._due, self._fail, problem, context=self._context)
            return
        self._loop.call_at(self._due, self._tell, jobs, results, context=self._context)
        self._busy = False
        if self._waiting:
            self._start()

    def _next_jobs(self) -> list[_Job]:
        jobs = [self._waiting.popleft()]
        cost = self._cost(jobs[0])
        while self._waiting:
            cost += self._cost(self._waiting[0])
            if cost > self._max_cost:
                break
            jobs.append(self._waiting.popleft())
        return jobs

    def _tell(self, jobs: Sequence[_Job], results: Sequence[_Result]) -> None:
        self._deliver(jobs, results)
        if not self._busy and not self._waiting:
            self._idle.set()

    def _fail(self, problem: StoreError) -> None:
        self._failed(problem)
        self._idle.set()
