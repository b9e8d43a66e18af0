"""Fault 2: SIGKILL of sleds after the outbox commit and after the ack."""

from __future__ import annotations

from faults.fleet import Fleet, running_fleet
from faults.proxy import Seen
from faults.setting import Setting
from faults.triggers import Trigger

# After the outbox commit, before anything of it reached the gateway; and with the ack just on its way.
_MOMENTS = {"events": "kills after the outbox commit", "ack": "kills after the ack"}


def run(setting: Setting) -> None:
    kills = setting.sizes.sled_kills
    with running_fleet(setting, sleds_per_process=1) as fleet:
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        for number in range(kills):
            _kill_once(fleet, number, goal=setting.sizes.events * (number + 1) // kills)
        fleet.judge()


def _kill_once(fleet: Fleet, number: int, goal: int) -> None:
    # In turn, so that however few there are, both moments are met.
    kind = list(_MOMENTS)[number % 2]
    victim = fleet.setting.rng.choice(fleet.sleds)

    def kill(_: Seen) -> None:
        victim.running.popen.kill()

    trigger = Trigger(
        fleet.proxy,
        kind,
        1,
        kill,
        withhold=kind == "events",
        matches=lambda seen: seen.line.project in victim.names,
    )
    fleet.aim(goal)
    trigger.sprung()
    victim.restart()
    fleet.setting.report.count(_MOMENTS[kind])
