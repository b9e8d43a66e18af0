"""Fault 1: SIGKILL of the gateway at random points, before the commit and between commit and ack."""

from __future__ import annotations

import time

from faults.fleet import Fleet, running_fleet
from faults.proxy import Line, Seen
from faults.setting import Setting
from faults.triggers import Trigger

# At a frame of events, which comes too late for it; some time after one, in the middle of whatever it does;
# at an ack, which is withheld. What each was worth is measured afterwards, by what the gateway turns out to
# hold.
_MOMENTS = ("frame", "later", "ack")
_LATER = 0.03


def run(setting: Setting) -> None:
    kills = setting.sizes.gateway_kills
    with running_fleet(setting) as fleet:
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        setting.report.count("kills", 0)
        moments: list[str] = []
        for number in range(kills):
            # Each is drawn once before any is drawn again.
            moments = moments or setting.rng.sample(_MOMENTS, len(_MOMENTS))
            _kill_once(fleet, moments.pop(), setting.sizes.events * (number + 1) // kills)
        fleet.judge()
    facts = setting.report.facts
    assert facts["kills before the commit"], facts
    assert facts["kills between commit and ack"], facts


def _kill_once(fleet: Fleet, moment: str, goal: int) -> None:
    report, rng = fleet.setting.report, fleet.setting.rng
    interrupted: list[Line] = []

    def act(_: Seen) -> None:
        interrupted.extend(line for line in fleet.proxy.lines if line.project)
        if moment != "later":
            fleet.running.popen.kill()

    # Each sled sends a frame of something new at the least, and gets an ack for it.
    number = rng.randint(1, fleet.setting.sizes.sleds)
    kind = "ack" if moment == "ack" else "events"
    trigger = Trigger(fleet.proxy, kind, number, act, withhold=moment == "ack", matches=_is_new)
    fleet.aim(goal)
    trigger.sprung()
    if moment == "later":
        time.sleep(rng.uniform(0, _LATER))
    fleet.kill_gateway()
    report.count("kills")
    fleet.start_gateway(open_to_sleds=False)
    held = fleet.held()
    states = [(line.sent, held.get(line.origin, 0), line.acked) for line in interrupted]
    report.count("kills before the commit", any(sent > stored for sent, stored, _ in states))
    report.count("kills between commit and ack", any(stored > acked for _, stored, acked in states))
    fleet.check_what_gateway_acknowledged()
    fleet.open_to_sleds()


def _is_new(seen: Seen) -> bool:
    return bool(seen.frame.get("seq", seen.frame.get("last_seq", 0)) > seen.line.acked)
