"""Fault 9: an older outbox or gateway store restored from a backup; a sled cloned in its own place.

Each ends in a new epoch or in quarantine: no seq that was used is accepted for something else.
"""

from __future__ import annotations

import shutil

from faults.copies import Clone
from faults.fleet import Fleet, running_fleet
from faults.setting import Setting


def run(setting: Setting) -> None:
    with running_fleet(setting, sleds_per_process=1) as fleet:
        fleet.was_restored = True
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        steps = (_older_outbox, _older_gateway, _clone_in_turn, _clone_apart)
        part = setting.sizes.events // (2 * len(steps) + 1)
        for number, step in enumerate(steps):
            fleet.aim(part * (2 * number + 1))
            fleet.settle()
            step(fleet, part * (2 * number + 2))
        fleet.judge()
        resets = sum(len(reader.resets) for reader in fleet.readers)
        assert resets == len(fleet.readers), f"{resets} readers were told that the log was restored"
        setting.report.count("readers told to begin again", resets)


def _older_outbox(fleet: Fleet, goal: int) -> None:
    """Its newer events are in the log already; under the same seqs it now records others."""
    victim = fleet.sleds[0]
    state = victim.projects[0] / ".huskies" / "state"
    backup = fleet.setting.directory / "backup-of-state"
    victim.kill()
    shutil.copytree(state, backup)
    victim.start()
    half = (victim.goal + goal) // 2
    fleet.aim(half)
    fleet.settle()
    before = victim.health()[0]["epoch"]
    victim.kill()
    shutil.rmtree(state)
    backup.rename(state)
    victim.start()
    fleet.aim(goal)
    fleet.settle()
    assert victim.health()[0]["epoch"] != before, "an older outbox went on in its epoch"
    fleet.setting.report.count("older outboxes restored")


def _older_gateway(fleet: Fleet, goal: int) -> None:
    """What it acknowledged since the backup is sent again, and a reader's cursor is recognised as none."""
    backup = fleet.setting.directory / "backup-of-gateway"
    fleet.kill_gateway()
    shutil.copytree(fleet.data, backup)
    fleet.start_gateway()
    fleet.aim((fleet.sleds[0].goal + goal) // 2)
    fleet.settle()
    fleet.kill_gateway()
    before = len(fleet.log)
    shutil.rmtree(fleet.data)
    backup.rename(fleet.data)
    fleet.start_gateway()
    fleet.aim(goal)
    fleet.settle()
    assert len(fleet.log) > before
    fleet.setting.report.count("older gateway stores restored")


def _clone_in_turn(fleet: Fleet, goal: int) -> None:
    """A copy in the original's place publishes and is acknowledged; then the original goes on."""
    _clone(fleet, goal, number=1, connected=True)


def _clone_apart(fleet: Fleet, goal: int) -> None:
    """Both record while no gateway can be reached, and then meet it one after the other."""
    _clone(fleet, goal, number=2, connected=False)


def _clone(fleet: Fleet, goal: int, *, number: int, connected: bool) -> None:
    original = fleet.sleds[-1]
    original.kill()
    copy = Clone(original)
    # Another name in its events' values: who recorded what must be told apart, by us alone.
    clone = fleet.sled(original.projects, values=f"clone{number}-")
    fleet.names.append(f"clone{number}-{original.names[0]}")
    epochs = set()
    fleet.proxy.mode = "pass" if connected else "refuse"
    for sled in (clone, original):
        sled.start()
        sled.aim(sled.goal + goal - original.goal if sled is clone else goal)
        sled.reached()
        if connected:
            fleet.drain(sled)
        sled.kill()
        copy.swap()
    fleet.proxy.mode = "pass"
    for sled in (clone, original):
        sled.start()
        fleet.drain(sled)
        epochs.add((sled.health()[0]["sled_id"], sled.health()[0]["epoch"]))
        if sled is clone:
            sled.kill()
            copy.swap()
    copy.discard()
    assert len(epochs) == 2, "a sled and its clone went on under one identity"
    fleet.aim(goal)
    fleet.setting.report.count("sleds cloned in their place")
