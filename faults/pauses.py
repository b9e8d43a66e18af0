"""Fault 12: SIGSTOP, a clock that is an hour off, and a rotating mix of all; nothing grows meanwhile."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable
from pathlib import Path

from faults.fleet import Fleet, running_fleet
from faults.network import BREAKS, heal
from faults.proxy import Seen
from faults.setting import Setting
from faults.sleds import SledProcess
from faults.triggers import Trigger

_HOUR = 3_600.0
# What a process may differ by from round to round: allocators and caches that fill up.
_MEMORY_NOISE_KIB = 40 << 10
_DESCRIPTORS_NOISE = 12
# The gateway's index is checkpointed every 64 MiB, on purpose; everything else every 4.
_WAL_MAX = 80 << 20


class Usage:
    """What gateway, sleds and their stores take, measured whenever everything is drained."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self.descriptors: list[int] = []
        self.bytes_an_event: list[float] = []
        self.wal: list[int] = []

    def measure(self, fleet: Fleet) -> None:
        processes = [fleet.running, *(sled.running for sled in fleet.sleds)]
        self.memory.append(sum(process.memory_kib() for process in processes))
        self.descriptors.append(sum(process.descriptors() for process in processes))
        stores = [path for path in fleet.setting.directory.rglob("*.db*") if path.suffix != ".db-shm"]
        self.wal.append(max(path.stat().st_size for path in stores if path.suffix == ".db-wal"))
        held = sum(path.stat().st_size for path in stores if path.suffix == ".db")
        self.bytes_an_event.append(held / len(fleet.log))

    def check_flat(self, fleet: Fleet) -> None:
        """The last third is as the middle one; the first is still warming up."""
        third = len(self.memory) // 3
        middle, last = slice(third, 2 * third), slice(2 * third, None)
        memory = statistics.median(self.memory[last]) - statistics.median(self.memory[middle])
        files = statistics.median(self.descriptors[last]) - statistics.median(self.descriptors[middle])
        report = fleet.setting.report
        report.note("memory", f"{self.memory[-1] / 1024:.0f} MiB, {memory / 1024:+.1f} MiB since the middle")
        report.note("descriptors", f"{self.descriptors[-1]}, {files:+.0f} since the middle")
        report.note("largest WAL", f"{max(self.wal) / (1 << 20):.1f} MiB")
        report.note("stores", f"{self.bytes_an_event[-1]:.0f} bytes an event")
        processes = 1 + len(fleet.sleds)
        assert memory < _MEMORY_NOISE_KIB * processes, self.memory
        assert files < _DESCRIPTORS_NOISE * processes, self.descriptors
        assert max(self.wal) < _WAL_MAX, self.wal
        assert self.bytes_an_event[-1] < 1.5 * max(self.bytes_an_event[third], 200), self.bytes_an_event


class Clocks:
    """The wall clocks of gateway and sleds, each in a file that its process reads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()

    def file(self, name: str) -> Path:
        path = self._directory / name
        path.write_bytes(struct.pack("d", 0.0))
        return path

    def set_all(self, draw: Callable[[], float]) -> None:
        for path in sorted(self._directory.iterdir()):
            # In place: the file is mapped.
            with path.open("r+b") as file:
                file.write(struct.pack("d", draw()))


def run(setting: Setting) -> None:
    with running_fleet(setting) as fleet:
        clocks = Clocks(setting.directory / "clocks")
        fleet.gateway_planted += ["--clock", str(clocks.file("gateway"))]
        for sled in fleet.sleds:
            sled.planted += ["--clock", str(clocks.file(sled.names[0]))]
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        usage = Usage()
        mix = Mix(fleet, clocks)
        rounds = setting.sizes.mix_rounds
        for number in range(rounds):
            goal = setting.sizes.events * (number + 1) // rounds
            name = mix.next()
            mix.steps[name](goal)
            heal(fleet)
            setting.report.count(name)
            usage.measure(fleet)
        fleet.judge()
        usage.check_flat(fleet)


class Mix:
    """All faults by name; each is drawn once before any is drawn again."""

    def __init__(self, fleet: Fleet, clocks: Clocks) -> None:
        self._fleet = fleet
        self._clocks = clocks
        self._rng = fleet.setting.rng
        self.steps: dict[str, Callable[[int], None]] = {
            "gateway stopped and continued": self._pause_gateway,
            "sleds stopped and continued": self._pause_sleds,
            "clocks an hour off": self._shift_clocks,
            "gateway killed": self._kill_gateway,
            "sled killed": self._kill_sled,
            "network broken": self._break_network,
        }
        self._left: list[str] = []

    def next(self) -> str:
        if not self._left:
            self._left = list(self.steps)
            self._rng.shuffle(self._left)
        return self._left.pop()

    def _pause_gateway(self, goal: int) -> None:
        """In the middle of frames: sleds give the connection up, and it wakes up to sessions of the past."""
        running = self._fleet.running
        self._at_frame("events", goal, lambda _: running.pause())
        self._wait()
        running.go_on()

    def _pause_sleds(self, goal: int) -> None:
        def pause(seen: Seen) -> None:
            paused.append(self._fleet.sled_of(seen.line.project))
            paused[0].running.pause()

        paused: list[SledProcess] = []
        self._at_frame("ack", goal, pause)
        self._wait()
        paused[0].running.go_on()

    def _shift_clocks(self, goal: int) -> None:
        """Each by itself, forward or back, while it runs; and over a restart."""
        self._clocks.set_all(lambda: self._rng.choice((-_HOUR, 0.0, _HOUR)))
        self._fleet.aim(goal)
        self._fleet.settle()
        self._rng.choice(self._fleet.sleds).restart()
        self._fleet.kill_gateway()
        self._fleet.start_gateway()

    def _kill_gateway(self, goal: int) -> None:
        self._at_frame("ack", goal, lambda _: self._fleet.running.popen.kill())
        self._fleet.kill_gateway()
        self._fleet.start_gateway()

    def _kill_sled(self, goal: int) -> None:
        def kill(seen: Seen) -> None:
            killed.append(self._fleet.sled_of(seen.line.project))
            killed[0].running.popen.kill()

        killed: list[SledProcess] = []
        self._at_frame("events", goal, kill)
        killed[0].restart()

    def _break_network(self, goal: int) -> None:
        name = self._rng.choice(sorted(BREAKS))
        BREAKS[name](self._fleet, goal)
        self._fleet.setting.report.count(f"… by {name}")

    def _at_frame(self, kind: str, goal: int, act: Callable[[Seen], None]) -> None:
        number = self._rng.randint(1, self._fleet.setting.sizes.sleds)
        trigger = Trigger(self._fleet.proxy, kind, number, act, withhold=False)
        self._fleet.aim(goal)
        trigger.sprung()

    def _wait(self) -> None:
        # How long it is stopped is the fault.
        time.sleep(self._fleet.setting.sizes.long)
