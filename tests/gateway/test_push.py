"""SPEC 5 over real sockets: sleds of both versions against a whole gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.gateway.conftest import Eventually, Http, StartGateway, stop
from tests.support.relay_client import (
    ClosedError,
    PushSocket,
    RelayClient,
    blocked,
    connect,
    connect_v1,
    join_token,
    new_epoch,
    new_key,
    push,
    sled_id_of,
)

from huskies import limits
from huskies.gateway.push import V2Connection
from huskies.gateway.server import Gateway
from huskies.protocol import wire
from huskies.protocol.gateway import GatewaySession

PROJECTS = """
[projects.web]
open = true
[sled_tokens]
shop = "token-of-the-shop"
blog = "token-of-the-blog"
"""


async def events_of(http: Http, gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http(f"{gateway.url}/gateway/events", limit="1000")).body["events"]
    return found


async def reasons_of(http: Http, gateway: Gateway) -> list[str]:
    return [shown["event"].get("reason", "") for shown in await events_of(http, gateway)]


async def project_of(http: Http, gateway: Gateway, name: str) -> dict[str, Any]:
    projects = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    [found] = [project for project in projects if project["name"] == name]
    return dict(found)


async def refused(client: PushSocket) -> tuple[dict[str, Any], int | None]:
    """The last frame before the close, and the close code."""
    frames, closed = await client.until_closed()
    return frames[-1], closed.code


async def handshake(url: str, project: str, **options: Any) -> int:
    """The status of an upgrade that is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await PushSocket.open(url, project, **options)
    return caught.value.status


# --- admission ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", ["", "a b", "x" * 65, "é", "a/b"])
async def test_a_project_name_that_cannot_be_is_422(gateway: Gateway, project: str) -> None:
    assert await handshake(gateway.url, project) == 422


@pytest.mark.parametrize("in_query", [True, False])
async def test_a_join_token_admits_once_however_it_is_shown(gateway: Gateway, in_query: bool) -> None:  # noqa: FBT001 - a case
    async with aiohttp.ClientSession() as session:
        token = await join_token(session, gateway.url)
    async with await RelayClient.open(gateway.url, "shop", token=token, in_query=in_query) as client:
        assert (await client.next_frame())["type"] == "challenge"
    assert await handshake(gateway.url, "shop", token=token, in_query=in_query) == 401


async def test_an_unknown_join_token_is_401_with_one_line_that_does_not_tell_it(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert await handshake(gateway.url, "shop", token="made-up-secret", in_query=True) == 401
    lines = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 1
    assert "made-up-secret" not in caplog.text


async def test_an_expired_join_token_is_401(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with aiohttp.ClientSession() as session:
        monkeypatch.setattr(limits, "JOIN_TOKEN_LIFETIME", 0)
        token = await join_token(session, gateway.url)
    assert await handshake(gateway.url, "shop", token=token) == 401


@pytest.mark.parametrize(
    ("project", "sled_token", "status"),
    [("shop", None, 403), ("shop", "token-of-the-blog", 403), ("web", "token-of-the-shop", 403)],
)
async def test_a_join_token_that_is_not_for_the_project_is_403(
    start_gateway: StartGateway, project: str, sled_token: str | None, status: int
) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    assert await handshake(gateway.url, project, sled_token=sled_token) == status


async def test_the_sled_token_of_the_project_admits(start_gateway: StartGateway, http: Http) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    await push(gateway.url, "shop", blocked(), sled_token="token-of-the-shop")
    await push(gateway.url, "web", blocked())
    assert [event["project"] for event in await events_of(http, gateway)] == ["shop", "web"]


async def test_elsewhere_than_on_loopback_only_what_is_allowed_is_admitted(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(projects=PROJECTS, host="0.0.0.0")  # noqa: S104 - the case
    url = gateway.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - the case
    await push(url, "web", blocked())
    await push(url, "shop", blocked(), sled_token="token-of-the-shop")
    assert await handshake(url, "unlisted") == 403
    assert await handshake(url, "shop") == 403


# --- v2 ----------------------------------------------------------------------------------------------


async def test_the_subprotocol_is_chosen_where_it_is_offered(gateway: Gateway) -> None:
    async with await RelayClient.open(gateway.url, "shop", protocols=("other", "huskies.relay.v2")) as client:
        assert client.socket.protocol == "huskies.relay.v2"
        assert (await client.next_frame())["type"] == "challenge"


async def test_each_connection_gets_another_nonce_and_the_same_gateway_id(
    start_gateway: StartGateway,
) -> None:
    challenges = []
    for _ in range(2):
        gateway = await start_gateway()
        async with await RelayClient.open(gateway.url, "shop") as client:
            challenges.append(await client.next_frame())
        await stop(gateway)
    assert challenges[0]["gateway_id"] == challenges[1]["gateway_id"]
    assert challenges[0]["nonce"] != challenges[1]["nonce"]


async def test_the_gateway_id_is_its_public_key(gateway: Gateway, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes((tmp_path / "gw" / "gateway.key").read_bytes())
    async with await RelayClient.open(gateway.url, "shop") as client:
        assert (await client.next_frame())["gateway_id"] == sled_id_of(key)


async def test_events_are_acknowledged_and_welcomed_next_time(gateway: Gateway, http: Http) -> None:
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch) as client:
        assert client.welcome == {"type": "welcome", "last_seq": 0, "max_in_flight": 5_000}
        await client.send_events(1, blocked("a"), blocked("b"))
        await client.acked(2)
        await client.send_events(2, blocked("b"), blocked("c"))
        await client.acked(3)
    async with await connect(gateway.url, "shop", key, epoch) as client:
        assert client.welcome["last_seq"] == 3
    assert await reasons_of(http, gateway) == ["a", "b", "c"]
    assert [event["seq"] for event in await events_of(http, gateway)] == [1, 2, 3]


async def test_what_was_acknowledged_survives_a_restart(start_gateway: StartGateway, http: Http) -> None:
    key, epoch = new_key(), new_epoch()
    for number in (1, 2, 3):
        gateway = await start_gateway()
        async with await connect(gateway.url, "shop", key, epoch) as client:
            assert client.welcome["last_seq"] == number - 1
            await client.send_events(number, blocked(str(number)))
            await client.acked(number)
        assert await reasons_of(http, gateway) == [str(one) for one in range(1, number + 1)]
        await stop(gateway)


@pytest.mark.parametrize("key_case", ["lower", "upper"])
async def test_a_sled_is_the_same_however_its_id_is_spelled(gateway: Gateway, key_case: str) -> None:
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch) as client:
        await client.send_events(1, blocked())
        await client.acked(1)
    async with await RelayClient.open(gateway.url, "shop") as client:
        client.challenge = await client.next_frame()
        sled_id = sled_id_of(key).upper() if key_case == "upper" else sled_id_of(key)
        challenge = client.challenge
        lines = ("huskies.relay.v2", challenge["gateway_id"], challenge["nonce"], "shop", sled_id, epoch)
        signature = key.sign("\n".join(lines).encode()).hex()
        await client.send(
            {
                "type": "hello", "project": "shop", "sled_id": sled_id, "epoch": epoch, "last_seq": 1,
                "signature": signature,
            }
        )  # fmt: skip
        assert (await client.next_frame())["last_seq"] == 1


@pytest.mark.parametrize(
    "change",
    [{"signature": "00" * 64}, {"project": "blog"}, {"epoch": "f" * 16}],
    ids=lambda change: next(iter(change)),
)
async def test_a_hello_that_does_not_hold_is_unauthorized(gateway: Gateway, change: dict[str, str]) -> None:
    async with await RelayClient.open(gateway.url, "shop") as client:
        await client.greet("shop", new_key(), new_epoch(), 0, falsified=change)
        frame, code = await refused(client)
    assert (frame["code"], code) == ("unauthorized", 1008)


async def test_a_sled_belongs_to_one_project(start_gateway: StartGateway) -> None:
    key = new_key()
    gateway = await start_gateway()
    await (await connect(gateway.url, "shop", key, new_epoch())).close()
    for _ in range(2):
        with pytest.raises(ClosedError, match="unauthorized") as caught:
            await connect(gateway.url, "blog", key, new_epoch())
        assert caught.value.code == 1008
        await stop(gateway)
        gateway = await start_gateway()
    await (await connect(gateway.url, "shop", key, new_epoch())).close()


async def test_a_sled_that_greets_for_two_projects_at_once_belongs_to_one(
    gateway: Gateway, eventually: Eventually
) -> None:
    key, gate = new_key(), threading.Event()
    one, two = await RelayClient.open(gateway.url, "shop"), await RelayClient.open(gateway.url, "blog")
    async with one, two:
        gateway.log.later(lambda _: gate.wait(10))
        await one.greet("shop", key, new_epoch(), 0)
        await two.greet("blog", key, new_epoch(), 0)
        sessions = gateway.sessions
        await eventually(
            lambda: all(c.core._state.name != "AWAIT_HELLO" for c in sessions._by_sled_or_greeting())
        )
        gate.set()
        answers = [(await client.next_frame())["type"] for client in (one, two)]
    owned = {stream.project for stream in gateway.log.streams if stream is not None}
    assert len(owned) == 1, (owned, answers)


async def test_a_gap_is_refused_and_nothing_of_it_stored(gateway: Gateway, http: Http) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send_events(1, blocked("a"))
        await client.send_events(3, blocked("c"))
        frames, closed = await client.until_closed()
    assert frames[0] == {"type": "ack", "seq": 1}
    assert (frames[-1]["code"], frames[-1]["expected"], closed.code) == ("gap", 2, 1008)
    assert await reasons_of(http, gateway) == ["a"]


async def test_a_conflict_is_quarantined_and_reported_to_both_sides(
    gateway: Gateway, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch) as client:
        await client.send_events(1, blocked("a"), blocked("b"))
        await client.acked(2)
    async with await connect(gateway.url, "shop", key, epoch, 3) as client:
        await client.send_events(1, blocked("a"), blocked("B"), blocked("C"))
        frames, closed = await client.until_closed()
    assert [frame["type"] for frame in frames] == ["ack", "refused"]
    assert (frames[0]["seq"], frames[1]["code"], frames[1]["seq"], closed.code) == (1, "conflict", 2, 1008)
    assert await reasons_of(http, gateway) == ["a", "b"]
    assert any(r.levelno >= logging.ERROR and "quarantine" in r.getMessage() for r in caplog.records)
    rows = await gateway.log.call(
        lambda db: db.execute("SELECT first_seq, events FROM quarantine").fetchall()
    )
    assert [(seq, [event["reason"] for event in json.loads(events)]) for seq, events in rows] == [
        (2, ["B", "C"])
    ]
    assert 'huskies_refused_total{kind="conflict"} 1.0' in gateway.metrics.render().decode()


async def test_what_a_sled_sent_behind_a_conflict_is_neither_stored_nor_acknowledged(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch) as client:
        await client.send_events(1, *(blocked(f"first {n}") for n in range(1_000)))
        await client.acked(1_000)
    gate = threading.Event()
    async with await connect(gateway.url, "shop", key, epoch, 1_001) as client:
        gateway.log.later(lambda _: gate.wait(10))
        await client.send_events(1, *(blocked(f"other {n}") for n in range(1_000)))
        await client.send_events(1_001, blocked("behind"))
        await eventually(lambda: gateway.log.pending_events == 1_001)
        gate.set()
        frames, _ = await client.until_closed()
    assert [frame for frame in frames if frame["type"] == "ack"] == []
    assert (frames[-1]["code"], frames[-1]["seq"]) == ("conflict", 1)
    page = await http(f"{gateway.url}/gateway/events", before="latest", limit="1")
    assert page.body["events"][0]["event"]["reason"] == "first 999"


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        ("this is no JSON", 1007, "the frame is not JSON: invalid character (byte 4)"),
        ('{"type":"events"', 1007, "the frame is not JSON: input data was truncated"),
        ("{}", 1008, "type: is missing"),
        ('{"type":"ack","seq":1}', 1008, "type: unknown value 'ack'"),
        ('{"type":"events","first_seq":1,"events":[]}', 1008, "events: expected a list that is not empty"),
        ('{"type":"events","first_seq":1,"events":[{}]}', 1008, "events[0].type: is missing"),
        ('{"type":"hello"}', 1008, "project: is missing"),
        (
            '{"type":"hello","project":"a b"}',
            1008,
            "project: expected a text that matches ^[A-Za-z0-9._-]{1,64}$",
        ),
    ],
)
async def test_a_frame_that_does_not_parse_or_validate_closes_with_the_reason(
    gateway: Gateway, frame: str, code: int, reason: str
) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send(frame)
        frames, closed = await client.until_closed()
    assert [(one["type"], one["code"], one["reason"]) for one in frames] == [("refused", "invalid", reason)]
    assert (closed.code, closed.reason) == (code, f"invalid: {reason}")


async def test_nothing_of_an_invalid_frame_is_stored_and_what_came_before_is_acknowledged(
    gateway: Gateway, http: Http
) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send_events(1, blocked("a"))
        await client.send_events(2, blocked("b"), blocked("c", "i" * 257), blocked("d"))
        frames, closed = await client.until_closed()
    assert [frame["type"] for frame in frames] == ["ack", "refused"]
    assert (frames[0]["seq"], frames[1]["code"], frames[1]["seq"], closed.code) == (1, "invalid", 3, 1008)
    assert await reasons_of(http, gateway) == ["a"]


async def test_a_binary_frame_closes_with_1003(gateway: Gateway) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send(b'{"type":"events"}')
        _, closed = await client.until_closed()
    assert closed.code == 1003


def frame_of(size: int) -> str:
    frame = json.dumps({"type": "events", "first_seq": 1, "events": [blocked()]})
    return frame + " " * (size - len(frame))


async def test_a_frame_of_a_mebibyte_is_taken(gateway: Gateway) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send(frame_of(1 << 20))
        await client.acked(1)


async def test_a_frame_above_a_mebibyte_closes_with_1009(gateway: Gateway, http: Http) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send(frame_of((1 << 20) + 1))
        _, closed = await client.until_closed()
    assert closed.code == 1009
    assert await events_of(http, gateway) == []


async def test_more_in_flight_than_allowed_is_slowed_down_and_not_lost(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_IN_FLIGHT", 3)
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        for seq in range(1, 101):
            await client.send_events(seq, blocked(str(seq)))
        await client.acked(100)
    assert await reasons_of(http, gateway) == [str(seq) for seq in range(1, 101)]


async def test_a_newer_session_ends_the_older_after_its_commits_settled(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    key, epoch, gate = new_key(), new_epoch(), threading.Event()
    async with await connect(gateway.url, "shop", key, epoch) as older:
        gateway.log.later(lambda _: gate.wait(10))
        await older.send_events(1, blocked("a"), blocked("b"))
        await eventually(lambda: gateway.log.pending_events == 2)
        async with await RelayClient.open(gateway.url, "shop") as newer:
            await newer.greet("shop", key, epoch, 2)
            frame, code = await refused(older)
            gate.set()
            assert (frame["code"], code) == ("superseded", 1008)
            assert (await newer.next_frame())["last_seq"] == 2
            assert (await project_of(http, gateway, "shop"))["connected"]
    assert await reasons_of(http, gateway) == ["a", "b"]


async def test_a_frame_taken_just_before_a_newer_session_is_settled_first(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, epoch, admit = new_key(), new_epoch(), gateway.sessions.admit
    frame = json.dumps({"type": "events", "first_seq": 1, "events": [blocked("a"), blocked("b")]})

    async def admit_after_the_frame(newer: V2Connection, hello: wire.Hello) -> None:
        older = gateway.sessions._by_sled[sled_id_of(key)]
        older.apply_now(older.core.receive(frame.encode(), 0))
        await admit(newer, hello)

    async with await connect(gateway.url, "shop", key, epoch):
        monkeypatch.setattr(gateway.sessions, "admit", admit_after_the_frame)
        async with await connect(gateway.url, "shop", key, epoch, 2) as client:
            assert client.welcome["last_seq"] == 2


async def test_an_identity_that_is_used_twice_is_shown_when_it_repeats(
    gateway: Gateway, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    key, epoch = new_key(), new_epoch()
    clients = [await connect(gateway.url, "shop", key, epoch)]
    assert not (await project_of(http, gateway, "shop"))["identity_used_twice"]
    for _ in range(3):
        clients.append(await connect(gateway.url, "shop", key, epoch))
        frame, _ = await refused(clients[-2])
        assert frame["code"] == "superseded"
    assert (await project_of(http, gateway, "shop"))["identity_used_twice"]
    assert any("used twice" in record.getMessage() for record in caplog.records)
    for client in clients:
        await client.close()


async def test_how_much_a_sled_is_behind_is_shown(gateway: Gateway, http: Http) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch(), last_seq=5) as client:
        assert (await project_of(http, gateway, "shop"))["outstanding"] == 5
        await client.send_events(1, blocked("a"), blocked("b"))
        await client.acked(2)
        assert (await project_of(http, gateway, "shop"))["outstanding"] == 3


async def test_what_no_one_holds_any_more_is_shown_with_its_range(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway()
    key, older, newer = new_key(), new_epoch(), new_epoch()
    async with await connect(gateway.url, "shop", key, older) as client:
        await client.send_events(1, blocked("a"), blocked("b"))
        await client.acked(2)
    await (await connect(gateway.url, "shop", key, newer, previous=[(older, 9)])).close()
    for _ in range(2):
        missing = (await project_of(http, gateway, "shop"))["missing"]
        assert missing == [{"sled_id": sled_id_of(key), "epoch": older, "first_seq": 3, "last_seq": 9}]
        await stop(gateway)
        gateway = await start_gateway()


async def test_an_older_epoch_of_which_all_is_held_is_not_missing(gateway: Gateway, http: Http) -> None:
    key, older = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, older) as client:
        await client.send_events(1, blocked("a"), blocked("b"))
        await client.acked(2)
    await (await connect(gateway.url, "shop", key, new_epoch(), previous=[(older, 2)])).close()
    assert (await project_of(http, gateway, "shop"))["missing"] == []


async def test_a_snapshot_corrects_the_board_is_no_event_and_survives_a_restart(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    gateway = await start_gateway()
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch) as client:
        await client.send_events(1, blocked("stuck", "1_bug_x"))
        await client.acked(1)
        await client.send_snapshot(
            1,
            {
                "story_id": "2_bug_y",
                "story_name": "Y",
                "stage": "3_qa",
                "blocked": None,
                "merge_failure": "no",
            },
        )

        async def shown() -> list[tuple[str, str | None, str | None]]:
            stories = (await project_of(http, gateway, "shop"))["stories"]
            return [(story["story_id"], story["stage"], story["merge_failure"]) for story in stories]

        async def corrected() -> bool:
            return await shown() == [("2_bug_y", "3_qa", "no")]

        await eventually(corrected)
        await client.send_events(2, blocked("later", "3_bug_z"))
        await client.acked(2)
    wanted = [("2_bug_y", "3_qa", "no"), ("3_bug_z", None, None)]
    assert await shown() == wanted
    for forget in (False, True):
        await stop(gateway)
        if forget:
            (gateway.log.path.parent / "views.db").unlink()
        gateway = await start_gateway()
        assert await shown() == wanted
    assert await reasons_of(http, gateway) == ["stuck", "later"]


async def test_a_gateway_that_stops_acknowledges_what_it_took_and_says_draining(
    gateway: Gateway, eventually: Eventually
) -> None:
    gate = threading.Event()
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        gateway.log.later(lambda _: gate.wait(10))
        await client.send_events(1, blocked("a"))
        await eventually(lambda: gateway.log.pending_events == 1)
        stopping = asyncio.create_task(stop(gateway))
        await asyncio.sleep(0)
        gate.set()
        frames, closed = await client.until_closed()
        await stopping
    assert [frame["type"] for frame in frames] == ["ack", "refused"]
    assert (frames[-1]["code"], closed.code) == ("draining", 1001)


async def test_draining_ends_a_connection_of_v1_too(gateway: Gateway) -> None:
    async with await connect_v1(gateway.url, "shop") as client:
        await client.send(blocked("a"))
        stopping = asyncio.create_task(stop(gateway))
        _, closed = await client.until_closed()
        await stopping
    assert closed.code == 1001


# --- v1 ----------------------------------------------------------------------------------------------


async def test_v1_gets_no_subprotocol_and_its_events_an_identity_of_the_gateways_own(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    async with await connect_v1(gateway.url, "shop") as client:
        assert client.socket.protocol is None
        await client.send(blocked("a"))
        await client.send(
            {"type": "story_blocked", "story_id": "1", "reason": "b", "timestamp_ms": 1, "more": 1}
        )
        await eventually(lambda: gateway.feed.head.position == 2)
        assert (await project_of(http, gateway, "shop"))["outstanding"] is None
    one, two = await events_of(http, gateway)
    assert [one["seq"], two["seq"]] == [1, 2]
    assert (one["sled_id"], one["epoch"]) == (two["sled_id"], two["epoch"])
    assert [one["replayed"], two["replayed"]] == [False, False]
    assert two["event"]["story_name"] == ""


async def test_v1_is_sent_no_frame(gateway: Gateway, eventually: Eventually) -> None:
    async with await connect_v1(gateway.url, "shop") as client:
        await client.send(blocked("a"))
        await client.send("no JSON")
        await eventually(lambda: gateway.feed.head.position == 1)
        await client.send(b"ends the connection")
        frames, _ = await client.until_closed()
    assert frames == []


async def test_v1_events_get_a_new_epoch_at_each_start(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    shown: list[dict[str, Any]] = []
    for number in (1, 2):
        gateway = await start_gateway()
        async with await connect_v1(gateway.url, "shop") as client:
            await client.send(blocked(str(number)))
            await eventually(partial(_ends_at, gateway, number))
        shown = await events_of(http, gateway)
        await stop(gateway)
    one, two = shown
    assert one["sled_id"] == two["sled_id"]
    assert one["epoch"] != two["epoch"]


def _ends_at(gateway: Gateway, position: int) -> bool:
    return gateway.feed.head.position == position


BAD_V1 = ["no JSON", "{}", '{"type":"new"}', json.dumps(blocked("r", "i" * 257)), "[]", "\x00"]


async def test_v1_drops_a_bad_frame_counts_and_logs_it_and_stays(
    gateway: Gateway, http: Http, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    async with await connect_v1(gateway.url, "shop") as client:
        for frame in BAD_V1:
            await client.send(frame)
        await client.send(blocked("good"))
        await eventually(lambda: gateway.feed.head.position == 1)
    assert await reasons_of(http, gateway) == ["good"]
    assert f'huskies_refused_total{{kind="v1_frame"}} {len(BAD_V1)}.0' in gateway.metrics.render().decode()
    assert any("dropped" in record.getMessage() for record in caplog.records)


async def test_v1_drops_a_frame_that_is_not_utf_8_and_stays(gateway: Gateway, eventually: Eventually) -> None:
    async with await connect_v1(gateway.url, "shop") as client:
        await client.socket.send_frame(b'{"type":"story_blocked","reason":"\xff"}', aiohttp.WSMsgType.TEXT)
        await client.send(blocked("good"))
        await eventually(lambda: gateway.feed.head.position == 1)


async def test_v1_texts_that_are_too_long_are_shortened_visibly(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    async with await connect_v1(gateway.url, "shop") as client:
        await client.send({**blocked("r" * 16_385), "story_name": "n" * 1_025})
        await eventually(lambda: gateway.feed.head.position == 1)
    [shown] = await events_of(http, gateway)
    event = shown["event"]
    assert (len(event["reason"]), len(event["story_name"])) == (16_384, 1_024)
    assert event["reason"].endswith("(shortened from 16385 characters)")


async def test_v1_takes_no_rate_limits(gateway: Gateway, http: Http, eventually: Eventually) -> None:
    limit = {"type": "rate_limit_warning", "story_id": "1", "agent_name": "coder", "timestamp_ms": 1}
    async with await connect_v1(gateway.url, "shop") as client:
        await client.send(limit)
        await client.send(blocked("good"))
        await eventually(lambda: gateway.feed.head.position == 1)
    assert await reasons_of(http, gateway) == ["good"]


async def test_v1_is_closed_for_a_binary_frame_and_one_above_a_mebibyte(gateway: Gateway) -> None:
    for frame, code in ((b"{}", 1003), ("x" * ((1 << 20) + 1), 1009)):
        async with await connect_v1(gateway.url, "shop") as client:
            await client.send(frame)
            _, closed = await client.until_closed()
        assert closed.code == code


async def test_v1_and_v2_sleds_of_one_project_are_both_heard(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    async with await connect_v1(gateway.url, "shop") as older:
        await push(gateway.url, "shop", blocked("new"))
        await older.send(blocked("old"))
        await eventually(lambda: gateway.feed.head.position == 2)
    assert sorted(await reasons_of(http, gateway)) == ["new", "old"]


async def test_time_reaches_the_sessions_and_never_closes_v1(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = await connect(gateway.url, "shop", new_key(), new_epoch())
    older = await connect_v1(gateway.url, "shop")
    async with silent, older:
        monkeypatch.setattr(limits, "SILENCE_LIMIT", -1.0)
        await gateway.sessions.tick()
        _, closed = await silent.until_closed()
        assert closed.code == 1008
        await older.send(blocked())
        await gateway.sessions.tick()
        assert not older.socket.closed


async def test_time_reaches_the_sessions_by_itself(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.gateway.server._TICK_INTERVAL", 0.01)
    gateway = await start_gateway()
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as silent:
        monkeypatch.setattr(limits, "SILENCE_LIMIT", -1.0)
        _, closed = await silent.until_closed()
    assert closed.code == 1008


async def test_a_sled_is_pinged_and_its_answer_is_heard(
    gateway: Gateway, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = _count_what_is_heard(monkeypatch)
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        client.socket._autoping = False
        # Only now: the gateway's own tick may come at any time, and no ping of it be answered.
        monkeypatch.setattr(limits, "PING_INTERVAL", -1.0)
        await gateway.sessions.tick()
        assert (await client.socket.receive(10)).type is aiohttp.WSMsgType.PING
        assert heard == []
        await client.socket.pong()
        await eventually(lambda: len(heard) == 1)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_ping_is_answered(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    heard = _count_what_is_heard(monkeypatch)
    if version == "v1":
        client: PushSocket = await connect_v1(gateway.url, "shop")
    else:
        client = await connect(gateway.url, "shop", new_key(), new_epoch())
    async with client:
        client.socket._autoping = False
        await client.socket.ping(b"there?")
        answer = await client.socket.receive(10)
    assert (answer.type, bytes(answer.data)) == (aiohttp.WSMsgType.PONG, b"there?")
    assert len(heard) == (version == "v2")


def _count_what_is_heard(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    heard: list[float] = []
    monkeypatch.setattr(GatewaySession, "heard", lambda _, now: heard.append(now))
    return heard


async def test_dead_connections_are_found_by_tcp(gateway: Gateway, eventually: Eventually) -> None:
    async with await connect_v1(gateway.url, "shop"):
        await eventually(lambda: gateway.sessions._by_project)
        [connection] = gateway.sessions._by_project["shop"]
        assert connection._transport is not None
        found = connection._transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_close_that_is_not_answered_is_not_waited_for(
    gateway: Gateway, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(limits, "CLOSE_LIMIT", 0.05)
    if version == "v1":
        client: PushSocket = await connect_v1(gateway.url, "shop")
    else:
        client = await connect(gateway.url, "shop", new_key(), new_epoch())
    async with client:
        await eventually(lambda: gateway.sessions._by_project)
        # It never reads the close that this brings, and so does not answer it.
        await client.send(b"no text")
        async with asyncio.timeout(5):
            await eventually(lambda: not gateway.sessions._by_project)


async def test_a_sled_that_answers_no_close_holds_up_no_stop(gateway: Gateway) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        transport = client.socket._conn.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()
        async with asyncio.timeout(4):
            await stop(gateway)
        transport.resume_reading()
