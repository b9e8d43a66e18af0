"""Group commit: jobs from the event loop are carried out by one thread, many to a transaction.

One thread is the only writer of its store, so commits are serialised by construction and the event loop never
waits for a disk. A job counts as done only when `deliver` reports it, after the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from huskies.errors import StoreError

Job = TypeVar("Job")
Result = TypeVar("Result")
Job_contra = TypeVar("Job_contra", contravariant=True)


class Commits(Protocol[Job_contra]):
    """Where jobs are handed over."""

    def submit(self, job: Job_contra) -> None:
        """Hand over a job; after `stop` or a failure it is never carried out."""

    async def stop(self) -> None:
        """Carry out what was submitted, deliver it, and end."""


class StartCommits(Protocol):
    """Starts what carries out jobs as `CommitThread` does, which is what a process uses."""

    def __call__(
        self,
        *,
        name: str,
        commit: Callable[[Sequence[Job]], Sequence[Result]],
        deliver: Callable[[Sequence[Job], Sequence[Result]], None],
        failed: Callable[[StoreError], None],
        cost: Callable[[Job], int],
        max_cost: int,
    ) -> Commits[Job]:
        """See `CommitThread`."""


class CommitThread(Generic[Job, Result]):
    """Carries out jobs in order.

    `commit` runs in the thread, in one transaction for all the jobs it is given, and returns a result for
    each once they are durable. `deliver` then runs in the event loop with the same jobs and results. If
    `commit` raises, nothing of it counts: `failed` runs in the event loop with a `StoreError`, and no further
    job is taken. `cost` weighs a job; the jobs of one commit weigh at most `max_cost` (a single job may weigh
    more).
    """

    def __init__(
        self,
        *,
        name: str,
        commit: Callable[[Sequence[Job]], Sequence[Result]],
        deliver: Callable[[Sequence[Job], Sequence[Result]], None],
        failed: Callable[[StoreError], None],
        cost: Callable[[Job], int],
        max_cost: int,
    ) -> None:
        self._commit = commit
        self._deliver = deliver
        self._failed = failed
        self._cost = cost
        self._max_cost = max_cost
        # Jobs of one turn of the event loop are handed over together: the thread then commits them together
        # instead of starting on the first while the loop still prepares the rest.
        self._turn: list[Job] = []
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._next: deque[Job] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand over a job; after `stop` or a failure it is never carried out."""
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append(job)

    async def stop(self) -> None:
        """Carry out what was submitted, deliver it, and end the thread."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        # The last delivery was scheduled before the thread ended; let it run.
        await asyncio.sleep(0)

    def _hand_over(self) -> None:
        if self._turn:
            self._queue.put(self._turn)
            self._turn = []

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._next_jobs()
            if jobs and not self._carry_out(jobs):
                return

    def _next_jobs(self) -> tuple[list[Job], bool]:
        """Jobs for one commit, waiting for the first; and whether more may come."""
        more = True if self._next else self._fetch(wait=True)
        jobs: list[Job] = []
        cost = 0
        while self._next:
            cost += self._cost(self._next[0])
            if jobs and cost > self._max_cost:
                break
            jobs.append(self._next.popleft())
            if more and not self._next:
                more = self._fetch(wait=False)
        return jobs, more

    def _fetch(self, *, wait: bool) -> bool:
        """Take what was handed over; False where nothing more will be."""
        try:
            jobs = self._queue.get(block=wait)
        except Empty:
            return True
        if jobs is None:
            return False
        self._next.extend(jobs)
        return True

    def _carry_out(self, jobs: list[Job]) -> bool:
        try:
            results = self._commit(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing of it may be acknowledged
            problem = error if isinstance(error, StoreError) else StoreError(f"{error}")
            self._loop.call_soon_threadsafe(self._failed, problem)
            return False
        self._loop.call_soon_threadsafe(self._deliver, jobs, results)
        return True
