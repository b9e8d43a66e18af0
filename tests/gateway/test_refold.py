"""Boards after one branch of a sequence won over another: they show what the log shows, and no more."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.gateway.conftest import Owner, stop, stored
from tests.gateway.test_merging import Sender, digest_of

from huskies.events.model import RelayedEvent
from huskies.gateway.fleet import Fleet
from huskies.gateway.server import Gateway
from huskies.gateway.store import refold as refold_module
from huskies.gateway.store.appends import Append, Claim
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.refold import refold, refold_cut
from huskies.protocol.branches import first_wins

if TYPE_CHECKING:
    from tests.gateway.conftest import Eventually, OpenLog, OpenLogs, StartGateway

ORIGIN = ("aa", "e1")


def two_branches() -> tuple[list[RelayedEvent], list[RelayedEvent]]:
    """What both share is said of one story; the branch that wins says more of another, the other of both."""
    shared = stored("shared", "1_bug_x")
    one, other = stored("b", "2_bug_y"), stored("c", "2_bug_y")
    win, lose = (one, other) if first_wins(one, other) else (other, one)
    return [shared, win], [shared, lose, stored("lost", "1_bug_x"), stored("lost", "3_bug_z")]


def blocks(fleet: Fleet) -> dict[str, str | None]:
    return {story_id: story.blocked for story_id, story in fleet.project("shop").stories().items()}


def expected(branch: Sequence[RelayedEvent]) -> dict[str, str]:
    return {event.story_id: getattr(event, "reason", "") for event in branch}


async def send(gateway: Gateway, branch: Sequence[RelayedEvent]) -> None:
    """Let the gateway take this from another."""
    admitted = await gateway.log.admit(*ORIGIN, "shop")
    assert not isinstance(admitted, str)
    stream, _ = admitted
    claim = Claim(0, digest_of(branch), lambda *_: None)
    owner = Owner()
    gateway.log.append(Append(stream, 1, list(branch), 1_000, 0, owner, len(branch), 1, claim=claim))
    await gateway.log.call(lambda _: None)


# --- a whole gateway ---------------------------------------------------------------------------------


async def test_a_board_shows_what_was_said_before_the_cut(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    winning, losing = two_branches()
    gateway = await start_gateway()
    await send(gateway, losing)
    assert blocks(gateway.fleet) == expected(losing)
    await send(gateway, winning)
    await eventually(lambda: blocks(gateway.fleet) == expected(winning))


async def test_what_is_in_quarantine_does_not_come_back_after_a_crash(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    winning, losing = two_branches()
    gateway = await start_gateway()
    await send(gateway, losing)
    await stop(gateway)
    kept = tmp_path / "kept.db"
    shutil.copy(tmp_path / "gw" / "views.db", kept)
    gateway = await start_gateway()
    await send(gateway, winning)
    await stop(gateway)
    # As if the fleet had not been kept any more.
    for path in (tmp_path / "gw").glob("views.db*"):
        path.unlink()
    shutil.copy(kept, tmp_path / "gw" / "views.db")
    gateway = await start_gateway()
    assert blocks(gateway.fleet) == expected(winning)


# --- the log alone -----------------------------------------------------------------------------------


class Follower:
    """A fleet that follows a log's blocks as they are published."""

    def __init__(self, opened: OpenLog) -> None:
        self.opened = opened
        self.fleet = Fleet()
        self.cuts: list[Stream] = []
        opened.log.on_cut.append(self.cuts.append)

    def follow(self) -> None:
        for block in self.opened.published:
            if block.position > self.fleet.position:
                self.fleet.apply_block(block, self.opened.log.streams)

    async def from_the_log(self) -> Fleet:
        """What a fleet that never knew of another branch says."""
        fleet = Fleet()
        for block in await self.opened.history.blocks_after(0, 1_000_000):
            fleet.apply_block(block, self.opened.log.streams)
        return fleet


def a_history(rng: random.Random, stem: Sequence[RelayedEvent], name: str) -> list[RelayedEvent]:
    """One that leaves the stem somewhere."""
    shared = list(stem[: rng.randrange(len(stem) + 1)])
    count = rng.randrange(1, 8)
    return shared + [stored(f"{name}{number}", f"{rng.randrange(4)}_bug_x") for number in range(count)]


@pytest.mark.parametrize("seed", range(30))
async def test_after_any_cuts_a_fleet_says_what_the_log_shows(
    open_log: OpenLogs, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refold_module, "_CHUNK_EVENTS", 3)
    rng = random.Random(seed)  # noqa: S311 - a run must be repeatable
    opened = await open_log()
    follower = Follower(opened)
    branches: list[list[RelayedEvent]] = [[]]
    for name in "abcdef":
        branches.append(a_history(rng, rng.choice(branches), name))
        await Sender(branches[-1]).send(opened)
        follower.follow()
        if rng.random() < 0.5:
            await refold(follower.fleet, opened.log, ORIGIN)
            follower.follow()
    await refold_cut(follower.fleet, opened.log)
    assert blocks(follower.fleet) == blocks(await follower.from_the_log())


async def test_what_comes_while_it_is_folded_again_is_not_lost(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    follower = Follower(opened)
    await Sender(losing).send(opened)
    follower.follow()
    await Sender(winning).send(opened)
    assert [cut.cut_seq for cut in follower.cuts] == [1]
    running = refold(follower.fleet, opened.log, ORIGIN)
    waiting = running.send(None)
    # It has forgotten the branch that lost, and waits for what it asked the log for.
    assert waiting is not None
    assert "3_bug_z" not in blocks(follower.fleet)
    live = [*winning, stored("live", "1_bug_x"), stored("live", "4_bug_v")]
    await Sender(live).send(opened)
    follower.follow()
    with pytest.raises(StopIteration):
        running.send(None)
    assert blocks(follower.fleet) == expected(live)


async def test_what_all_branches_share_stays_known_though_it_is_retained_no_more(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    follower = Follower(opened)
    await Sender(losing[:1]).send(opened)
    await Sender(losing).send(opened, 2)
    await Sender(winning).send(opened, 2)
    live = opened.log.sequences.live(ORIGIN)
    assert live is not None
    # Folded by a gateway that held the branch that won alone, and has dropped the first block since.
    follower.fleet.fold_late(live, winning, 1, 1_000)
    [number, _] = opened.log.sequences.numbers(ORIGIN)
    number.dropped_seq = 1
    await refold(follower.fleet, opened.log, ORIGIN)
    assert blocks(follower.fleet) == expected(winning)
