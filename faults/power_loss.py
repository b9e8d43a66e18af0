"""Fault 3: power loss. What was not fsynced disappears, wholly or by sectors; gateway, then sled.

The controls run on a disk that says it synced and did not, at all or for the write-ahead log alone (which is
what `PRAGMA synchronous = NORMAL` would do): events that were acknowledged must then be found missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from faults.checker import LossFoundError
from faults.disk import power
from faults.fleet import Fleet, running_fleet
from faults.processes import EndedError
from faults.proxy import Seen
from faults.setting import Setting
from faults.triggers import Trigger


def run(setting: Setting) -> None:
    losses = setting.sizes.power_losses
    with running_fleet(setting) as fleet:
        on_planted_disk(fleet)
        for number in range(losses):
            goal = setting.sizes.events * (number + 1) // losses
            # The gateway first, then the sleds.
            cut = cut_gateway if 3 * number < losses else (cut_sleds, cut_busy_sleds)[number % 2]
            cut(fleet, goal)
        fleet.judge()
    for name, forget in (("no sync", "all"), ("no sync of the WAL", "wal")):
        _control(setting, f"gateway, {name}", forget, cut_gateway)
        _control(setting, f"sled, {name}", forget, cut_sleds)


def on_planted_disk(fleet: Fleet, forget: str | None = None) -> None:
    """Start everything, gateway and sleds each on a disk of its own."""
    lie = [f"--forget={forget}"] if forget else []
    fleet.data.mkdir()
    durable = fleet.setting.directory / "durable"
    projects = fleet.setting.directory / "projects"
    power.begin(fleet.data, durable / "gateway")
    power.begin(projects, durable / "projects")
    fleet.gateway_planted += ["--disk", str(fleet.data), "--durable", str(durable / "gateway"), *lie]
    for sled in fleet.sleds:
        sled.planted += ["--disk", str(projects), "--durable", str(durable / "projects"), *lie]
    fleet.start_gateway()
    fleet.start_sleds()
    fleet.follow()


def cut_gateway(fleet: Fleet, goal: int) -> None:
    """Cut its power when an ack has just left it, passed on or not; what it acknowledged must be there."""
    rng = fleet.setting.rng
    withhold = rng.random() < 0.5

    def kill(_: Seen) -> None:
        fleet.running.popen.kill()

    trigger = Trigger(fleet.proxy, "ack", rng.randint(1, fleet.setting.sizes.sleds), kill, withhold=withhold)
    fleet.aim(goal)
    trigger.sprung()
    fleet.kill_gateway()
    _lose_power(fleet, "gateway")
    fleet.start_gateway(open_to_sleds=False)
    fleet.check_what_gateway_acknowledged()
    fleet.open_to_sleds()


def cut_sleds(fleet: Fleet, goal: int) -> None:
    """Cut the power of all sleds while the gateway cannot be reached: the outboxes alone hold what is new."""
    fleet.settle()
    fleet.proxy.mode = "refuse"
    fleet.proxy.reset()
    fleet.aim(goal)
    for sled in fleet.sleds:
        sled.reached()
    _end_sleds(fleet)
    fleet.proxy.mode = "pass"
    fleet.start_sleds()


def cut_busy_sleds(fleet: Fleet, goal: int) -> None:
    """Cut it in the middle of publishing, and after `huskies emit` said that an event is safe."""

    def kill(_: Seen) -> None:
        for sled in fleet.sleds:
            sled.running.popen.kill()

    first = (fleet.sleds[0].goal + goal) // 2
    trigger = Trigger(
        fleet.proxy, "events", fleet.setting.rng.randint(1, fleet.setting.sizes.sleds), kill, withhold=False
    )
    fleet.aim(first)
    trigger.sprung()
    _end_sleds(fleet)
    for sled in fleet.sleds:
        sled.emit()
    _lose_power(fleet, "projects")
    fleet.start_sleds()
    fleet.aim(goal)


def _end_sleds(fleet: Fleet) -> None:
    for sled in fleet.sleds:
        sled.kill()
    _lose_power(fleet, "projects")


def _lose_power(fleet: Fleet, what: str) -> None:
    root = fleet.data if what == "gateway" else fleet.setting.directory / "projects"
    loss = power.lose_power(
        root,
        fleet.setting.directory / "durable" / what,
        fleet.setting.rng,
        all_unsynced=fleet.setting.harsh,
    )
    report = fleet.setting.report
    report.count(f"power losses of the {'gateway' if what == 'gateway' else 'sleds'}")
    report.count("bytes lost", loss.bytes_lost)
    report.count("unsynced sectors kept", loss.sectors_kept)
    report.count("names lost", loss.names_lost)


# --- the controls --------------------------------------------------------------------------------------


def _control(setting: Setting, name: str, forget: str, cut: Callable[[Fleet, int], None]) -> None:
    """On a disk that lies, the loss must be noticed."""
    sizes = dataclasses.replace(setting.sizes, sleds=1, sleds_per_process=1, events=100)
    part = Setting(sizes, setting.seed, setting.directory / name.replace(" ", "-"))
    # Nothing unsynced survives: whether the loss is noticed must not be left to chance.
    part.harsh = True
    with running_fleet(part) as fleet:
        on_planted_disk(fleet, forget)
        try:
            cut(fleet, sizes.events)
            fleet.judge()
        except LossFoundError:
            setting.report.count("control runs that lost events, as they must")
            return
        except EndedError:
            # What is left of its store cannot even be opened.
            setting.report.count("control runs whose store was ruined, as it may be")
            return
    raise AssertionError(f"the control run ({name}) lost nothing that was noticed: this fault proves nothing")
