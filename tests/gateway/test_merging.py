"""The log as a CRDT: what gateways send each other converges, in whatever order it comes (SPEC 5)."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from tests.gateway.conftest import Owner, stored

from huskies.events import codec
from huskies.events.model import RelayedEvent
from huskies.gateway.store.appends import Append, Claim, Diverged, Lost
from huskies.gateway.store.blocks import Stream, extend_digest
from huskies.protocol.branches import first_wins

if TYPE_CHECKING:
    from tests.gateway.conftest import OpenLog, OpenLogs

ORIGIN = ("aa", "e1")


def events(*reasons: str) -> list[RelayedEvent]:
    return [stored(reason) for reason in reasons]


def digest_of(sequence: Sequence[RelayedEvent]) -> int:
    return extend_digest(0, codec.encode_batch(sequence)[1:-1]) if sequence else 0


class Sender:
    """Another gateway, which holds one sequence."""

    def __init__(self, sequence: Sequence[RelayedEvent]) -> None:
        self.sequence = list(sequence)
        self.owner = Owner()
        self.branches: list[Lost | Diverged] = []

    async def send(self, opened: OpenLog, first_seq: int = 1, last_seq: int | None = None) -> None:
        last_seq = last_seq or len(self.sequence)
        batch = self.sequence[first_seq - 1 : last_seq]
        claim = Claim(
            digest_of(self.sequence[: first_seq - 1]), digest_of(self.sequence[:last_seq]), self._on_branch
        )
        stream = await opened.admit(*ORIGIN)
        opened.log.append(Append(stream, first_seq, batch, 1_000, 0, self.owner, len(batch), 1, claim=claim))
        await opened.settled()

    def _on_branch(self, stream: Stream, branch: Lost | Diverged) -> None:
        assert stream.origin == ORIGIN
        self.branches.append(branch)


async def shown(opened: OpenLog) -> list[RelayedEvent]:
    """What readers of the whole log see of the sequence, by seq."""
    found: dict[int, RelayedEvent] = {}
    for block in await opened.history.blocks_after(0, 1_000_000):
        start = 0
        for run in block.runs:
            stream = opened.log.streams[run.stream_id]
            assert stream is not None
            for seq, event in enumerate(block.events()[start : start + run.shown(stream)], run.first_seq):
                assert seq not in found
                found[seq] = event
            start += run.count
    assert sorted(found) == list(range(1, len(found) + 1))
    return [found[seq] for seq in sorted(found)]


async def test_what_another_gateway_sends_continues_the_sequence(open_log: OpenLogs) -> None:
    opened = await open_log()
    sender = Sender(events("1", "2", "3", "4"))
    await sender.send(opened, 1, 2)
    await sender.send(opened, 2, 4)
    assert await shown(opened) == sender.sequence
    assert sender.branches == []
    assert await opened.log.digest(ORIGIN, 4) == digest_of(sender.sequence)
    assert await opened.log.digest(ORIGIN, 3) == digest_of(sender.sequence[:3])


async def test_a_gap_from_another_gateway_stores_nothing(open_log: OpenLogs) -> None:
    opened = await open_log()
    sender = Sender(events("1", "2", "3"))
    await sender.send(opened, 2, 3)
    assert sender.owner.told == [("gap", 1)]
    assert await shown(opened) == []


async def test_digests_survive_a_restart(open_log: OpenLogs) -> None:
    opened = await open_log()
    sender = Sender(events("1", "2", "3"))
    await sender.send(opened, 1, 2)
    await opened.close()
    opened = await open_log()
    await sender.send(opened, 3, 3)
    assert sender.branches == []
    assert await opened.log.digest(ORIGIN, 3) == digest_of(sender.sequence)


def two_branches() -> tuple[list[RelayedEvent], list[RelayedEvent]]:
    """Two histories that differ from seq 3 on: the one that wins and the one that loses."""
    one, other = events("1", "2", "b3", "b4", "b5"), events("1", "2", "c3", "c4")
    return (one, other) if first_wins(one[2], other[2]) else (other, one)


async def test_the_branch_that_wins_takes_the_place_of_the_other(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    await Sender(losing).send(opened)
    sender = Sender(winning)
    await sender.send(opened)
    assert await shown(opened) == winning
    assert sender.branches == []
    [lost] = opened.log.sequences.quarantined()["shop"]
    assert (lost.first_seq, lost.last_seq) == (3, len(losing))
    assert await opened.log.digest(ORIGIN, len(winning)) == digest_of(winning)
    await opened.close()
    opened = await open_log()
    assert await shown(opened) == winning
    assert await opened.log.digest(ORIGIN, len(winning)) == digest_of(winning)


async def test_the_branch_that_loses_changes_nothing_and_its_sender_is_told(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    await Sender(winning).send(opened)
    sender = Sender(losing)
    await sender.send(opened)
    assert await shown(opened) == winning
    assert sender.branches == [Lost(3, digest_of(winning[:2]))]
    # What follows it is known not to continue what is held.
    await sender.send(opened, 4, 4)
    assert sender.branches[1:] == [Diverged()]
    assert await shown(opened) == winning


async def test_a_difference_that_lies_before_what_is_sent_is_noticed(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    await Sender(losing).send(opened, 1, 3)
    sender = Sender(winning)
    await sender.send(opened, 4, 4)
    assert sender.branches == [Diverged()]
    await sender.send(opened)
    assert await shown(opened) == winning


async def test_a_contested_sequence_takes_nothing_from_sleds(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    await Sender(losing).send(opened)
    await Sender(winning).send(opened)
    stream, owner = await opened.admit(*ORIGIN), Owner()
    opened.append(stream, stream.last_seq + 1, stored("more"), owner=owner)
    await opened.settled()
    assert owner.told == [("conflict", stream.last_seq + 1)]
    # In another epoch the sled goes on.
    opened.append(await opened.admit("aa", "e2"), 1, stored("more"), owner=Owner())
    await opened.settled()
    assert len(opened.held()) == len(losing) + len(winning) - 2 + 1


async def test_what_is_held_of_a_contested_sequence_is_acknowledged_again(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    await Sender(winning).send(opened)
    await Sender(losing).send(opened)
    stream, whole, beyond = await opened.admit(*ORIGIN), Owner(), Owner()
    opened.append(stream, 1, *winning, owner=whole)
    opened.append(stream, len(winning), winning[-1], stored("more"), owner=beyond)
    await opened.settled()
    assert whole.told == [("ack", len(winning))]
    assert beyond.told == [("conflict", len(winning) + 1)]


async def test_what_is_in_flight_of_the_branch_that_lost_is_no_gap(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    await Sender(winning[:3]).send(opened)
    sender = Sender(losing)
    await sender.send(opened, 1, 3)
    await sender.send(opened, 4, 4)
    sender.sequence += events("5", "6", "7", "8")
    await sender.send(opened, 7, 8)
    assert [type(branch) for branch in sender.branches] == [Lost, Diverged, Diverged]
    assert ("gap", 4) not in sender.owner.told


async def test_a_sequence_goes_on_beyond_what_is_retained_nowhere(open_log: OpenLogs) -> None:
    opened = await open_log()
    sender = Sender(events("1", "2", "3", "4", "5"))
    await sender.send(opened, 1, 1)
    live = opened.log.sequences.live(ORIGIN)
    assert live is not None
    await opened.log.call(
        lambda db: opened.log.sequences.adopt_base(db, live, 3, digest_of(sender.sequence[:3]))
    )
    await sender.send(opened, 4, 5)
    assert sender.branches == []
    [missing] = opened.log.sequences.missing()["shop"]
    assert (missing.first_seq, missing.last_seq) == (2, 3)
    assert await opened.log.digest(ORIGIN, 5) == digest_of(sender.sequence)
    # What lies in the hole cannot be compared any more, and is not stored either.
    await sender.send(opened, 4, 5)
    assert len(opened.held()) == 3


@pytest.mark.parametrize("seed", range(40))
async def test_replicas_converge_in_whatever_order_branches_meet(open_log: OpenLogs, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a run must be repeatable
    branches = _some_branches(rng)
    replicas: list[OpenLog] = []
    for order in rng.sample(list(itertools.permutations(branches)), k=min(4, len(branches))):
        opened = await open_log(f"replica{len(replicas)}")
        for branch in (*order, rng.choice(branches)):
            sender = Sender(branch)
            size = rng.randint(1, 4)
            for first in range(1, len(branch) + 1, size):
                await sender.send(opened, first, min(first + size - 1, len(branch)))
            if Diverged() in sender.branches and Lost not in map(type, sender.branches):
                await sender.send(opened)
        replicas.append(opened)
    seen = [await shown(opened) for opened in replicas]
    assert all(one == seen[0] for one in seen)
    assert all(seen[0][: len(branch)] == branch for branch in branches if _is_least(branch, branches))
    length = len(seen[0])
    digests = await asyncio.gather(*(opened.log.digest(ORIGIN, length) for opened in replicas))
    assert set(digests) == {digest_of(seen[0])}


def _some_branches(rng: random.Random) -> list[list[RelayedEvent]]:
    """A few histories, each of which leaves an earlier one somewhere."""
    branches = [events(*(f"a{number}" for number in range(rng.randint(1, 8))))]
    for name in "bcd"[: rng.randint(1, 3)]:
        stem = rng.choice(branches)
        kept = rng.randint(0, len(stem))
        branches.append(stem[:kept] + events(*(f"{name}{number}" for number in range(rng.randint(1, 6)))))
    return branches


def _is_least(branch: Sequence[RelayedEvent], branches: list[list[RelayedEvent]]) -> bool:
    for other in branches:
        for one, two in zip(branch, other, strict=False):
            if one != two:
                if first_wins(two, one):
                    return False
                break
    return True
