from __future__ import annotations

import asyncio
import logging
import shutil
import time
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from huskies import limits
from huskies.errors import ConfigError
from huskies.events.model import RateLimitWarning, StoryBlocked
from huskies.protocol.sled import SledSession
from huskies.sled.layout import Layout
from huskies.sled.outbox_store import Keeping
from huskies.sled.relay import Relay
from huskies.sled.relay_connect import Connector
from huskies.sled.scan import Changes, SeenStory
from huskies.sled.story_file import StoryContent
from huskies.sockets import clean, close_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.sled.conftest import Eventually, Opened, OpenOutbox, Peer

# The fixtures are what pytest passes, by name.
# ruff: noqa: PLR0917

pytestmark = pytest.mark.usefixtures("quick_reconnect")


def blocked(number: int) -> StoryBlocked:
    return StoryBlocked(story_id="s", reason=str(number))


async def record(opened: Opened, first: int, last: int) -> None:
    await asyncio.gather(*(opened.outbox.publish(blocked(number)) for number in range(first, last + 1)))


def reasons(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["reason"]) for event in events]


@asynccontextmanager
async def relaying(
    opened: Opened, url: str, sled_token: str | None = None, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Relay]:
    relay = Relay([Connector(url, sled_token)], opened.outbox, chance=lambda: 0.0, clock=clock)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def drained(opened: Opened) -> Callable[[], bool]:
    return lambda: opened.outbox.head.unacked == 0


# --- v2 --------------------------------------------------------------------------------------------


async def test_events_reach_the_gateway_once_and_in_order(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2_500)
    async with relaying(opened, peer.url, "sled-token") as relay:
        await eventually(lambda: len(peer.events()) == 2_500)
        await record(opened, 2_501, 2_510)
        await eventually(drained(opened))
        assert (relay.status.state, relay.status.protocol) == ("connected", "v2")
    assert relay.status.state == "off"
    assert reasons(peer.events()) == list(range(1, 2_511))
    assert peer.requests == ["token Bearer sled-token", "push header shop"]
    assert peer.hellos[0]["last_seq"] == 2_500
    assert "previous" not in peer.hellos[0]


async def test_a_lost_connection_neither_loses_nor_doubles(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    peer.acks = False
    async with relaying(opened, peer.url):
        await record(opened, 1, 50)
        await eventually(lambda: len(peer.events()) == 50)
        assert opened.outbox.head.acked == 0
        peer.acks = True
        await peer.sockets[0].close()
        await record(opened, 51, 60)
        await eventually(drained(opened))
    assert reasons(peer.events()) == list(range(1, 61))


async def test_the_snapshot_follows_the_events_and_comes_again(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.snapshots) == 1)
        assert peer.snapshots[0] == {"type": "snapshot", "seq": 1, "stories": []}
        story = SeenStory(story_id="t", stage="3_qa", content=StoryContent(name="T", merge_failure="m"))
        await opened.outbox.record_changes(Changes(seen=[story], unsaid=True))
        await eventually(lambda: len(peer.snapshots) == 2)
    said = peer.snapshots[1]["stories"][0]
    assert said.pop("since_ms") > 0
    assert said == {
        "story_id": "t",
        "story_name": "T",
        "stage": "3_qa",
        "blocked": None,
        "merge_failure": "m",
    }


async def test_a_story_that_vanishes_brings_the_snapshot_again(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    story = SeenStory(story_id="t", stage="3_qa", content=StoryContent())
    await opened.outbox.record_changes(Changes(seen=[story], unsaid=True))
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.snapshots) == 1)
        await opened.outbox.record_changes(Changes(gone=["t"]))
        await eventually(lambda: len(peer.snapshots) == 2)
    assert [len(snapshot["stories"]) for snapshot in peer.snapshots] == [1, 0]


async def test_a_snapshot_leaves_out_what_does_not_fit(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 400)
    opened = await open_outbox(layout)
    stages = {"1_old": "6_archived", "2_old": "6_archived", "3_done": "5_done", "4_now": "2_current"}
    seen = [
        SeenStory(story_id=story_id, stage=stage, content=StoryContent())
        for story_id, stage in stages.items()
    ]
    await opened.outbox.record_changes(Changes(seen=seen))
    async with relaying(opened, peer.url):
        await eventually(lambda: peer.snapshots)
    assert [story["story_id"] for story in peer.snapshots[0]["stories"]] == ["4_now", "3_done", "2_old"]
    assert "leaves out 1 stories" in caplog.text


async def test_an_invalid_event_is_set_aside_and_holds_up_nothing(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(first: int, events: list[dict[str, Any]]) -> dict[str, Any] | None:
        for seq, event in enumerate(events, first):
            if event["reason"] == "3":
                return {"type": "refused", "code": "invalid", "seq": seq, "reason": "I do not like 3"}
        return None

    peer.on_events = refuse
    opened = await open_outbox(layout)
    await record(opened, 1, 5)
    async with relaying(opened, peer.url):
        await eventually(lambda: opened.outbox.set_aside_count == 1 and opened.outbox.head.unacked == 0)
    assert reasons(peer.events()) == [1, 2, 4, 5]
    assert peer.hellos[-1]["previous"] == [{"epoch": peer.hellos[0]["epoch"], "last_seq": 3}]
    assert "Event 3 is set aside: the gateway refused: invalid: I do not like 3" in caplog.text


async def test_a_conflict_is_reported_and_begins_an_epoch(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    before = opened.outbox.head
    first, _, _ = opened.held()
    other = {**first, "reason": "99"}
    peer.log[before.sled_id, before.epoch] = [first, other]
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    assert [reasons(events) for events in peer.log.values()] == [[1, 99], [2, 3]]
    assert peer.hellos[-1]["sled_id"] == before.sled_id
    assert peer.hellos[-1]["previous"] == [{"epoch": before.epoch, "last_seq": 1}]
    assert "Nothing from event 2 on belongs to this epoch: the gateway refused: conflict" in caplog.text
    assert "A new epoch begins" in caplog.text


async def test_a_restored_outbox_begins_an_epoch(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    await opened.outbox.stop()
    backup = layout.state.with_name("backup")
    shutil.copytree(layout.state, backup)
    opened = await open_outbox(layout)
    await record(opened, 3, 5)
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    await opened.outbox.stop()
    shutil.rmtree(layout.state)
    backup.rename(layout.state)
    opened = await open_outbox(layout)
    await record(opened, 13, 14)
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.log) == 2 and opened.outbox.head.unacked == 0)
        await record(opened, 15, 15)
        await eventually(drained(opened))
    first, second = peer.log.values()
    assert reasons(first) == [1, 2, 3, 4, 5]
    assert reasons(second) == [13, 14, 15]
    assert peer.hellos[-1]["previous"] == [{"epoch": peer.hellos[0]["epoch"], "last_seq": 2}]


async def test_a_gateway_that_lost_what_the_sled_no_longer_holds(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
) -> None:
    now = 0
    opened = await open_outbox(layout, now_ms=lambda: now, keep=Keeping(ms=10))
    await record(opened, 1, 4)
    now = 11
    await record(opened, 5, 6)
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    peer.log.clear()
    await record(opened, 7, 7)
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.events()) == 3)
        await eventually(drained(opened))
    assert reasons(peer.events()) == [5, 6, 7]
    assert peer.hellos[-1]["previous"] == [{"epoch": peer.hellos[0]["epoch"], "last_seq": 4}]


async def test_a_renamed_project_delivers_under_the_old_name_first(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    peer.acks = False
    async with relaying(opened, peer.url):
        await record(opened, 1, 3)
        await eventually(lambda: len(peer.events()) == 3)
    await opened.outbox.stop()
    peer.acks = True
    opened = await open_outbox(layout, "store")
    await record(opened, 4, 5)
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.log) == 2 and opened.outbox.head.unacked == 0)
    assert [(hello["project"], hello["last_seq"]) for hello in peer.hellos[1:]] == [("shop", 5), ("store", 2)]
    assert reasons(peer.events()) == [1, 2, 3, 4, 5]
    assert len({sled_id for sled_id, _ in peer.log}) == 2


@pytest.mark.parametrize("where", ["token", "upgrade", "hello"])
async def test_a_renamed_project_whose_old_name_is_not_admitted(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually, where: str
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    await opened.outbox.stop()
    opened = await open_outbox(layout, "store")
    if where == "token":
        peer.on_token = lambda _: _denied(peer)
    elif where == "upgrade":
        peer.on_upgrade = lambda request: (
            web.json_response({}, status=403) if request.query["project"] == "shop" else None
        )
    else:
        peer.on_hello = lambda hello: (
            {"type": "refused", "code": "unauthorized"} if hello["project"] == "shop" else None
        )
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    assert peer.hellos[-1]["project"] == "store"
    assert reasons(peer.events()) == [1, 2]


def _denied(peer: Peer) -> web.Response:
    peer.on_token = None
    return web.json_response({"error": "wrong token"}, status=401)


async def test_an_identity_used_twice_is_said_and_backed_off_from(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.on_events = lambda _, __: {"type": "refused", "code": "superseded"}
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    async with relaying(opened, peer.url) as relay:
        await eventually(lambda: "used twice" in caplog.text)
        assert relay._failover._rounds._failures >= 2


# --- time ------------------------------------------------------------------------------------------


class Clock:
    """What the sessions take for the time, and when they heard a ping or pong."""

    def __init__(self) -> None:
        self.now = 0.0
        self.heard: list[float] = []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that a test moves; sessions look at it a hundred times a second."""
    clock = Clock()
    heard = SledSession.heard

    def noted(session: SledSession, now: float) -> None:
        clock.heard.append(now)
        heard(session, now)

    monkeypatch.setattr(SledSession, "heard", noted)
    monkeypatch.setattr("huskies.sled.relay_v2._TICK", 0.01)
    return clock


@pytest.mark.parametrize("answers", [True, False])
async def test_a_gateway_that_answers_no_ping_is_left(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    clock: Clock,
    *,
    answers: bool,
) -> None:
    peer.answers_pings = answers
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, clock=lambda: clock.now):
        await eventually(lambda: peer.snapshots)
        clock.now = 15.0
        await eventually(lambda: peer.pings == 1 and (clock.heard or not answers))
        clock.now = 46.0
        await eventually(lambda: peer.pings == 2 or len(peer.hellos) == 2)
    assert clock.heard[:1] == [15.0] * answers
    assert len(peer.hellos) == (1 if answers else 2)


async def test_a_ping_of_the_gateway_is_answered_and_heard(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually, clock: Clock
) -> None:
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, clock=lambda: clock.now):
        await eventually(lambda: peer.snapshots)
        clock.now = 7.0
        await peer.sockets[0].ping(b"there?")
        await eventually(lambda: peer.pongs == [b"there?"])
    assert clock.heard == [7.0]


async def test_a_gateway_that_acknowledges_nothing_is_left_and_sent_everything_again(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually, clock: Clock
) -> None:
    peer.acks = False
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    async with relaying(opened, peer.url, clock=lambda: clock.now):
        await eventually(lambda: len(peer.events()) == 2)
        peer.acks = True
        clock.now = 31.0
        await eventually(drained(opened))
    assert len(peer.hellos) == 2
    assert reasons(peer.events()) == [1, 2]


@pytest.mark.parametrize(("kind", "code"), [("binary", 1003), ("above a mebibyte", 1009)])
async def test_a_frame_that_may_not_be_ends_the_session(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually, kind: str, code: int
) -> None:
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url):
        await eventually(lambda: peer.snapshots)
        if kind == "binary":
            await peer.sockets[0].send_bytes(b'{"type":"ack","seq":1}')
        else:
            await peer.sockets[0].send_str('{"type":"ack","seq":1}'.ljust(limits.FRAME_BYTES_MAX + 1))
        await eventually(lambda: len(peer.hellos) == 2)
    # The sled does not wait for an answer to that: it may be back before its close was heard.
    await eventually(lambda: peer.sockets[0].close_code is not None)
    assert peer.sockets[0].close_code == code


async def test_a_close_that_is_not_answered_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLOSE_LIMIT", 0.05)
    done = asyncio.Event()

    async def read_nothing(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await done.wait()
        return socket

    app = web.Application()
    app.router.add_get("/", read_nothing)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        socket = await session.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=60))
        async with asyncio.timeout(5):
            await close_socket(socket, 1001, "")
    done.set()
    await runner.cleanup()


# --- reaching the gateway --------------------------------------------------------------------------


async def test_a_token_in_the_header_that_is_not_accepted_goes_into_the_query(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    peer.takes_header = False
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
        await peer.sockets[0].close()
        await eventually(lambda: len(peer.hellos) == 2)
    pushes = [request for request in peer.requests if request.startswith("push")]
    assert pushes == ["push header shop", "push query shop", "push query shop"]
    assert len(peer.requests) == 6


def _answers() -> dict[str, Callable[[web.Request], web.Response]]:
    statuses = (204, 301, 400, 401, 403, 404, 422, 429, 500, 503)
    answers: dict[str, Callable[[web.Request], web.Response]] = {
        f"HTTP {status}": lambda request, status=status: web.Response(  # type: ignore[misc]
            status=status, headers={"Location": str(request.url.with_path("/elsewhere"))}
        )
        for status in statuses
    }
    bodies = (
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"token":1}',
        b'{"token":""}',
        b'{"token":"a\\r\\nb"}',
        b"[" * 9_000,
    )
    for body in (*bodies, b" " * 200_000):
        answers[f"body {body[:12]!r}"] = lambda _, body=body: web.Response(body=body)  # type: ignore[misc]
    return answers


@pytest.mark.parametrize("answer", _answers().values(), ids=_answers().keys())
async def test_no_answer_to_the_token_request_stops_the_relay(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    answer: Callable[[web.Request], web.Response],
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    peer.on_token = answer
    async with relaying(opened, peer.url) as relay:
        await eventually(lambda: len(peer.requests) >= 3)
        assert relay.status.state == "connecting"
        assert relay.status.last_error
        peer.on_token = None
        await eventually(drained(opened))
    assert not any("elsewhere" in request for request in peer.requests)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 409, 426, 500])
async def test_no_answer_to_the_upgrade_stops_the_relay(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    peer.on_upgrade = lambda _: web.Response(status=status, headers={"Location": peer.url})
    async with relaying(opened, peer.url) as relay:
        await eventually(lambda: len(peer.requests) >= 5)
        assert f"HTTP {status}" in str(relay.status.last_error)
        peer.on_upgrade = lambda _: None
        await eventually(drained(opened))
    assert "join-" not in caplog.text
    assert "unexpected" not in caplog.text


@pytest.mark.parametrize(
    "hello_answer",
    [
        {"type": "nothing"},
        {"type": "ack", "seq": 1},
        {"type": "welcome", "last_seq": -1, "max_in_flight": 1},
        {"type": "refused", "code": "draining", "reason": "bye\nbye"},
        {"type": "refused", "code": "gap", "expected": 7},
    ],
)
async def test_no_frame_stops_the_relay(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    hello_answer: dict[str, Any],
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    peer.on_hello = lambda _: hello_answer
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.hellos) >= 2)
        peer.on_hello = lambda _: None
        await eventually(drained(opened))
    assert reasons(peer.events()) == [1]


async def test_a_gateway_that_is_not_there(
    layout: Layout, open_outbox: OpenOutbox, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await open_outbox(layout)
    async with relaying(opened, "http://127.0.0.1:1") as relay:
        await eventually(lambda: relay._gateway.failures > 8)
    assert "cannot be reached" in str(relay.status.last_error)
    # Not one line for each attempt: the 1st, 2nd, 4th, 8th, …
    assert len(caplog.records) < relay._gateway.failures


@pytest.mark.parametrize(
    "url", ["", "gateway:3000", "ftp://gateway", "http://", "http://u:p@gateway", "http://[x"]
)
def test_what_is_no_gateway_url(url: str) -> None:
    with pytest.raises(ConfigError, match="gateway_url: expected a URL"):
        Connector(url, None)


@pytest.mark.parametrize(
    "url",
    [
        "http://gateway:3000/base",
        "http://gateway:3000/base/",
        "ws://gateway:3000/base//",
        "HTTP://GATEWAY:3000/base",
    ],
)
def test_one_gateway_in_several_spellings(url: str) -> None:
    assert Connector(url, None).url == "http://gateway:3000/base"


@pytest.mark.parametrize(
    ("url", "token_url", "push_url"),
    [
        ("http://gateway/base/", "http://gateway/base", "ws://gateway/base"),
        ("https://gateway", "https://gateway", "wss://gateway"),
        ("ws://gateway:1", "http://gateway:1", "ws://gateway:1"),
        ("wss://gateway/base", "https://gateway/base", "wss://gateway/base"),
    ],
)
def test_each_request_gets_the_scheme_it_needs(url: str, token_url: str, push_url: str) -> None:
    connector = Connector(url, None)
    assert (connector._http, connector._ws) == (token_url, push_url)


@pytest.mark.parametrize(
    ("step", "speaks_v2"), [("token", True), ("token", False), ("hello", True)], ids=["v2", "v1", "refused"]
)
async def test_delays_double_until_a_session_was_accepted(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    *,
    speaks_v2: bool,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("huskies.sled.relay.asyncio", SimpleNamespace(sleep=sleep))
    opened = await open_outbox(layout)
    if step == "token":
        peer.on_token = lambda _: web.Response(status=503)
    else:
        peer.on_hello = lambda _: {"type": "refused", "code": "draining"}
    async with relaying(opened, peer.url) as relay:
        await eventually(lambda: len(slept) >= 3)
        peer.on_token, peer.on_hello = None, lambda _: None
        peer.speaks_v2 = speaks_v2
        await eventually(lambda: relay.status.state == "connected")
        failed = len(slept)
        await peer.sockets[-1].close()
        await eventually(lambda: len(slept) > failed)
    first = slept[0]
    assert slept[:3] == pytest.approx([first, 2 * first, 4 * first])
    assert slept[failed] == first


async def test_sleds_do_not_return_together(layout: Layout, open_outbox: OpenOutbox) -> None:
    relay = Relay([Connector("http://gateway", None)], (await open_outbox(layout)).outbox)
    chances = [relay._chance() for _ in range(1_000)]
    assert len(set(chances)) > 900
    assert 0 <= min(chances) < 0.1
    assert 0.9 < max(chances) < 1


@pytest.mark.parametrize("answers_token", [False, True])
async def test_a_gateway_that_does_not_answer_is_tried_again(
    layout: Layout,
    open_outbox: OpenOutbox,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    *,
    answers_token: bool,
) -> None:
    monkeypatch.setattr(limits, "GREETING_LIMIT", 0.2)
    asked: list[bytes] = []
    under_way: set[asyncio.StreamWriter] = set()
    methods = {b"POST", b"GET"} if answers_token else {b"POST"}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(writer)
        # Whoever gives up may do so before it has asked, and without reading what it is answered.
        with suppress(ConnectionError):
            line = await reader.readline()
            asked.extend([line] if line else [])
            if answers_token and line.startswith(b"POST"):
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"token":"t"}')
            await reader.read()
        writer.close()
        under_way.remove(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    opened = await open_outbox(layout)
    async with relaying(opened, url) as relay:
        await eventually(lambda: len(asked) >= 3 and {line.split()[0] for line in asked} == methods)
        assert "did not answer" in str(relay.status.last_error)
    server.close()
    # A connection that outlives the event loop would be a warning, and that an error of some later test.
    await eventually(lambda: not under_way)


def test_a_sled_token_that_cannot_be_sent() -> None:
    with pytest.raises(ConfigError, match="sled_token"):
        Connector("http://gateway", "secret\n")


def test_what_a_gateway_says_stays_one_line() -> None:
    assert clean("a\nb\x1b[31m" + "x" * 1_000).startswith("a b [31mxxx")
    assert len(clean("x" * 1_000)) == 300


# --- v1 --------------------------------------------------------------------------------------------


async def test_an_older_gateway_is_spoken_to_in_v1(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.speaks_v2 = False
    opened = await open_outbox(layout, relay_rate_limits=True)
    await record(opened, 1, 40)
    async with relaying(opened, peer.url) as relay:
        await eventually(lambda: len(peer.v1_frames) == 40)
        await opened.outbox.publish(RateLimitWarning(story_id="s", agent_name="coder"))
        asked, peer.on_token = len(peer.requests), lambda _: web.Response(status=503)
        await peer.sockets[0].close()
        # What is written before the sled hears of that is lost with the connection: sent at most once.
        await eventually(lambda: len(peer.requests) > asked)
        await record(opened, 41, 42)
        peer.on_token = None
        await eventually(lambda: len(peer.v1_frames) == 42)
        assert relay.status.protocol == "v1"
    assert reasons(peer.v1_frames) == list(range(1, 43))
    assert opened.outbox.head.unacked == 0
    assert caplog.text.count("does not speak v2") == 1


async def test_an_older_gateway_that_stopped_answering_pings_is_left(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PING_INTERVAL", 0.01)
    now = 0.0
    peer.speaks_v2 = False
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, clock=lambda: now):
        await eventually(lambda: peer.pings >= 2)
        await peer.sockets[0].ping(b"there?")
        await eventually(lambda: peer.pongs == [b"there?"])
        peer.answers_pings = False

        def left() -> bool:
            # Again and again: an answer may still have been on its way.
            nonlocal now
            now += 46.0
            return len(peer.sockets) >= 2

        await eventually(left)


async def test_an_event_is_marked_as_sent_before_its_frame_is_written(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer.speaks_v2 = False
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    marked: list[int] = []
    mark = opened.outbox.mark_sent_v1

    async def killed_after(seq: int) -> None:
        await mark(seq)
        marked.append(seq)
        raise OSError("as if the process ended here")

    monkeypatch.setattr(opened.outbox, "mark_sent_v1", killed_after)
    async with relaying(opened, peer.url):
        await eventually(lambda: marked)
    monkeypatch.setattr(opened.outbox, "mark_sent_v1", mark)
    async with relaying(opened, peer.url):
        await record(opened, 4, 4)
        await eventually(lambda: peer.v1_frames)
    assert reasons(peer.v1_frames) == [4]


async def test_the_first_v2_session_after_v1_begins_an_epoch(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    peer.speaks_v2 = False
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    before = opened.outbox.head
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.v1_frames) == 3)
    peer.speaks_v2 = True
    await record(opened, 4, 5)
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    assert reasons(peer.events()) == [4, 5]
    assert peer.hellos[0]["epoch"] != before.epoch
    assert peer.hellos[0]["previous"] == [{"epoch": before.epoch, "last_seq": 3}]


async def test_a_gateway_that_has_spoken_v2_is_never_spoken_to_in_v1(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
    await opened.outbox.stop()
    opened = await open_outbox(layout)
    await record(opened, 2, 2)
    peer.speaks_v2 = False
    async with relaying(opened, peer.url) as relay:
        await eventually(lambda: "does not choose v2" in str(relay.status.last_error))
        assert peer.v1_frames == []
        peer.speaks_v2 = True
        await eventually(drained(opened))
    assert reasons(peer.events()) == [1, 2]


async def test_a_project_renamed_beside_an_older_gateway(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    peer.speaks_v2 = False
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    await opened.outbox.stop()
    opened = await open_outbox(layout, "store")
    async with relaying(opened, peer.url):
        await eventually(lambda: len(peer.v1_frames) == 2)
    assert peer.requests[-1] == "push header store"


async def test_a_gateway_that_was_joined_is_never_spoken_to_in_v1(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    """Whoever answers there instead would get everything, and it would be marked as sent."""
    peer.speaks_v2 = False
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    pins = {Connector(peer.url, None).url: "ab" * 32}
    relay = Relay([Connector(peer.url, None)], opened.outbox, pins=pins, chance=lambda: 0.0)
    running = asyncio.create_task(relay.run())
    await eventually(lambda: "which the one that was joined speaks" in str(relay.status.last_error))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not peer.v1_frames
    assert opened.outbox.head.unacked == 3
