"""What a fault is given: its sizes, its chance, where to write, and where to say what it did."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a run is; times are in seconds."""

    sleds: int
    # Each process holds so many sleds, except where sleds are killed one by one.
    sleds_per_process: int
    events: int
    gateway_kills: int
    sled_kills: int
    power_losses: int
    disk_error_rounds: int
    network_rounds: int
    chat_breaks: int
    # Until a black hole, a pause or a delay ends.
    long: float
    # A round's events of one sled take longer than `limits.ACK_LIMIT` at this rate.
    slow_bytes_a_second: float
    slow_reader_events: int
    slow_readers: int
    # Whether what depends on the machine's speed is judged.
    judge_times: bool
    storm_sleds: int
    storm_readers: int
    mix_rounds: int
    schedules: int
    simulated_hours: float
    # Chain, and ring, of three gateways that are cut off from each other; events of each sled in each.
    mesh_shapes: int
    mesh_events: int
    partition_rounds: int
    rot_gateways: int
    rot_rounds: int
    rot_events: int
    # Limits of the product that are shortened: in the whole form only that sleds are back sooner after each
    # break, which makes room for more of them; in a quick run whatever it would wait for.
    limits: tuple[str, ...] = ()


# Workload W of the list of faults.
WHOLE = Sizes(
    sleds=20,
    sleds_per_process=5,
    events=10_000,
    gateway_kills=200,
    sled_kills=100,
    power_losses=60,
    disk_error_rounds=10,
    network_rounds=20,
    chat_breaks=60,
    long=60.0,
    slow_bytes_a_second=1_200.0,
    slow_reader_events=60_000,
    slow_readers=50,
    judge_times=True,
    storm_sleds=500,
    storm_readers=1_000,
    mix_rounds=24,
    schedules=100_000,
    simulated_hours=1_000.0,
    mesh_shapes=2,
    mesh_events=5_000,
    partition_rounds=10,
    rot_gateways=3,
    rot_rounds=45,
    rot_events=1_500,
    limits=("BACKOFF_FIRST=0.1",),
)
QUICK = Sizes(
    sleds=3,
    sleds_per_process=3,
    events=240,
    gateway_kills=4,
    sled_kills=4,
    power_losses=3,
    disk_error_rounds=1,
    network_rounds=7,
    chat_breaks=4,
    long=0.7,
    slow_bytes_a_second=1_500.0,
    slow_reader_events=4_500,
    slow_readers=3,
    judge_times=False,
    storm_sleds=25,
    storm_readers=50,
    mix_rounds=6,
    schedules=200,
    simulated_hours=2.0,
    mesh_shapes=1,
    mesh_events=120,
    partition_rounds=2,
    rot_gateways=2,
    rot_rounds=4,
    rot_events=240,
    limits=(
        "BACKOFF_FIRST=0.1",
        "ACK_LIMIT=1",
        "GREETING_LIMIT=1",
        "PING_INTERVAL=0.5",
        "SILENCE_LIMIT=2",
        "SLOW_READER_LIMIT=1",
    ),
)


@dataclass
class Report:
    """What a fault did, in the order in which it was noted; numbers noted again are added up."""

    facts: dict[str, int | str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            before = self.facts.get(what, 0)
            assert isinstance(before, int), what
            self.facts[what] = before + number

    def note(self, what: str, text: str) -> None:
        with self._lock:
            self.facts[what] = text

    def __str__(self) -> str:
        return ", ".join(f"{what} {_shown(value)}" for what, value in self.facts.items())


def _shown(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


class Setting:
    """One fault's run. The same seed draws the same faults, as far as real processes repeat themselves."""

    def __init__(self, sizes: Sizes, seed: int, directory: Path, *, report: Report | None = None) -> None:
        self.sizes = sizes
        self.seed = seed
        self.directory = directory
        self.rng = random.Random(seed)
        self.report = report or Report()
        # Whether a power loss takes everything that was not synced, instead of what chance says.
        self.harsh = False
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def planted_limits(self) -> list[str]:
        """Options of `faults.process` that shorten the product's limits."""
        return [f"--limit={change}" for change in self.sizes.limits]
