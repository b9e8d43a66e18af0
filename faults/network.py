"""Fault 5: a proxy that resets, black-holes, slices, delays, trickles, half-opens, loses exactly the ack."""

from __future__ import annotations

import time
from collections.abc import Callable

from faults.fleet import Fleet, running_fleet
from faults.processes import until
from faults.proxy import Seen
from faults.setting import Setting
from faults.triggers import Trigger


def run(setting: Setting) -> None:
    rounds = setting.sizes.network_rounds
    with running_fleet(setting) as fleet:
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        order = list(BREAKS)
        for number in range(rounds):
            if number % len(order) == 0:
                setting.rng.shuffle(order)
            name = order[number % len(order)]
            BREAKS[name](fleet, setting.sizes.events * (number + 1) // rounds)
            heal(fleet)
            setting.report.count(name)
        fleet.judge()


def heal(fleet: Fleet) -> None:
    """The network works again, and everyone finds out."""
    fleet.proxy.mode = "pass"
    fleet.proxy.watch = None
    fleet.settle()


def _resets(fleet: Fleet, goal: int) -> None:
    """Reset while frames are under way, which the sleds get no ack for."""

    def reset(seen: Seen) -> None:
        seen.line.client.transport.abort()

    trigger = Trigger(fleet.proxy, "events", 2, reset, withhold=True)
    fleet.aim(goal)
    trigger.sprung()
    fleet.setting.report.count("connections reset", fleet.proxy.reset())


def _black_hole(fleet: Fleet, goal: int) -> None:
    """Everything is taken and nothing passed on, until the sleds have given the connection up."""
    before = fleet.proxy.connections
    fleet.proxy.mode = "black hole"
    fleet.aim(goal)
    until(
        lambda: fleet.proxy.connections >= before + fleet.setting.sizes.sleds,
        "each sled gives up and tries again",
        2 * fleet.setting.sizes.long + 60,
    )
    # What hangs in the black hole stays there: the sleds have to get out by themselves.


def _one_byte_at_a_time(fleet: Fleet, goal: int) -> None:
    fleet.proxy.mode = "slice"
    _with_new_connections(fleet, goal)


def _delay(fleet: Fleet, goal: int) -> None:
    fleet.proxy.delay = fleet.setting.rng.uniform(0.02, 0.2)
    fleet.proxy.mode = "delay"
    _with_new_connections(fleet, goal)


def _trickle(fleet: Fleet, goal: int) -> None:
    """So slow that not everything which waits gets through before the sleds give up waiting for its ack."""
    fleet.proxy.mode = "refuse"
    fleet.proxy.reset()
    fleet.aim(goal)
    for sled in fleet.sleds:
        sled.reached()
    fleet.proxy.rate = fleet.setting.sizes.slow_bytes_a_second
    fleet.proxy.mode = "trickle"
    _settle_timed(fleet)


def _half_open(fleet: Fleet, goal: int) -> None:
    """The sleds' side breaks; the gateway has sessions that live on, and gets new ones of the same sleds."""
    broken = fleet.proxy.break_clients_side()
    fleet.setting.report.count("sessions half open", broken)
    fleet.aim(goal)
    for sled in fleet.sleds:
        sled.reached()


def _lost_acks(fleet: Fleet, goal: int) -> None:
    """Everything arrives and is committed; exactly the acks are lost, and then the connection."""
    trigger = Trigger(fleet.proxy, "ack", 1, lambda _: None, withhold=True)
    fleet.aim(goal)
    trigger.sprung()
    lost: list[Seen] = []

    def lose(seen: Seen) -> bool:
        if seen.kind == "ack":
            lost.append(seen)
        return seen.kind != "ack"

    fleet.proxy.watch = lose
    for sled in fleet.sleds:
        sled.reached()
    fleet.proxy.reset()
    fleet.setting.report.count("acks lost", 1 + len(lost))


def _with_new_connections(fleet: Fleet, goal: int) -> None:
    """Also what a connection begins with goes through the proxy as it is now."""
    fleet.proxy.reset()
    fleet.aim(goal)
    _settle_timed(fleet)


def _settle_timed(fleet: Fleet) -> None:
    started = time.monotonic()
    fleet.settle()
    fleet.setting.report.note("slowest healing", f"{time.monotonic() - started:.1f} s")


BREAKS: dict[str, Callable[[Fleet, int], None]] = {
    "resets": _resets,
    "black holes": _black_hole,
    "sliced to one byte": _one_byte_at_a_time,
    "delays": _delay,
    "half-open": _half_open,
    "slower than acks are waited for": _trickle,
    "only acks lost": _lost_acks,
}
