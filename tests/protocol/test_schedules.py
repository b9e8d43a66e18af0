"""Thousands of seeded schedules of crashes, cuts and reorderings against both state machines.

A failing schedule prints its seed N; `HUSKIES_SEED=N pytest tests/protocol/test_schedules.py` runs it alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from tests.protocol.world import Link, Sled, World

SCHEDULES = 10_000
CHUNK = 500
STEPS = 120


def run(seed: int, *, deranged: bool) -> World:
    """One schedule; `deranged`: frames are also lost, doubled and swapped within a connection."""
    world = World(seed)
    rng = world.rng
    for _ in range(rng.choice((1, 1, 2, 3))):
        world.add_sled()
    poison = rng.random() < 0.2
    steps: list[tuple[int, Callable[[], None]]] = [
        (8, lambda: world.record(rng.choice(world.sleds))),
        (1 if poison else 0, lambda: world.record(rng.choice(world.sleds), poisoned=True)),
        (3, lambda: connect_one(world)),
        (10, lambda: on_link(world, lambda link: world.pump(link, rng.choice((1, 2, 3, 1_000))))),
        (12, lambda: on_link(world, world.deliver_up)),
        (12, lambda: on_link(world, world.deliver_down)),
        (8, lambda: world.commit(rng.choice((1, 1, 2, 5)))),
        (1, lambda: on_link(world, world.cut)),
        (1, lambda: on_link(world, world.half_open)),
        (1, world.crash_gateway),
        (1, lambda: prune_one(world)),
        (1, lambda: world.tick(rng.choice((1.0, 12.0, 31.0, 46.0)))),
        (3 if deranged else 0, lambda: on_link(world, lambda link: derange(world, link))),
    ]
    weights = [weight for weight, _ in steps]
    for _ in range(STEPS):
        rng.choices(steps, weights)[0][1]()
    world.heal()
    return world


def on_link(world: World, act: Callable[[Link], None]) -> None:
    if world.links:
        act(world.rng.choice(world.links))


def connect_one(world: World) -> None:
    sled = world.rng.choice(world.sleds)
    if sled.link is None or world.rng.random() < 0.1:
        world.connect(sled)


def prune_one(world: World) -> None:
    world.rng.choice(world.sleds).outbox.prune(world.rng.choice((0, 0, 2)))


def derange(world: World, link: Link) -> None:
    frames = world.rng.choice((link.up, link.down))
    if not frames:
        return
    kind = world.rng.choice(("lose", "double", "swap"))
    index = world.rng.randrange(len(frames))
    if kind == "lose":
        del frames[index]
    elif kind == "double":
        frames.insert(index, frames[index])
    else:
        frames.rotate(1)


def check(world: World) -> None:
    """Everything recorded is in the log, once, and in order."""
    counted = Counter(world.stored())
    doubled = [value for value, count in counted.items() if count > 1]
    lost = [value for value in world.recorded if value not in counted]
    assert not doubled, f"doubled: {doubled}"
    assert not lost, f"lost: {lost}"
    assert set(counted) <= set(world.recorded)
    for origin, values in world.log.items():
        numbers = [int(value.partition("-")[2]) for value in values]
        assert numbers == sorted(numbers), f"out of order in {origin}: {values}"
    for sled in world.sleds:
        assert all(b'"value":' in data for data in sled.outbox.rejected), "a good event was set aside"


def seeds(chunk: int) -> range:
    only = os.environ.get("HUSKIES_SEED")
    if only is not None:
        return range(int(only), int(only) + (1 if chunk == 0 else 0))
    return range(chunk * CHUNK, (chunk + 1) * CHUNK)


@pytest.mark.parametrize("chunk", range(SCHEDULES // CHUNK))
def test_nothing_is_lost_and_nothing_is_doubled(chunk: int) -> None:
    for seed in seeds(chunk):
        try:
            check(run(seed, deranged=seed % 2 == 1))
        except BaseException as error:
            error.add_note(f"schedule {seed}: HUSKIES_SEED={seed}")
            raise


def drained(world: World, sled: Sled, events: int) -> None:
    for _ in range(events):
        world.record(sled)
    world.heal()


@pytest.mark.parametrize("seed", range(300))
def test_an_older_outbox_restored_loses_only_what_no_one_holds_and_doubles_nothing(seed: int) -> None:
    world = World(seed)
    sled = world.add_sled()
    drained(world, sled, world.rng.randrange(6))
    for _ in range(world.rng.randrange(4)):
        world.record(sled)
    backup = sled.outbox.copy()
    drained(world, sled, world.rng.randrange(6))
    known = set(world.stored())
    sled.outbox = backup
    if sled.link is not None:
        world.cut(sled.link)
    before = len(world.recorded)
    for _ in range(world.rng.randrange(8)):
        world.record(sled)
    world.heal()
    counted = Counter(world.stored())
    assert known <= set(counted)
    assert all(count == 1 for count in counted.values())
    assert set(world.recorded[before:]) <= set(counted)
    assert len(world.quarantined) == 0 or len(world.log) > 1


@pytest.mark.parametrize("seed", range(300))
def test_a_cloned_sled_ends_in_an_epoch_of_its_own(seed: int) -> None:
    world = World(seed)
    sled = world.add_sled()
    drained(world, sled, world.rng.randrange(5))
    clone = Sled("clone", sled.outbox.copy())
    world.sleds.append(clone)
    for _ in range(40):
        one = world.rng.choice(world.sleds)
        act = world.rng.randrange(6)
        if act == 0:
            world.record(one)
        elif act == 1 and one.link is None:
            world.connect(one)
        elif one.link is not None:
            world.pump(one.link, 2)
            world.deliver_up(one.link)
            world.commit(1)
            if one.link is not None:
                world.deliver_down(one.link)
    # One identity can only have one session: the two take turns until each has an epoch of its own.
    for one in (sled, clone, sled, clone):
        world.sleds = [one]
        world.heal()
    counted = Counter(world.stored())
    assert all(count == 1 for count in counted.values())
    assert set(world.recorded) == set(counted)


@pytest.mark.parametrize("seed", range(300))
def test_a_gateway_restored_from_a_backup_gets_again_what_is_held_and_names_what_is_missing(
    seed: int,
) -> None:
    world = World(seed)
    sled = world.add_sled()
    drained(world, sled, world.rng.randrange(1, 6))
    backup = {origin: list(values) for origin, values in world.log.items()}
    drained(world, sled, world.rng.randrange(1, 8))
    pruned = world.rng.random() < 0.5
    if pruned:
        sled.outbox.prune(world.rng.randrange(3))
    world.crash_gateway()
    world.log = backup
    for _ in range(world.rng.randrange(4)):
        world.record(sled)
    world.heal()
    counted = Counter(world.stored())
    assert all(count == 1 for count in counted.values())
    missing = sum(
        max(0, last_seq - len(world.log.get(origin, []))) for origin, last_seq in world.closed.items()
    )
    assert len(world.recorded) - len(counted) == missing
    assert pruned or missing == 0
