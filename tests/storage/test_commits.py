from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from huskies.errors import StoreError
from huskies.storage.commits import CommitThread

PATIENCE = 10


class Store:
    """What a commit thread was asked to do, and what it told."""

    def __init__(self) -> None:
        self.commits: list[list[int]] = []
        self.delivered: list[tuple[int, str]] = []
        self.failures: list[StoreError] = []
        self.fails: BaseException | None = None
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.begun = threading.Event()
        self.told = asyncio.Event()

    def commit(self, jobs: Sequence[int]) -> list[str]:
        self.begun.set()
        assert self.may_commit.wait(PATIENCE)
        if self.fails is not None:
            raise self.fails
        self.commits.append(list(jobs))
        return [f"did {job}" for job in jobs]

    def deliver(self, jobs: Sequence[int], results: Sequence[str]) -> None:
        self.delivered.extend(zip(jobs, results, strict=True))
        self.told.set()

    def failed(self, error: StoreError) -> None:
        self.failures.append(error)
        self.told.set()

    async def until_told(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.told.wait()
        self.told.clear()


Start = Callable[..., CommitThread[int, str]]


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def start(store: Store) -> AsyncIterator[Start]:
    threads: list[CommitThread[int, str]] = []

    def start_one(max_cost: int = 1_000) -> CommitThread[int, str]:
        threads.append(
            CommitThread(
                name="test",
                commit=store.commit,
                deliver=store.deliver,
                failed=store.failed,
                cost=lambda job: job,
                max_cost=max_cost,
            )
        )
        return threads[-1]

    yield start_one
    store.may_commit.set()
    for thread in threads:
        await thread.stop()


async def hold_up(store: Store, thread: CommitThread[int, str]) -> None:
    """Let the thread begin a commit of job 0 and not end it."""
    store.may_commit.clear()
    thread.submit(0)
    await asyncio.to_thread(store.begun.wait, PATIENCE)


async def test_jobs_are_carried_out_and_delivered_in_order(store: Store, start: Start) -> None:
    thread = start()
    for job in range(50):
        thread.submit(job)
        if job % 7 == 0:
            await asyncio.sleep(0)
    await thread.stop()
    assert [job for jobs in store.commits for job in jobs] == list(range(50))
    assert store.delivered == [(job, f"did {job}") for job in range(50)]


async def test_jobs_of_one_turn_of_the_loop_are_committed_together(store: Store, start: Start) -> None:
    thread = start()
    for job in (1, 2, 3):
        thread.submit(job)
    await store.until_told()
    assert store.commits == [[1, 2, 3]]


async def test_what_comes_during_a_commit_is_committed_together_after_it(store: Store, start: Start) -> None:
    thread = start()
    await hold_up(store, thread)
    for job in (1, 2, 3):
        thread.submit(job)
        await asyncio.sleep(0)
    assert store.delivered == []
    store.may_commit.set()
    await thread.stop()
    assert store.commits == [[0], [1, 2, 3]]


async def test_a_commit_weighs_at_most_its_maximum_unless_one_job_alone_does(
    store: Store, start: Start
) -> None:
    thread = start(max_cost=10)
    await hold_up(store, thread)
    for job in (6, 6, 4, 5, 5, 1, 30, 2):
        thread.submit(job)
    store.may_commit.set()
    await thread.stop()
    assert [job for jobs in store.commits for job in jobs] == [0, 6, 6, 4, 5, 5, 1, 30, 2]
    assert all(sum(jobs) <= 10 or len(jobs) == 1 for jobs in store.commits), store.commits


async def test_a_failing_commit_delivers_nothing_and_is_told_once(store: Store, start: Start) -> None:
    thread = start()
    await hold_up(store, thread)
    store.fails = StoreError("the disk is full")
    thread.submit(1)
    await asyncio.sleep(0)
    store.may_commit.set()
    await store.until_told()
    thread.submit(2)
    await thread.stop()
    assert (store.delivered, store.commits) == ([], [])
    assert store.failures == [store.fails]


async def test_whatever_a_commit_raises_becomes_a_store_error(store: Store, start: Start) -> None:
    store.fails = ValueError("odd")
    start().submit(1)
    await store.until_told()
    assert [str(error) for error in store.failures] == ["odd"]


async def test_what_was_delivered_before_a_failure_stays_delivered(store: Store, start: Start) -> None:
    thread = start()
    thread.submit(1)
    await store.until_told()
    store.fails = OSError("gone")
    thread.submit(2)
    await store.until_told()
    assert store.delivered == [(1, "did 1")]
    assert len(store.failures) == 1


async def test_stop_carries_out_and_delivers_what_was_submitted(store: Store, start: Start) -> None:
    thread = start(max_cost=1)
    await hold_up(store, thread)
    for job in range(1, 20):
        thread.submit(job)
    stopping = asyncio.create_task(thread.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    store.may_commit.set()
    await stopping
    assert [job for job, _ in store.delivered] == list(range(20))


async def test_after_stop_nothing_is_carried_out(store: Store, start: Start) -> None:
    thread = start()
    await thread.stop()
    thread.submit(1)
    await asyncio.sleep(0)
    await thread.stop()
    assert store.commits == []
