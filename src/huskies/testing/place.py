"""A place in a simulation: a machine with an address, a disk and a clock of its own."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from huskies.testing.disk import Disk

if TYPE_CHECKING:
    from huskies.testing.loop import SimulatedLoop


class Clock:
    """A wall clock that is wrong by an offset, runs too fast or too slow, and is set now and then."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self._loop = loop
        # Somewhere in 2027.
        self._offset = 1_800_000_000.0 + random.uniform(-5.0, 5.0)
        self._rate = 1.0 + random.uniform(-100e-6, 100e-6)

    def now(self) -> float:
        """Unix seconds as this place believes them to be."""
        return self._offset + self._rate * self._loop.time()

    def jump(self, seconds: float) -> None:
        """Set it by so much."""
        self._offset += seconds


class Place:
    """A machine at `host`; while it is not `is_on`, nothing there answers, not even with a refusal."""

    def __init__(self, loop: SimulatedLoop, name: str, host: str, directory: Path, random: Random) -> None:
        self.name = name
        self.host = host
        self.directory = directory
        self.is_on = True
        self.clock = Clock(loop, random)
        self.disk = Disk(Random(random.getrandbits(64)))  # noqa: S311 - repeatable
