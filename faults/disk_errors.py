"""Fault 4: EIO and ENOSPC on write, on fsync and at start.

Nothing is acknowledged after the error, the process says what is wrong and ends with status 1, and with a
disk that works again everything is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from faults.disk.failing import MARK
from faults.fleet import Fleet, running_fleet
from faults.processes import EndedError, Process
from faults.setting import Setting
from faults.sleds import SledProcess


class Case(NamedTuple):
    """The n-th call of a kind on a file fails, `numbers` being the range of n."""

    call: str
    error: str
    file: str
    numbers: tuple[int, int]

    def drawn(self, setting: Setting) -> str:
        return f"{self.call}:{self.error}:{self.file}:{setting.rng.randint(*self.numbers)}"


_GATEWAY = (
    Case("write", "EIO", "log.db-wal", (5, 12)),
    Case("write", "ENOSPC", "log.db-wal", (5, 12)),
    Case("fsync", "EIO", "log.db-wal", (2, 3)),
)
_SLED = (
    Case("write", "EIO", "outbox.db-wal", (5, 12)),
    Case("write", "ENOSPC", "outbox.db-wal", (5, 12)),
    Case("fsync", "EIO", "outbox.db-wal", (2, 3)),
)
_AT_START: dict[str, tuple[Case, ...]] = {
    "gateway": (
        Case("write", "EIO", "log.db", (1, 1)),
        Case("write", "ENOSPC", "log.db-wal", (1, 1)),
        Case("fsync", "EIO", "log.db-wal", (1, 1)),
        Case("fsync", "ENOSPC", "gateway.new", (1, 1)),
    ),
    "sled": (
        Case("write", "EIO", "outbox.db", (1, 1)),
        Case("write", "ENOSPC", "outbox.db-wal", (1, 1)),
        Case("fsync", "EIO", "outbox.db-wal", (1, 1)),
        Case("fsync", "ENOSPC", ".tmp", (1, 1)),
    ),
}


def run(setting: Setting) -> None:
    for kind, cases in _AT_START.items():
        few = setting.rng.sample(cases, min(len(cases), 2 * setting.sizes.disk_error_rounds))
        for number, case in enumerate(few):
            _at_start(setting, kind, case, setting.directory / f"start-{kind}{number}")
    with running_fleet(setting) as fleet:
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        running = (*_GATEWAY, *_SLED) * setting.sizes.disk_error_rounds
        for number, case in enumerate(running, 1):
            fail = _fail_gateway if case in _GATEWAY else _fail_sled
            fail(fleet, case.drawn(setting), setting.sizes.events * number // len(running))
        fleet.judge()


def _at_start(setting: Setting, kind: str, case: Case, directory: Path) -> None:
    (directory / ".huskies").mkdir(parents=True)
    planted = ["--disk", str(directory), "--fail", case.drawn(setting)]
    arguments = ["gateway", "--data-dir", str(directory)] if kind == "gateway" else ["sled", str(directory)]
    process = Process(*arguments, "--port", "0", planted=planted)
    _check_end(setting, process, allowed=(1, 2), file=directory.name)


def _fail_gateway(fleet: Fleet, plan: str, goal: int) -> None:
    fleet.kill_gateway()
    plain = fleet.gateway_planted
    fleet.gateway_planted = ["--disk", str(fleet.data), "--fail", plan]
    try:
        fleet.start_gateway()
        fleet.aim(goal)
    except EndedError:
        # It already failed while it started.
        fleet.aim(goal)
    _check_end(fleet.setting, fleet.running, allowed=(1,), file="log.db")
    fleet.proxy.target = fleet.readers_proxy.target = None
    fleet.gateway_planted = plain
    fleet.start_gateway(open_to_sleds=False)
    fleet.check_what_gateway_acknowledged()
    fleet.open_to_sleds()


def _fail_sled(fleet: Fleet, plan: str, goal: int) -> None:
    victim: SledProcess = fleet.setting.rng.choice(fleet.sleds)
    victim.kill()
    plain = victim.planted
    victim.planted = ["--disk", str(victim.projects[0].parent), "--fail", plan]
    victim.start()
    fleet.aim(goal)
    _check_end(fleet.setting, victim.running, allowed=(1,), file="outbox.db")
    victim.planted = plain
    victim.start()


def _check_end(setting: Setting, process: Process, *, allowed: tuple[int, ...], file: str) -> None:
    status = process.wait(60)
    assert MARK in process.output, f"the planted fault was not met: {process.output}"
    assert status in allowed, f"status {status}, expected one of {allowed}: {process.output}"
    assert "Traceback" not in process.output, process.output
    said = [line for line in process.lines if line.startswith("huskies: ")]
    assert len(said) == 1, process.output
    assert file in said[0], process.output
    setting.report.count(f"processes ended with status {status}")
