"""Fault 8: bits flipped and tails cut in one gateway's store, while others that replicate with it are sound.

Damage is found, named and served to no one; it does not spread; it is repaired from the other gateways, or
the gateway does not start, says why in one line, and is rebuilt from them with an empty directory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from faults.mesh import Gateway, Mesh, running_mesh
from faults.processes import PATIENCE, EndedError, Process, until, whole_log
from faults.rot import Column, Flipped, cut, flip, flip_anywhere, flip_block
from faults.setting import Setting

_LIMITS = ("MEND_INTERVAL=0.2", "RETURN_INTERVAL=1", "GREETING_LIMIT=3")
_Identity = tuple[str, str, int]
_Log = dict[_Identity, Any]


def run(setting: Setting) -> None:
    sizes = dataclasses.replace(setting.sizes, limits=(*_LIMITS, *setting.sizes.limits))
    part = Setting(sizes, setting.seed, setting.directory / "mesh", report=setting.report)
    with running_mesh(part, sizes.rot_gateways, "chain") as mesh:
        mesh.start()
        rounds = sizes.rot_rounds
        steps = list(_STEPS.items())
        for turn in range(rounds):
            mesh.aim(max(mesh.sleds[0].goal, sizes.rot_events * (turn + 1) // rounds))
            mesh.settle()
            name, step = steps[turn % len(steps)]
            victim = part.rng.choice(mesh.gateways)
            step(Rot(mesh, victim))
            part.report.count(name)
            mesh.settle()
            _is_sound(victim)
        mesh.judge()


class Rot:
    """One gateway's store while it is damaged, and what the others hold, which is the truth."""

    def __init__(self, mesh: Mesh, victim: Gateway) -> None:
        self._mesh = mesh
        self.setting = mesh.setting
        self.rng = mesh.setting.rng
        self.victim = victim
        self.store = victim.data / "log.db"
        self.wal = victim.data / "log.db-wal"
        self._sound = next(one for one in mesh.gateways if one is not victim)
        self._truth = _log(self._sound)

    def flip_while_it_runs(self, column: Column) -> None:
        """Found when it is next read from the disk. What lies in the WAL alone is not touched, so it is put
        down first; and what SQLite remembers of the file is forgotten with the next commit.
        """
        self.victim.end()
        self.victim.start()
        flipped = self._flip(column, older=True)
        self._mesh.aim(self._mesh.sleds[0].goal + 1)
        self._mesh.settle()
        self._truth = _log(self._sound)
        self._found_and_mended(flipped)

    def flip_at_rest(self, column: Column) -> None:
        self.victim.end()
        flipped = self._flip(column)
        self._verify_names(flipped.position)
        if self.start():
            self._found_and_mended(flipped)

    def _flip(self, column: Column, *, older: bool = False) -> Flipped:
        flipped = flip_block(self.store, column, self.rng, older=older)
        assert flipped is not None, "there is no block in the main file"
        return flipped

    def start(self) -> bool:
        """Start it; where it does not, with one line that says why, rebuild it with an empty directory."""
        self.victim.launch()
        try:
            self.victim.opened()
        except EndedError:
            _refused_in_one_line(self.victim.running)
            self.setting.report.count("refused to start")
            self.rebuild()
            return False
        return True

    def rebuild(self) -> None:
        """What an operator does: an empty directory, and the other gateways."""
        self.victim.kill()
        self.victim.lose_disk()
        self.victim.start()
        self.setting.report.count("rebuilt from the others")

    def _found_and_mended(self, flipped: Flipped) -> None:
        self.served_is_true()
        self.victim.running.find(rf"damaged at positions {flipped.position} to \d+")
        self.setting.report.count("damaged blocks found and named")
        if flipped.column == "runs" or (flipped.column == "chain" and flipped.newest):
            # What stood there cannot be asked for, or no later block says whether the answer is right.
            self.rebuild()
            return
        until(lambda: _damaged(self.victim) == 0, f"{flipped} is repaired")
        self.setting.report.count("repaired from the others")

    def served_is_true(self) -> None:
        """Whatever it serves now is what the others hold."""
        for identity, event in _log(self.victim).items():
            assert self._truth.get(identity) == event, f"{identity} was served as {event}"

    def _verify_names(self, position: int) -> None:
        said = _verified(self.victim.data)
        assert said.popen.returncode == 1, said.output
        assert re.search(rf"position {position}\b", said.output), said.output

    def heal_by_whatever_it_takes(self) -> None:
        """After damage of no known place: what is not repaired soon, or lies elsewhere, is made anew."""
        if self.start():
            self.served_is_true()
            said = _verified(self.victim.data)
            if said.popen.returncode:
                self.rebuild()


def _in_wal(rot: Rot, harm: Callable[[Rot], None]) -> None:
    """Killed, so that its newest commits lie in the WAL."""
    rot.victim.kill()
    harm(rot)
    rot.heal_by_whatever_it_takes()


def _in_main_file(rot: Rot, harm: Callable[[Rot], object]) -> None:
    rot.victim.end()
    harm(rot)
    rot.heal_by_whatever_it_takes()


def _flip_wal(rot: Rot) -> None:
    if rot.wal.exists() and (size := rot.wal.stat().st_size):
        flip(rot.wal, rot.rng.randrange(size), rot.rng)


def _cut_wal(rot: Rot) -> None:
    if rot.wal.exists() and rot.wal.stat().st_size:
        cut(rot.wal, rot.rng)


_STEPS: dict[str, Callable[[Rot], None]] = {
    "events flipped while it runs": lambda rot: rot.flip_while_it_runs("events"),
    "WAL flipped": lambda rot: _in_wal(rot, _flip_wal),
    "runs flipped": lambda rot: rot.flip_at_rest("runs"),
    "log cut": lambda rot: _in_main_file(rot, lambda one: cut(one.store, one.rng)),
    "checksum flipped": lambda rot: rot.flip_at_rest("chain"),
    "events flipped": lambda rot: rot.flip_at_rest("events"),
    "WAL cut": lambda rot: _in_wal(rot, _cut_wal),
    "flipped anywhere in the log": lambda rot: _in_main_file(
        rot, lambda one: flip_anywhere(one.store, one.rng)
    ),
    "runs flipped while it runs": lambda rot: rot.flip_while_it_runs("runs"),
}


def _log(gateway: Gateway) -> _Log:
    return {
        (each["sled_id"], each["epoch"], each["seq"]): (each["project"], each["event"])
        for each in whole_log(gateway.url)
    }


def _damaged(gateway: Gateway) -> int:
    with urlopen(f"{gateway.url}/metrics", timeout=PATIENCE) as answer:
        found = re.search(rb"(?m)^huskies_log_damaged (\d+)", answer.read())
    assert found is not None
    return int(found[1])


def _verified(data: Path) -> Process:
    process = Process("verify", "--data-dir", str(data), planted=[])
    process.wait(60)
    return process


def _is_sound(gateway: Gateway) -> None:
    said = _verified(gateway.data)
    assert said.popen.returncode == 0, said.output
    assert "sound" in said.output, said.output


def _refused_in_one_line(process: Process) -> None:
    status = process.wait(60)
    said = [line for line in process.lines if line.startswith("huskies: ")]
    assert status in {1, 2}, f"status {status}: {process.output}"
    assert len(said) == 1, process.output
    assert "log.db" in said[0] or "position" in said[0], said[0]
    assert "Traceback" not in process.output, process.output
