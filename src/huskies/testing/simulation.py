"""Running simulations: one seed, or so many that they add up to so many hours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, repeat
from math import ceil
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web_app

from huskies.testing import knobs
from huskies.testing.faults import Faults
from huskies.testing.fleet import SledNode
from huskies.testing.judge import heads_of, judge
from huskies.testing.outboxes import unsettled
from huskies.testing.surroundings import replaced, simulated
from huskies.testing.world import LogWatch, World

HOUR: Final = 3_600.0
HOURS_EACH: Final = 2.0
_FAULT_SECONDS: Final = (40.0, 150.0, 500.0)
_PUBLISH_SECONDS: Final = (60.0, 300.0, 1_200.0)
_BURSTS: Final = (1, 1, 1, 2, 3, 30)
_PADDING: Final = (0, 0, 0, 0, 100, 5_000)
_REST_LIMIT: Final = 2 * HOUR
_LOOK_SECONDS: Final = 10.0
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - memory, where there is such a directory


class Outcome(msgspec.Struct):
    """What came of one seed: `trace_hash` is the same whenever the seed is run again for as long."""

    seed: int
    hours: float
    violations: list[str]
    faults: Counter[str]
    events: Counter[str]
    trace_hash: str
    processor_seconds: float = 0.0


class Report(msgspec.Struct):
    """What came of several seeds; `failed` holds those with violations."""

    seeds: int = 0
    hours: float = 0.0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    events: Counter[str] = msgspec.field(default_factory=Counter)
    failed: list[Outcome] = []
    processor_seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.hours += outcome.hours
        self.faults += outcome.faults
        self.events += outcome.events
        self.processor_seconds += outcome.processor_seconds
        if outcome.violations:
            self.failed.append(outcome)

    def lines(self) -> list[str]:
        """For a person."""
        total = sum(self.faults.values())
        seconds, hours = max(self.processor_seconds, 1e-9), max(self.hours, 1e-9)
        found = [
            f"{self.seeds} seeds, {hours:g} simulated hours in {seconds:.1f} s of one processor",
            f"{hours / seconds:.2f} simulated hours a second, {total / hours:.1f} faults a simulated hour",
            "events: " + ", ".join(f"{count} {what}" for what, count in self.events.items()),
            "faults: " + ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items())),
        ]
        for outcome in self.failed:
            found.append(
                f"seed {outcome.seed} FAILED; python -m huskies.testing --seed {outcome.seed} "
                f"--hours {outcome.hours:g} --trace shows how"
            )
            found += [f"    {violation}" for violation in outcome.violations]
        return found


def run(
    seeds: Iterable[int],
    hours: float,
    *,
    hours_each: float = HOURS_EACH,
    jobs: int = 1,
    tell: Callable[[Outcome], None] | None = None,
) -> Report:
    """Run these seeds, each for `hours_each` simulated hours, up to `hours` of them, in `jobs` processes.

    `tell` is called with each seed's outcome as soon as there is one.
    """
    report = Report()
    for outcome in _outcomes(islice(seeds, ceil(hours / hours_each)), hours_each, jobs):
        report.add(outcome)
        if tell is not None:
            tell(outcome)
    return report


def _outcomes(seeds: Iterable[int], hours_each: float, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(run_seed, seeds, repeat(hours_each))
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run_seed, seeds, repeat(hours_each))


def run_seed(seed: int, hours: float = HOURS_EACH, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed; `trace` is called with each line of what happens."""
    began = time.process_time()
    with _quiet_collector():
        outcome = _run_seed(seed, hours, trace)
    outcome.processor_seconds = time.process_time() - began
    return outcome


def _run_seed(seed: int, hours: float, trace: Callable[[str], None] | None) -> Outcome:
    with _scratch() as directory:
        world = World(seed, directory, trace)
        with (
            simulated(world.loop, world.random_of("entropy")),
            knobs.turned(world.random_of("knobs")),
            _watched_logs(world, shows=trace is not None),
        ):
            try:
                events = world.loop.run(_play(world, hours))
            finally:
                world.end()
    for error in world.loop.errors:
        world.violated(f"nobody caught {error}")
    return Outcome(seed, hours, world.violations, world.counts, events, world.trace_hash)


async def _play(world: World, hours: float) -> Counter[str]:
    world.populate()
    faults = Faults(world)
    for sled in world.sleds.values():
        _Publisher(world, sled, hours * HOUR).next()
    random = world.random_of("driver")
    mean = random.choice(_FAULT_SECONDS)
    while True:
        await asyncio.sleep(random.expovariate(1 / mean))
        if world.loop.time() >= hours * HOUR:
            break
        faults.strike()
    faults.calm()
    await _come_to_rest(world)
    return judge(world)


class _Publisher:
    """Lets a sled publish now and then, until the end."""

    def __init__(self, world: World, sled: SledNode, end: float) -> None:
        self._world = world
        self._sled = sled
        self._end = end
        self._random = world.random_of(f"publisher {sled.name}")
        self._mean = self._random.choice(_PUBLISH_SECONDS)

    def next(self) -> None:
        """Some events, and when the next ones come."""
        self._sled.publish(self._random.choice(_BURSTS), self._random.choice(_PADDING))
        if self._world.loop.time() < self._end:
            self._world.later(self._random.expovariate(1 / self._mean), self.next)


async def _come_to_rest(world: World) -> None:
    """Until everything is delivered everywhere; reports what is not, after long enough."""
    end = world.loop.time() + _REST_LIMIT
    await asyncio.sleep(_LOOK_SECONDS)
    for sled in world.sleds.values():
        sled.publish(1, 0)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        restless = _restless(world)
        if not restless:
            return
        if world.loop.time() > end:
            world.violated(f"does not come to rest: {'; '.join(restless)}")
            return


def _restless(world: World) -> list[str]:
    found = [f"{node.name} is down" for node in world.nodes if node.service is None]
    if found:
        return found
    for name, sled in world.sleds.items():
        if problem := unsettled(sled.outbox):
            found.append(f"{name}: {problem}")
    heads = [heads_of(gateway) for gateway in world.gateways.values()]
    found += [f"{name} differs" for name, head in zip(world.gateways, heads, strict=True) if head != heads[0]]
    for name, reader in world.readers.items():
        gateway = reader.gateway.gateway
        head = 0 if gateway is None else gateway.feed.head.position
        if not head or reader.position < head:
            found.append(f"{name} has read up to {reader.position} of {head}")
    return found


@contextlib.contextmanager
def _scratch() -> Generator[Path]:
    parent = _MEMORY if _MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="huskies-testing-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _quiet_collector() -> Generator[None]:
    """Collect garbage between seeds, so that nothing of it happens at a time of its own choosing."""
    enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    with warnings.catch_warnings():
        # Whoever is killed closes nothing.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            yield
        finally:
            # aiohttp keeps the handlers of every application there ever was, and with them all they hold.
            web_app._cached_build_middleware.cache_clear()  # noqa: SLF001 - see above
            gc.collect()
            gc.unfreeze()
            if enabled:
                gc.enable()


@contextlib.contextmanager
def _watched_logs(world: World, *, shows: bool) -> Generator[None]:
    watch = LogWatch(world, shows=shows)
    with contextlib.ExitStack() as stack:
        for name in ("huskies", "aiohttp"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            stack.enter_context(replaced(logger, handlers=[watch], propagate=False))
            logger.setLevel(watch.level)
        yield
