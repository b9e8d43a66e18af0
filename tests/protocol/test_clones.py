"""Two sleds with one identity, step by step, against both state machines."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.protocol.world import Link, Sled, World


def to_the_welcome(world: World, sled: Sled) -> Link:
    world.connect(sled)
    link = sled.link
    assert link is not None
    world.deliver_down(link)
    world.deliver_up(link)
    world.commit(1)
    world.deliver_down(link)
    assert link.sled_core.accepted
    return link


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("held", [1, 2, 3])
def test_what_a_clone_sent_behind_a_conflict_is_neither_lost_nor_doubled(held: int, ahead: int) -> None:
    world = World(seed=1)
    sled = world.add_sled()
    clone = Sled("clone", sled.outbox.copy())
    for _ in range(held):
        world.record(sled)
    world.heal()
    world.sleds = [clone]
    for _ in range(held + ahead):
        world.record(clone)
    link = to_the_welcome(world, clone)
    # The gateway gets every frame before its writer comes to the first: the conflict is at seq 1, and behind
    # what is held follows what would be next in turn.
    world.pump(link, held)
    while link.sled_core.wants() is not None:
        world.pump(link, 1)
    while link.up:
        world.deliver_up(link)
    world.commit(len(world.jobs))
    world.heal()
    counted = Counter(world.stored())
    assert set(counted) == set(world.recorded)
    assert set(counted.values()) == {1}
