"""Gateways that replicate hold the same events, in whatever way they are connected (SPEC 5)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from tests.gateway.conftest import Owner, stop, stored
from tests.support.peer_client import peer_client
from tests.support.relay_client import blocked, connect, connect_v1, new_key, sled_id_of

from huskies import limits
from huskies.events import codec
from huskies.gateway.peers import link
from huskies.gateway.server import Gateway
from huskies.gateway.store.appends import Append
from huskies.gateway.store.blocks import extend_digest
from huskies.protocol.branches import first_wins

if TYPE_CHECKING:
    from tests.gateway.conftest import Eventually, Http, StartGateway

SLED = "aa" * 32
EPOCH = "e1" * 8


async def push(gateway: Gateway, *reasons: str, sled_id: str = SLED, epoch: str = EPOCH) -> None:
    """Let the log hold these next, as if a sled had pushed them."""
    admitted = await gateway.log.admit(sled_id, epoch, "shop")
    assert not isinstance(admitted, str)
    stream, last_seq = admitted
    events = [stored(reason) for reason in reasons]
    gateway.log.append(Append(stream, last_seq + 1, events, 1_000, 0, Owner(), len(events), 100))
    await gateway.log.call(lambda _: None)


async def told(gateway: Gateway, http: Http, **query: Any) -> list[dict[str, Any]]:
    answer = await http(f"{gateway.url}/gateway/events", limit=1_000, **query)
    events: list[dict[str, Any]] = answer.body["events"]
    return events


def reasons(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"]["reason"] for event in events]


def heads(gateway: Gateway) -> Mapping[tuple[str, str], tuple[int, int]]:
    return {s.origin: (s.last_seq, s.digest) for s in gateway.log.sequences.all_live() if s.last_seq}


def same(*gateways: Gateway) -> Callable[[], bool]:
    """Whether all hold as much of every sequence, and the same, committed."""

    def holds() -> bool:
        committed = all(gateway.feed.head.position == gateway.log.position for gateway in gateways)
        return committed and all(heads(gateway) == heads(gateways[0]) for gateway in gateways)

    return holds


async def test_both_ways_as_it_comes_and_what_came_before(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    await push(one, "before")
    other = await start_gateway(name="other", peers=[one.url])
    await push(other, "theirs", sled_id="bb" * 32)
    await eventually(lambda: len(heads(one)) == len(heads(other)) == 2)
    await push(one, "after")
    await push(other, "theirs too", sled_id="bb" * 32)
    await eventually(lambda: same(one, other)() and heads(one)[SLED, EPOCH][0] == 2)
    for gateway in (one, other):
        events = await told(gateway, http)
        assert sorted(reasons(events)) == ["after", "before", "theirs", "theirs too"]
        assert {event["project"] for event in events} == {"shop"}
    # Each has positions of its own, and shows when the first gateway received it.
    assert len({event["received_ms"] for event in await told(one, http)}) == 1


async def test_what_came_before_the_connection_is_replayed_and_what_comes_is_not(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    await push(one, "before")
    other = await start_gateway(name="other", peers=[one.url])
    await eventually(lambda: len(heads(other)) == 1)
    await push(one, "live")
    await eventually(same(one, other))
    assert [event["replayed"] for event in await told(other, http)] == [True, False]


async def test_three_hops_and_a_ring_show_each_event_once(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    chain = [await start_gateway(name="0")]
    for number in range(1, 4):
        chain.append(await start_gateway(name=str(number), peers=[chain[-1].url]))
    ring = await start_gateway(name="4", peers=[chain[0].url, chain[-1].url])
    gateways = [*chain, ring]
    await eventually(lambda: all(len(gateway.peers.states()) >= 1 for gateway in gateways))
    for number, gateway in enumerate(gateways):
        await push(gateway, f"{number}a", f"{number}b", sled_id=f"{number:064x}")
    await eventually(lambda: same(*gateways)() and len(heads(ring)) == len(gateways))
    for gateway in gateways:
        found = reasons(await told(gateway, http))
        assert sorted(found) == sorted(f"{n}{letter}" for n in range(len(gateways)) for letter in "ab")


async def test_what_was_cut_off_is_caught_up_with_on_both_sides(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    await push(one, "1")
    await eventually(same(one, other))
    port = int(one.url.rpartition(":")[2])
    await stop(one)
    await push(other, "2")
    # The same sled, which went over to the other gateway and came back.
    one = await start_gateway(name="one", port=port)
    await push(one, "3", sled_id="bb" * 32)
    await eventually(lambda: same(one, other)() and len(heads(one)) == 2)
    assert sorted(reasons(await told(one, http))) == ["1", "2", "3"]


async def test_a_gateway_that_lost_its_disk_is_rebuilt(
    start_gateway: StartGateway, http: Http, eventually: Eventually, tmp_path: Path
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    await push(one, *(str(number) for number in range(600)))
    await eventually(same(one, other))
    old = await told(one, http)
    port = int(one.url.rpartition(":")[2])
    await stop(one)
    shutil.rmtree(tmp_path / "one")
    rebuilt = await start_gateway(name="one", port=port)
    await eventually(same(rebuilt, other))
    assert reasons(await told(rebuilt, http)) == reasons(old)
    # It is another log with another identity: an old cursor is told so.
    assert rebuilt.peers.gateway_id != one.peers.gateway_id
    page = await http(f"{rebuilt.url}/gateway/events", after=old[5]["cursor"])
    assert page.status == 409


async def test_a_gateway_with_an_empty_log_takes_no_sleds_before_it_asked_the_others(
    start_gateway: StartGateway, http: Http, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sleds would be asked for events that they no longer keep, and begin a new history."""
    one = await start_gateway(name="one")
    await push(one, "1", "2")
    port = int(one.url.rpartition(":")[2])
    await stop(one)
    other = await start_gateway(name="other", peers=[one.url or f"http://127.0.0.1:{port}"])
    assert (await http(f"{other.url}/gateway/tokens", method="POST")).status == 503
    assert (await http(f"{other.url}/readyz")).status == 503
    one = await start_gateway(name="one", port=port)
    await eventually(lambda: not other.refilling)
    # All is handed over by then; the commit may still be under way.
    assert heads(other) == heads(one)
    await eventually(same(one, other))
    assert (await http(f"{other.url}/gateway/tokens", method="POST")).status == 200
    # Where there is no one to ask, it does not wait for ever.
    monkeypatch.setattr(limits, "REFILL_PATIENCE", 0.01)
    alone = await start_gateway(name="alone", peers=["http://127.0.0.1:9"])
    await eventually(lambda: not alone.refilling)


async def test_of_two_histories_the_same_one_wins_everywhere(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    """A sled that was cloned pushes to one gateway, and its clone to another, both cut off from the rest."""
    gateways = []
    for name in ("x", "y"):
        gateway = await start_gateway(name=name)
        await push(gateway, "1", "2", *(f"{name}{number}" for number in range(3, 8)))
        gateways.append(gateway)
    third = await start_gateway(name="third", peers=[gateway.url for gateway in gateways])
    fourth = await start_gateway(name="fourth", peers=[third.url])
    everyone = [*gateways, third, fourth]
    await eventually(lambda: same(*everyone)() and all(heads(gateway) for gateway in everyone))
    winner = "x" if first_wins(stored("x3"), stored("y3")) else "y"
    for gateway in everyone:
        expected = ["1", "2", *(f"{winner}{number}" for number in range(3, 8))]
        assert reasons(await told(gateway, http)) == expected
    loser = gateways[0 if winner == "y" else 1]
    views = {view.name: view for view in loser.project_views()}
    [lost] = views["shop"].quarantined
    assert (lost.first_seq, lost.last_seq) == (3, 7)


async def test_a_sled_whose_history_was_contested_goes_on_in_a_new_epoch(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one, other = await start_gateway(name="one"), await start_gateway(name="other")
    key = new_key()
    async with await connect(one.url, "shop", key, EPOCH) as sled:
        await sled.send_events(1, blocked("1"), blocked("mine"))
        await sled.acked(2)
        await push(other, "1", "another's", sled_id=sled_id_of(key))
        third = await start_gateway(name="third", peers=[one.url, other.url])
        await eventually(lambda: same(one, other, third)() and len(heads(third)) == 1)
        await eventually(lambda: all(stream.contested for stream in one.log.sequences.all_live()))
        await sled.send_events(3, blocked("more"))
        refused = await sled.next_frame()
        while refused["type"] == "ack":
            refused = await sled.next_frame()
    assert (refused["code"], refused["seq"]) == ("conflict", 3)


async def test_what_older_sleds_sent_is_replicated_too(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    async with await connect_v1(one.url, "shop") as sled:
        await sled.send(blocked("from v1"))
        await eventually(lambda: other.feed.head.position == 1)
    assert reasons(await told(other, http)) == ["from v1"]


async def test_what_nobody_will_send_is_missing_at_every_gateway(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    async with await connect(one.url, "shop", new_key(), EPOCH, previous=[("0" * 16, 5)]) as sled:
        await sled.send_events(1, blocked("1"))
        await eventually(lambda: bool(other.project_views()) and bool(other.project_views()[0].missing))
    [missing] = other.project_views()[0].missing
    assert (missing.epoch, missing.first_seq, missing.last_seq) == ("0" * 16, 1, 5)


async def test_boards_are_the_same_at_every_gateway(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    third = await start_gateway(name="third", peers=[other.url])

    def board(gateway: Gateway) -> list[tuple[str, str | None]]:
        views = {view.name: view for view in gateway.project_views()}
        return [(story.story_id, story.stage) for story in views["shop"].stories] if "shop" in views else []

    async with await connect(one.url, "shop", new_key(), EPOCH) as sled:
        await sled.send_events(1, blocked("stuck", story_id="1_bug_x"))
        await sled.acked(1)
        await sled.send_snapshot(1, {"story_id": "2_story_new", "stage": "1_backlog"})
        await eventually(lambda: board(third) == [("2_story_new", "1_backlog")])
    late = await start_gateway(name="late", peers=[third.url])
    await eventually(lambda: board(late) == board(one) == [("2_story_new", "1_backlog")])


async def test_a_sled_that_is_connected_to_another_gateway_is_shown_as_connected(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    third = await start_gateway(name="third", peers=[other.url])

    def standing(gateway: Gateway) -> list[tuple[bool, int | None]]:
        return [(view.connected, view.outstanding) for view in gateway.project_views()]

    async with await connect(one.url, "shop", new_key(), EPOCH, 3) as sled:
        await eventually(lambda: standing(third) == [(True, 3)])
        await sled.send_events(1, blocked("1"), blocked("2"), blocked("3"))
    await eventually(lambda: standing(third) == [(False, None)])
    assert standing(one) == standing(other) == [(False, None)]


async def test_a_sled_that_wants_copies_is_told_how_far_so_many_gateways_hold(
    start_gateway: StartGateway,
) -> None:
    one = await start_gateway(name="one")
    await start_gateway(name="other", peers=[one.url])
    key = new_key()
    async with await connect(one.url, "shop", key, EPOCH, copies=2) as sled:
        await sled.send_events(1, blocked("1"), blocked("2"))
        while (frame := await sled.next_frame()).get("held") != 2:
            assert frame["type"] == "ack"
        assert frame["seq"] == 2
    # It is told again when it comes back, and never where nobody else holds anything.
    async with await connect(one.url, "shop", key, EPOCH, 2, copies=2) as sled:
        # Nothing is acknowledged with that: it has not been compared in this session.
        assert await sled.next_frame() == {"type": "ack", "seq": 0, "held": 2}
    async with await connect(one.url, "blog", new_key(), EPOCH, copies=3) as sled:
        await sled.send_events(1, blocked("1"))
        assert await sled.next_frame() == {"type": "ack", "seq": 1}


async def test_what_a_gateway_announces_counts_as_held_once_it_was_compared(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    await push(one, "1", "2")
    await push(one, "1", sled_id="bb" * 32)
    origins = [(SLED, EPOCH), ("bb" * 32, EPOCH)]
    (two, digest), (_, other) = (heads(one)[origin] for origin in origins)
    after = extend_digest(digest, codec.encode_batch([stored("3")])[1:-1])
    async with peer_client(one.url) as peer:
        # It may hold more than there is here, and of another history.
        await peer.hold([1, *origins[0], "shop", 9, 77], [2, *origins[1], "shop", 1, other])
        await eventually(lambda: one.holders.seq(origins[1], 1, 2) == 1)
        assert one.holders.seq(origins[0], two, 2) == 0
        event = {**EVENT, "story_id": "1_bug_x", "reason": "3", "timestamp_ms": 1}
        await peer.send("runs", frame=1, runs=[[1, 3, 1, 1_000, 0, digest, after]], events=[event])
        await peer.receive("ack")
        assert heads(one)[origins[0]] == (3, after)
        assert one.holders.seq(origins[0], 3, 2) == 3
        # What continues something else is not the same, however far it goes.
        await peer.send("runs", frame=2, runs=[[2, 2, 1, 1_000, 0, 5, 6]], events=[event])
        await peer.receive("ack")
        assert one.holders.seq(origins[1], 2, 2) == 1


async def test_two_that_dial_each_other_keep_one_connection(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    port = int(one.url.rpartition(":")[2])
    other = await start_gateway(name="other", peers=[one.url])
    await eventually(lambda: other.peers.states()[0].connected)
    await stop(one)
    one = await start_gateway(name="one", port=port, peers=[other.url])
    await push(one, "1")
    await eventually(same(one, other))
    # Where both dialed, the end of one connection may be heard before the other one is.
    both = (one.peers, other.peers)
    await eventually(lambda: all(len(peers._links) == len(peers._serving) == 1 for peers in both))
    assert [len(peers.states()) for peers in both] == [1, 1]


# --- who may replicate -------------------------------------------------------------------------------


async def test_a_token_is_needed_where_one_is_set(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one", projects='[peers]\ntoken = "secret-of-all"\n')
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert (await http(f"{one.url}/gateway/peers", headers=upgrade)).status == 401
    wrong = {**upgrade, "Authorization": "Bearer wrong"}
    assert (await http(f"{one.url}/gateway/peers", headers=wrong)).status == 401
    stranger = await start_gateway(name="stranger", peers=[one.url])
    await eventually(lambda: stranger.peers.states()[0].last_error is not None)
    [state] = stranger.peers.states()
    assert state.last_error == "it refuses the connection (HTTP 401); is the peer token right?"
    friend = await start_gateway(
        name="friend", projects=f'[peers]\ntoken = "secret-of-all"\nurls = ["{one.url}"]\n'
    )
    await push(friend, "1")
    await eventually(same(one, friend))
    assert not heads(stranger)


async def test_away_from_loopback_nobody_replicates_without_a_token(
    start_gateway: StartGateway, http: Http
) -> None:
    one = await start_gateway(host="0.0.0.0", projects="[projects.shop]\nopen = true\n")  # noqa: S104
    url = one.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    answer = await http(f"{url}/gateway/peers", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert answer.status == 403
    assert answer.body == {"error": "no peer token is set here: set HUSKIES_PEER_TOKEN"}


async def test_only_the_gateways_that_are_named_are_admitted(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one", projects=f'[peers]\ngateways = ["{"a" * 64}"]\n')
    other = await start_gateway(name="other", peers=[one.url])
    await eventually(lambda: other.peers.states()[0].last_error is not None)
    assert "not among those that projects.toml allows" in str(other.peers.states()[0].last_error)


async def test_a_copy_of_the_directory_is_not_taken_for_another_gateway(
    start_gateway: StartGateway, eventually: Eventually, tmp_path: Path
) -> None:
    one = await start_gateway(name="one")
    (tmp_path / "copy").mkdir(mode=0o700)
    shutil.copy2(tmp_path / "one" / "gateway.key", tmp_path / "copy")
    copy = await start_gateway(name="copy", peers=[one.url])
    await eventually(lambda: copy.peers.states()[0].last_error is not None)
    assert "this one's own identity" in str(copy.peers.states()[0].last_error)


async def test_a_page_of_another_origin_cannot_replicate(start_gateway: StartGateway) -> None:
    one = await start_gateway(name="one")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"{one.url}/gateway/peers", origin="http://evil.example")
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (["nonsense"], "a frame is not one of this protocol"),
        (['{"type":"ready"}'], "a frame came out of turn"),
        (['{"type":"proof","signature":"' + "0" * 128 + '"}'], "a frame came out of turn"),
        (
            [
                '{"type":"hello","gateway_id":"' + sled_id_of(new_key()) + '","nonce":"' + "n" * 32 + '"}',
                '{"type":"proof","signature":"' + "0" * 128 + '"}',
            ],
            "the signature does not match the gateway_id",
        ),
    ],
)
async def test_garbage_in_the_greeting_is_refused(
    start_gateway: StartGateway, frames: list[str], reason: str
) -> None:
    one = await start_gateway(name="one")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{one.url}/gateway/peers", protocols=["huskies.peer.v1"]) as socket,
    ):
        for frame in frames:
            await socket.send_str(frame)
        async with asyncio.timeout(10):
            said = [json.loads(message.data) async for message in socket]
    assert said[-1]["type"] == "refused"
    assert said[-1]["reason"].startswith(reason)
    assert socket.close_code == 1008


EVENT = blocked("theirs")


async def test_a_gateway_that_leaves_something_out_is_refused_and_nothing_of_it_stored(
    start_gateway: StartGateway,
) -> None:
    one = await start_gateway(name="one")
    async with peer_client(one.url) as peer:
        await peer.hold([1, SLED, EPOCH, "shop", 9, 1])
        await peer.send("runs", frame=1, runs=[[1, 3, 1, 1_000, 0, 1, 2]], events=[EVENT])
        refused = await peer.receive("refused")
    assert (refused["code"], refused["reason"]) == ("invalid", "seq 1 of a sequence was expected next")
    assert not heads(one)


async def test_a_gateway_that_says_it_holds_more_than_there_is_keeps_no_one_from_anything(
    start_gateway: StartGateway, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    await push(one, "1", "2")
    async with peer_client(one.url) as liar:
        await liar.hold([1, SLED, EPOCH, "shop", 2**62, 7], [2, "bb" * 32, EPOCH, "shop", 2**62, 7])
        await push(one, "3")
        other = await start_gateway(name="other", peers=[one.url])
        await eventually(same(one, other))
        async with await connect(one.url, "shop", new_key(), EPOCH) as sled:
            await sled.send_events(1, blocked("4"))
            await sled.acked(1)
    assert heads(other)[SLED, EPOCH][0] == 3


async def test_what_was_not_acknowledged_in_time_comes_in_smaller_frames_until_all_is(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(link, "_TICK", 0.02)
    key = new_key()
    gateway = await start_gateway()
    for sled_id in ("aa" * 32, "bb" * 32, "cc" * 32):
        await push(gateway, *("x" * 4_000 for _ in range(9)), sled_id=sled_id)

    async def frames(*, until: int, acknowledge: bool) -> list[int]:
        """How many events each frame has that this gateway is sent."""
        sizes: list[int] = []
        async with peer_client(gateway.url, key) as client:
            await client.hold()
            while sum(sizes) < until:
                sizes.append(len((await client.receive("runs"))["events"]))
                if acknowledge:
                    await client.send("ack", frame=len(sizes))
            if not acknowledge:
                monkeypatch.setattr(limits, "ACK_LIMIT", 0.05)
                # Every now and then it says who is connected to it.
                while (message := await client.socket.receive(10)).type is aiohttp.WSMsgType.TEXT:
                    assert json.loads(message.data)["type"] == "presence"
                assert message.type is aiohttp.WSMsgType.CLOSE
                monkeypatch.setattr(limits, "ACK_LIMIT", 30.0)
        await eventually(lambda: bool(gateway.peers.slow) is not acknowledge)
        return sizes

    assert await frames(until=27, acknowledge=False) == [27]
    assert await frames(until=27, acknowledge=True) == [9, 9, 9]
    assert await frames(until=27, acknowledge=True) == [27]


async def test_what_two_gateways_agree_on_is_not_sent_again(start_gateway: StartGateway) -> None:
    one = await start_gateway(name="one")
    await push(one, "1", "2")
    [(last_seq, digest)] = heads(one).values()
    async with peer_client(one.url) as peer:
        await peer.hold([1, SLED, EPOCH, "shop", last_seq, digest])
        await push(one, "3")
        frames = [await peer.next_frame()]
        while frames[-1]["type"] != "runs":
            frames.append(await peer.next_frame())
    assert "again" not in [frame["type"] for frame in frames]
    assert [run[1:3] for run in frames[-1]["runs"]] == [[3, 1]]


async def test_what_is_asked_for_again_while_the_log_is_being_read_is_sent_again(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start_gateway(name="one")
    await push(one, "1", "2")
    [(last_seq, digest)] = heads(one).values()
    await stop(one)
    # What it held before it started it reads from the log.
    one = await start_gateway(name="one")
    read_on, has_read, may_go_on = one.history.blocks_lacking, asyncio.Event(), asyncio.Event()

    async def read(*args: Any) -> Any:
        found = await read_on(*args)
        has_read.set()
        await may_go_on.wait()
        return found

    monkeypatch.setattr(one.history, "blocks_lacking", read)
    async with peer_client(one.url) as peer, asyncio.timeout(10):
        await peer.hold([1, SLED, EPOCH, "shop", last_seq, digest])
        await has_read.wait()
        await peer.send("again", number=1)
        # Once this is answered, that was heard.
        await peer.send("fetch", sled_id=SLED, epoch=EPOCH, first_seq=1, last_seq=1)
        await peer.receive("fetched")
        may_go_on.set()
        frame = await peer.receive("runs")
    assert [run[1:3] for run in frame["runs"]] == [[1, 2]]


async def test_a_gateway_whose_digests_are_wrong_is_noticed_and_stores_what_it_sends_once(
    start_gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    one = await start_gateway(name="one")
    async with peer_client(one.url) as peer:
        await peer.hold([1, SLED, EPOCH, "shop", 1, 5])
        for frame in (1, 2):
            await peer.send("runs", frame=frame, runs=[[1, 1, 1, 1_000, 0, 0, 5]], events=[EVENT])
            assert await peer.receive("ack") == {"type": "ack", "frame": frame}
        # What would continue another history is asked for from the beginning.
        await peer.send("runs", frame=3, runs=[[1, 2, 1, 1_000, 0, 5, 6]], events=[EVENT])
        await peer.receive("again")
    assert "another gateway's digest is wrong" in caplog.text
    assert heads(one)[SLED, EPOCH][0] == 1


# --- repairing ---------------------------------------------------------------------------------------


async def test_a_damaged_block_is_put_back_from_another_gateway_and_meanwhile_not_spread(
    start_gateway: StartGateway,
    http: Http,
    eventually: Eventually,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MEND_INTERVAL", 0.05)
    one = await start_gateway(name="one")
    other = await start_gateway(name="other", peers=[one.url])
    for number in range(1, 5):
        await push(one, f"{number}a", f"{number}b")
    await eventually(same(one, other))
    whole = await told(one, http)
    for gateway in (one, other):
        await stop(gateway)
    with contextlib.closing(sqlite3.connect(tmp_path / "one" / "log.db")) as meddler, meddler:
        meddler.execute(
            "UPDATE blocks SET events = CAST(replace(events, '2a', '2x') AS BLOB) WHERE position = 3"
        )
    one = await start_gateway(name="one")
    page = await http(f"{one.url}/gateway/events", limit=1_000)
    assert reasons(page.body["events"]) == ["1a", "1b"]
    page = await http(f"{one.url}/gateway/events", limit=1_000, after=page.body["next"])
    assert page.body["gap"] == {"from": 3, "to": 4}
    assert len(one.log.damaged) == 1
    # One that holds nothing gets what comes before the damage, and nothing of what is damaged.
    empty = await start_gateway(name="empty", peers=[one.url])
    await eventually(lambda: empty.feed.head.position == 2)
    await start_gateway(name="other", peers=[one.url])
    await eventually(lambda: len(one.log.damaged) == 0)
    assert await told(one, http) == whole
    await eventually(same(one, empty))
    assert reasons(await told(empty, http)) == reasons(whole)
