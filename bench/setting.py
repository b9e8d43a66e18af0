"""How much is measured, and what the measurements of one run share."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from bench.report import Table

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    rounds: int
    sleds: int
    batch_frames: int
    single_frames: int
    lockstep_rounds: int
    paced_seconds: float
    idle_sleds: int
    log_events: int
    replicated: int
    stories: int
    emits: int
    peer_events: int
    index_wait: float
    counted: int
    told: int
    passed: int


FULL: Final = Sizes(
    rounds=3,
    sleds=100,
    batch_frames=200,
    single_frames=6_000,
    lockstep_rounds=400,
    paced_seconds=10.0,
    idle_sleds=10_000,
    log_events=10_000_000,
    replicated=1_000_000,
    stories=2_000,
    emits=20,
    peer_events=600_000,
    index_wait=900.0,
    counted=1_000_000,
    told=80,
    passed=100_000,
)
QUICK: Final = Sizes(
    rounds=1,
    sleds=10,
    batch_frames=10,
    single_frames=100,
    lockstep_rounds=5,
    paced_seconds=0.3,
    idle_sleds=50,
    log_events=20_000,
    replicated=20_000,
    stories=50,
    emits=2,
    peer_events=2_000,
    index_wait=10.0,
    counted=2_000,
    told=3,
    passed=1_000,
)


@dataclass(kw_only=True)
class Bench:
    """One run: sizes, where its files go, what was found so far."""

    sizes: Sizes
    scratch: Path
    table: Table = field(default_factory=Table)
    # Events a second that were acknowledged with 100 a frame; what others are compared with.
    ingest_rate: float | None = None
    _directories: int = 0

    def directory(self, name: str) -> Path:
        """A path that nothing uses yet."""
        self._directories += 1
        return self.scratch / f"{self._directories:03d}-{name}"

    def clear(self) -> None:
        """Remove the files of what was measured."""
        for path in self.scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True)


def run(work: Coroutine[Any, Any, _T], seconds: float, *, pin: bool = True) -> _T:
    """Run the driver's side on uvloop, within so many seconds, on the last core alone."""

    async def bounded() -> _T:
        async with asyncio.timeout(seconds):
            return await work

    with pinned() if pin else unpinned(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


@contextmanager
def unpinned() -> Iterator[None]:
    yield


@contextmanager
def pinned() -> Iterator[None]:
    """Keep this thread on the last core; processes that are started outside of this are free."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pace(rate: float, count: int, action: Callable[[int, float], object]) -> None:
    """Call `action(number, due)` on a fixed schedule, late rather than never. Blocks: for a thread."""
    begin = time.perf_counter() + 0.05
    for number in range(count):
        due = begin + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        action(number, due)


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> str:
    """How the rounds differed."""
    if len(values) < 2:
        return ""
    return f"median of {len(values)}, {min(values):,.0f} to {max(values):,.0f}"
