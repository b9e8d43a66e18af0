"""What one gateway retains no more comes from another that does, or is given up after a while (SPEC 5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.gateway.conftest import stop
from tests.gateway.test_replication import EPOCH, EVENT, SLED, heads, push, reasons, same, told
from tests.support.peer_client import peer_client

from huskies import limits
from huskies.gateway.peers.bases import Waits
from huskies.gateway.server import Gateway
from huskies.gateway.store.retention import Rules

if TYPE_CHECKING:
    from tests.gateway.conftest import Eventually, Http, StartGateway

ORIGIN = (SLED, EPOCH)
OTHER_SLED = "bb" * 32


async def filled(gateway: Gateway) -> None:
    """Six events of one sequence, each in a block of its own, and one of another behind them."""
    for number in range(1, 7):
        await push(gateway, str(number))
    await push(gateway, "other", sled_id=OTHER_SLED)


async def retain_from(gateway: Gateway, position: int) -> None:
    """As if everything before `position` were too old."""
    # Its own clock stands far behind what was received.
    gateway.log._writer.now_ms = lambda: 10**12
    await gateway.log.trim(Rules(age_ms=1), position - 1)


def is_waiting(gateway: Gateway) -> bool:
    return any(link.bases.waits_for(ORIGIN) for link in gateway.peers._open_links())


def port_of(gateway: Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


async def test_a_beginning_comes_from_the_named_gateway_that_still_has_it(
    start_gateway: StartGateway, http: Http, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BASE_PATIENCE", 600.0)
    whole = await start_gateway(name="whole")
    await filled(whole)
    short = await start_gateway(name="short")
    await filled(short)
    await retain_from(short, 5)
    url, port = whole.url, port_of(whole)
    await stop(whole)
    new = await start_gateway(name="new", peers=[short.url, url])
    # Everything else comes; what is behind the gap is acknowledged, and counts as held nowhere.
    await eventually(lambda: is_waiting(new) and (OTHER_SLED, EPOCH) in heads(new))
    await push(short, "7", "8")
    await push(short, "more", sled_id=OTHER_SLED)
    await eventually(lambda: heads(new)[OTHER_SLED, EPOCH][0] == 2)
    assert ORIGIN not in heads(new)
    assert short.holders.seq(ORIGIN, 8, 2) == 0
    whole = await start_gateway(name="whole", port=port)
    await eventually(same(new, whole, short))
    assert sorted(reasons(await told(new, http)))[:8] == [str(number) for number in range(1, 9)]
    assert not any(view.missing for view in new.project_views())
    await eventually(lambda: short.holders.seq(ORIGIN, 8, 2) == 8)


async def test_a_named_gateway_that_stays_away_is_not_waited_for_for_ever(
    start_gateway: StartGateway,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "BASE_PATIENCE", 0.01)
    short = await start_gateway(name="short")
    await filled(short)
    await retain_from(short, 5)
    new = await start_gateway(name="new", peers=[short.url, "http://127.0.0.1:9"])
    await eventually(same(new, short))
    [missing] = [view.missing for view in new.project_views()]
    assert [(each.first_seq, each.last_seq) for each in missing] == [(1, 4)]
    assert "it did not come from http://127.0.0.1:9" in caplog.text
    await push(short, "7")
    await eventually(same(new, short))
    await eventually(lambda: short.holders.seq(ORIGIN, 7, 2) == 7)


async def test_of_two_that_dropped_a_beginning_the_one_that_retains_more_of_it_sends_it(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    await filled(one)
    other = await start_gateway(name="other")
    await filled(other)
    await retain_from(one, 6)
    await retain_from(other, 3)
    new = await start_gateway(name="new", peers=[one.url, other.url])
    await eventually(same(new, one, other))
    [missing] = [view.missing for view in new.project_views()]
    assert [(each.first_seq, each.last_seq) for each in missing] == [(1, 2)]


async def test_a_sequence_of_which_nothing_is_retained_is_known_to_be_so(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    """Else a sled that holds nothing of it either would be told to wait for it, for ever."""
    short = await start_gateway(name="short")
    await filled(short)
    await retain_from(short, 7)
    await stop(short)
    short = await start_gateway(name="short")
    new = await start_gateway(name="new", peers=[short.url])
    await eventually(same(new, short))
    assert heads(new)[ORIGIN][0] == 6
    # What is dropped while they are connected changes nothing for either.
    await retain_from(short, 8)
    await push(short, "more", sled_id=OTHER_SLED)
    await eventually(same(new, short))


async def test_where_there_is_no_one_else_a_base_is_taken_at_once(
    start_gateway: StartGateway, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BASE_PATIENCE", 600.0)
    short = await start_gateway(name="short")
    await filled(short)
    await retain_from(short, 5)
    new = await start_gateway(name="new", peers=[short.url])
    await eventually(same(new, short))


async def test_a_connected_gateway_that_never_sends_what_it_announced_is_given_up(
    start_gateway: StartGateway,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "BASE_PATIENCE", 600.0)
    one = await start_gateway(name="one")
    async with peer_client(one.url) as silent, peer_client(one.url) as short:
        await silent.hold([1, SLED, EPOCH, "shop", 5, 9])
        # Of two connections, either may be heard first.
        await eventually(lambda: any(link.has_yet_to_send(ORIGIN) for link in one.peers._open_links()))
        await short.hold([1, SLED, EPOCH, "shop", 5, 9])
        await short.send("base", number=1, seq=4, digest=3)
        await short.send("runs", frame=1, runs=[[1, 5, 1, 1_000, 0, 3, 4]], events=[EVENT])
        # Not wanted now, so nothing piles up; and asked for again once nobody is waited for.
        assert await short.receive("ack") == {"type": "ack", "frame": 1}
        assert not heads(one)
        monkeypatch.setattr(limits, "BASE_PATIENCE", 0.01)
        assert await short.receive("again") == {"type": "again", "number": 1}
        [said] = (await short.receive("sequences"))["sequences"]
        assert said[1:6] == [SLED, EPOCH, "shop", 4, 3]
        await short.send("runs", frame=2, runs=[[1, 5, 1, 1_000, 0, 3, 4]], events=[EVENT])
        assert await short.receive("ack") == {"type": "ack", "frame": 2}
        assert heads(one)[ORIGIN][0] == 5
    assert "is given up" in caplog.text


async def test_what_is_left_out_without_a_base_is_refused_still(start_gateway: StartGateway) -> None:
    one = await start_gateway(name="one")
    async with peer_client(one.url) as short:
        await short.hold([1, SLED, EPOCH, "shop", 9, 1])
        await short.send("base", number=1, seq=4, digest=3)
        await short.send("runs", frame=1, runs=[[1, 6, 1, 1_000, 0, 3, 4]], events=[EVENT])
        assert (await short.receive("refused"))["code"] == "invalid"


def test_waiting_ends_when_nobody_comes_any_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BASE_PATIENCE", 10.0)
    waits = Waits()
    assert not waits.is_worth_it({}, 0)
    assert waits.is_worth_it({"away": None, "slow": 1}, 0)
    assert waits.is_worth_it({"away": None, "slow": 2}, 9)
    assert waits.is_worth_it({"away": None, "slow": 2}, 18)
    assert not waits.is_worth_it({"away": None}, 18)
    assert not waits.is_worth_it({"away": None, "slow": 2}, 19)
    # It came and went meanwhile, or so it may be.
    assert waits.is_worth_it({"away": None}, 100)


async def test_who_dropped_a_beginning_counts_nothing_as_held_before_it_is_told(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    short = await start_gateway(name="short")
    await filled(short)
    await retain_from(short, 5)
    _, digest = heads(short)[ORIGIN]
    async with peer_client(short.url) as peer:
        await peer.hold()
        base, frame = await peer.receive("base"), await peer.receive("runs")
        assert base["seq"] == 4
        await peer.send("ack", frame=frame["frame"])
        await eventually(lambda: short.holders.seq((OTHER_SLED, EPOCH), 1, 2) == 1)
        assert short.holders.seq(ORIGIN, 6, 2) == 0
        await peer.send("sequences", sequences=[[1, SLED, EPOCH, "shop", 6, digest]])
        await eventually(lambda: short.holders.seq(ORIGIN, 6, 2) == 6)
        # What it may have let pass is not held when it is acknowledged after it was asked for again.
        await push(short, "7")
        frame = await peer.receive("runs")
        await peer.send("again", number=base["number"])
        await peer.receive("base")
        await peer.send("sequences", sequences=[[1, SLED, EPOCH, "shop", 6, digest]])
        await peer.send("ack", frame=frame["frame"])
        await peer.send("presence", gateway_id="c" * 64, version=1, present=[])
        await eventually(lambda: short.peers.presence.known(asyncio.get_running_loop().time()))
        assert short.holders.seq(ORIGIN, 7, 2) == 6
