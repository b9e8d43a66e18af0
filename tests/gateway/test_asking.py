"""A sled that no longer holds what a gateway lacks: the other gateways are asked before its history ends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest
from tests.gateway.conftest import stop
from tests.support.peer_client import PeerClient, peer_client
from tests.support.relay_client import RelayClient, blocked, connect, new_key, sled_id_of

from huskies import limits
from huskies.gateway.peers.asking import UNKNOWN, Questions, ask_all
from huskies.gateway.server import Gateway
from huskies.protocol import peer_wire as wire
from huskies.protocol.gateway import Elsewhere
from huskies.protocol.vectors import Origin

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from tests.gateway.conftest import Eventually, StartGateway

KEY = new_key()
ORIGIN = (sled_id_of(KEY), "e1" * 8)


async def first_answer(gateway: Gateway, key: Ed25519PrivateKey = KEY, **hello: Any) -> dict[str, Any]:
    """What a sled that holds events 3 and 4 alone is told."""
    async with await RelayClient.open(gateway.url, "shop") as sled:
        await sled.greet("shop", key, ORIGIN[1], 4, oldest=3, **hello)
        return await sled.next_frame()


async def connected(gateway: Gateway, eventually: Eventually) -> None:
    """With every gateway that is named, and with one at least."""

    def is_so() -> bool:
        states = gateway.peers.states()
        return not gateway.refilling and bool(states) and all(state.connected for state in states)

    await eventually(is_so)


def refused(why: str) -> dict[str, Any]:
    reason = f"another gateway {why}"
    return {"type": "refused", "code": "gap", "expected": 1, "reason": reason}


async def test_a_gateway_alone_has_nobody_to_ask(start_gateway: StartGateway) -> None:
    alone = await start_gateway(name="alone")
    assert await first_answer(alone) == {"type": "welcome", "last_seq": 0, "max_in_flight": 5_000}


async def test_where_no_other_one_holds_more_the_sled_is_told_so(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    chain = [await start_gateway(name="0")]
    for number in (1, 2):
        chain.append(await start_gateway(name=str(number), peers=[chain[-1].url]))
    ring = await start_gateway(name="3", peers=[chain[0].url, chain[-1].url])
    for gateway in (*chain, ring):
        await connected(gateway, eventually)
    ids = sorted(gateway.peers.gateway_id for gateway in (*chain, ring))
    for gateway in (*chain, ring):
        welcome = await first_answer(gateway)
        assert welcome == {"type": "welcome", "last_seq": 0, "max_in_flight": 5_000, "asked": ids}


async def test_a_gateway_that_is_named_and_not_there_may_hold_more(
    start_gateway: StartGateway, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REFILL_PATIENCE", 0.01)
    last = await start_gateway(name="last", peers=["http://127.0.0.1:9"])
    await eventually(lambda: not last.refilling)
    assert await first_answer(last) == refused("may hold more of this epoch, and cannot be asked now")
    # So does one behind another.
    first = await start_gateway(name="first", peers=[last.url])
    await connected(first, eventually)
    assert await first_answer(first) == refused("may hold more of this epoch, and cannot be asked now")
    # A sled that holds all that is lacked is welcome nevertheless.
    async with await connect(first.url, "shop", new_key(), ORIGIN[1], 4) as sled:
        assert sled.welcome["last_seq"] == 0


async def answer(peer: PeerClient, last_seq: int, *, complete: bool = True) -> dict[str, Any]:
    ask = await peer.receive("ask")
    await peer.send("answer", number=ask["number"], last_seq=last_seq, complete=complete)
    return ask


async def test_what_another_gateway_holds_is_waited_for(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    async with peer_client(one.url) as peer:
        await peer.hold()
        await connected(one, eventually)
        told, ask = await asyncio.gather(first_answer(one), answer(peer, 2))
        assert told == refused("holds more of this epoch, and has yet to send it")
        assert (ask["sled_id"], ask["epoch"]) == ORIGIN
        # Who asks, and whom: none of them is asked again by those.
        assert one.peers.gateway_id in ask["asked"]
        assert len(ask["asked"]) == 2
        told, _ = await asyncio.gather(first_answer(one), answer(peer, 0, complete=False))
        assert told == refused("may hold more of this epoch, and cannot be asked now")


async def test_who_is_asked_ends_the_session_of_the_sled_and_counts_what_it_sent(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    await connected(other, eventually)
    await connected(one, eventually)
    async with await connect(other.url, "shop", KEY, ORIGIN[1], 4) as half_open:
        await half_open.send_events(1, blocked("1"), blocked("2"))
        await half_open.acked(2)
        asked = frozenset({other.peers.gateway_id})
        assert await one.peers.ask(ORIGIN) == Elsewhere(2, complete=True, asked=asked)
        frames, closed = await half_open.until_closed()
        assert [frame.get("code") for frame in frames] == ["superseded"]
        assert closed.reason.startswith("superseded: ")
    # It is no sled whose identity is used twice.
    assert not other.sessions.state("shop").identity_used_twice


async def test_who_does_not_answer_leaves_it_unknown(
    start_gateway: StartGateway, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start_gateway(name="one")
    async with peer_client(one.url) as peer:
        await peer.hold()
        await connected(one, eventually)
        asking = asyncio.create_task(one.peers.ask(ORIGIN))
        await peer.receive("ask")
    # The connection is gone.
    assert await asking == UNKNOWN
    monkeypatch.setattr(limits, "ASK_LIMIT", 0.01)
    async with peer_client(one.url) as peer:
        await peer.hold()
        await connected(one, eventually)
        assert await one.peers.ask(ORIGIN) == UNKNOWN


async def test_answers_to_what_nobody_asked_are_passed_over(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    async with peer_client(one.url) as peer:
        await peer.hold()
        await connected(one, eventually)
        await peer.send("answer", number=9, last_seq=9, complete=True)
        told, _ = await asyncio.gather(one.peers.ask(ORIGIN), answer(peer, 7))
    assert told == Elsewhere(7, complete=True)


async def test_a_gateway_that_asks_too_much_at_once_is_told_that_it_is_not_known(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ASKS_AT_ONCE", 1)
    one = await start_gateway(name="one")
    async with peer_client(one.url) as asker, peer_client(one.url) as silent:
        for peer in (asker, silent):
            await peer.hold()
        for number in (1, 2):
            await asker.send("ask", number=number, sled_id=ORIGIN[0], epoch=ORIGIN[1], asked=[])
        said = await asker.receive("answer")
    assert said == {"type": "answer", "number": 2, "last_seq": 0, "complete": False}


async def test_more_questions_than_are_answered_at_once_wait_for_their_turn(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    await connected(other, eventually)
    asking = [other.peers.ask((f"{number:064x}", ORIGIN[1])) for number in range(limits.ASKS_AT_ONCE + 200)]
    answers = await asyncio.gather(*asking)
    assert all(answer is not None and answer.last_seq == 0 for answer in answers)
    # However many there were, the two are still connected.
    assert (await other.peers.ask(ORIGIN)) == Elsewhere(
        0, complete=True, asked=frozenset({one.peers.gateway_id})
    )


async def test_a_log_that_stopped_answers_nothing(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    await connected(other, eventually)
    asking = asyncio.create_task(other.peers.ask(ORIGIN))
    await stop(one)
    answer = await asking
    assert answer is not None
    assert answer.last_seq == 0


class Other:
    """A gateway that is asked, and notes who was said to be asked."""

    def __init__(self, last_seq: int, *, complete: bool = True) -> None:
        self.says = Elsewhere(last_seq, complete=complete)
        self.asked: Collection[str] = ()

    async def ask(self, origin: Origin, asked: Collection[str]) -> Elsewhere:
        del origin
        self.asked = asked
        return self.says


async def test_the_answer_is_that_of_all_together() -> None:
    near, far = Other(3), Other(5, complete=False)
    assert await ask_all({"a": near, "b": far}, ORIGIN, {"me"}) == Elsewhere(5, complete=False)
    assert set(near.asked) == set(far.asked) == {"me", "a", "b"}
    assert await ask_all({}, ORIGIN, {"me"}) == Elsewhere(0, complete=True)


async def test_several_questions_may_wait_at_once() -> None:
    sent: list[wire.Frame] = []
    questions = Questions(sent.append)
    waiting = [asyncio.create_task(questions.ask(ORIGIN, set())) for _ in range(2)]
    await asyncio.sleep(0)
    for frame in reversed(sent):
        assert isinstance(frame, wire.Ask)
        questions.take(wire.Answer(number=frame.number, last_seq=frame.number, complete=True))
    assert [answer.last_seq for answer in await asyncio.gather(*waiting)] == [1, 2]
