"""Fault 6: gateways cut off from each other while sleds fail over, one of them killed or its disk lost.

In the end two clones of one sled have pushed to gateways that are cut off from each other: the same branch
has to win everywhere, and the other to be kept in quarantine and named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from faults.checker import Identity
from faults.copies import Clone
from faults.fleet import value_of
from faults.journal import Journal, Told
from faults.mesh import Gateway, Mesh, Shape, running_mesh
from faults.processes import until, whole_log
from faults.setting import Setting
from faults.sleds import HEALING, SledProcess, drained
from faults.triggers import Trigger

_CUTS: tuple[Literal["refuse", "black hole"], ...] = ("refuse", "black hole")
# At which frame of its sleds a gateway is killed, and whether its disk is lost with it.
_KILLS = (("ack", False), ("events", True), ("events", False), ("ack", True))
_CLONED_EVENTS = 40
# So that what is cut off is given up soon, and there is time for more rounds.
_LIMITS = (
    "RETURN_INTERVAL=1",
    "PING_INTERVAL=2",
    "SILENCE_LIMIT=6",
    "GREETING_LIMIT=3",
    "ACK_LIMIT=5",
    "BACKOFF_MAX=5",
    "STREAM_ID_INTERVAL=2",
)


def run(setting: Setting) -> None:
    sizes = dataclasses.replace(setting.sizes, limits=(*_LIMITS, *setting.sizes.limits))
    for number, shape in enumerate(get_args(Shape)[: setting.sizes.mesh_shapes]):
        part = Setting(sizes, setting.seed + number, setting.directory / str(shape), report=setting.report)
        with running_mesh(part, 3, shape) as mesh:
            mesh.start()
            rounds = setting.sizes.partition_rounds
            for turn in range(rounds):
                _round(mesh, setting.sizes.mesh_events, turn, rounds)
            mesh.settle()
            _clones(mesh)
            mesh.judge()


def _round(mesh: Mesh, events: int, turn: int, rounds: int) -> None:
    """Some are cut off, one of all is killed, its sleds go elsewhere and come back to it."""
    rng, report = mesh.setting.rng, mesh.setting.report
    alone = rng.choice([None, *mesh.gateways])
    mode = _CUTS[turn % len(_CUTS)]
    mesh.cut(alone, mode)
    report.count("links refused" if mode == "refuse" else "links in a black hole", len(mesh.links_of(alone)))
    kind, disk_lost = _KILLS[turn % len(_KILLS)]
    victim = max(mesh.gateways, key=_sleds_of)
    trigger = Trigger(victim.front, kind, 1, lambda _: victim.running.popen.kill(), withhold=True)
    mesh.aim(events * (2 * turn + 1) // (2 * rounds))
    trigger.sprung()
    victim.kill()
    report.count("gateways killed")
    # Those that are left take over, cut off from each other as they may be.
    mesh.drain()
    report.count(
        "sleds that failed over", sum(len(s.names) for s in mesh.sleds if s.urls[0] == victim.front.url)
    )
    if disk_lost:
        victim.lose_disk()
        report.count("disks lost")
    victim.start()
    mesh.aim(events * (2 * turn + 2) // (2 * rounds))
    until(lambda: _sleds_of(victim), "sleds return to the gateway that was killed", HEALING)
    if rng.random() < 0.5 or disk_lost:
        mesh.settle()
        report.count("partitions healed")


def _sleds_of(gateway: Gateway) -> int:
    return sum(bool(line.project) for line in list(gateway.front.lines))


# --- clones --------------------------------------------------------------------------------------------


class Branches(NamedTuple):
    """What a gateway took from one of the clones: which event under which identity."""

    gateway: Gateway
    held: dict[Identity, tuple[str, int]]


def _clones(mesh: Mesh) -> None:
    """A sled and its clone, with one key, epoch and place, push to gateways that do not see each other."""
    original = mesh.sleds[0]
    goal, urls = original.goal, original.urls
    mesh.cut(None, "refuse")
    original.kill()
    copy = Clone(original)
    clone = SledProcess(mesh.setting, mesh.journals, [], original.projects, values="clone-")
    mesh.names += [f"clone-{name}" for name in original.names]
    branches = []
    for sled, gateway, end in (
        (clone, mesh.gateways[0], _CLONED_EVENTS),
        (original, mesh.gateways[-1], goal + _CLONED_EVENTS),
    ):
        branches.append(_branch(mesh, sled, gateway, end))
        copy.swap()
    mesh.heal()
    mesh.converge()
    _judge_branches(mesh, *branches)
    # Both go on, each in an epoch of its own.
    for sled in (clone, original):
        sled.urls = urls
        sled.start()
        until(lambda sled=sled: drained([sled]), "a clone goes on", HEALING)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        if sled is clone:
            sled.kill()
            copy.swap()
    copy.discard()
    original.aim(goal + 2 * _CLONED_EVENTS)
    mesh.setting.report.count("sleds cloned", len(original.names))


def _branch(mesh: Mesh, sled: SledProcess, gateway: Gateway, goal: int) -> Branches:
    before = {name: len(_told(mesh, sled, name)) for name in sled.names}
    sled.urls = [gateway.front.url]
    sled.start()
    sled.aim(goal)
    sled.reached()
    until(lambda: drained([sled]), "a clone's outbox drains", HEALING)
    sled.kill()
    return Branches(
        gateway,
        {
            _identity(told): (f"{sled.values}{name}", told.number)
            for name in sled.names
            for told in _told(mesh, sled, name)[before[name] :]
        },
    )


def _told(mesh: Mesh, sled: SledProcess, name: str) -> list[Told]:
    return Journal(mesh.journals, f"{sled.values}{name}").all_acknowledged()


def _identity(told: Told) -> Identity:
    return Identity(told.sled_id, told.epoch, told.seq)


def _judge_branches(mesh: Mesh, clone: Branches, original: Branches) -> None:
    """All gateways show the same branch; what the other held is named as quarantined where it was taken."""
    common = clone.held.keys() & original.held.keys()
    assert common, "the clones did not use one identity for different events"
    logs = [
        {Identity(each["sled_id"], each["epoch"], each["seq"]): value_of(each) for each in whole_log(one.url)}
        for one in mesh.gateways
    ]
    assert all(log == logs[0] for log in logs), "the gateways show different branches"
    hidden = 0
    for branch in (clone, original):
        named = branch.gateway.quarantined()
        for identity, value in branch.held.items():
            if logs[0].get(identity) == value:
                continue
            assert any(_covers(lost, identity) for lost in named), f"{identity} is neither shown nor named"
            mesh.excused.setdefault(value[0], set()).add(value[1])
            hidden += 1
    assert hidden >= len(common), f"{hidden} in quarantine, and {len(common)} were used twice"
    mesh.setting.report.count("events quarantined and named", hidden)


def _covers(lost: Mapping[str, Any], identity: Identity) -> bool:
    of_it = (lost["sled_id"], lost["epoch"]) == (identity.sled_id, identity.epoch)
    return of_it and lost["first_seq"] <= identity.seq <= lost["last_seq"]
