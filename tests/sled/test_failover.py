"""A relay with several gateways: what one does not take the next one gets, and the first is returned to."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from huskies import limits
from huskies.events.model import StoryBlocked
from huskies.sled.layout import Layout
from huskies.sled.outbox_store import Keeping
from huskies.sled.relay import Relay
from huskies.sled.relay_connect import Connector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.sled.conftest import Eventually, Opened, OpenOutbox, Peer

# The fixtures are what pytest passes, by name.
# ruff: noqa: PLR0917

pytestmark = pytest.mark.usefixtures("quick_reconnect")
NOWHERE = "http://127.0.0.1:1"


async def record(opened: Opened, first: int, last: int) -> None:
    events = (StoryBlocked(story_id="s", reason=str(number)) for number in range(first, last + 1))
    await asyncio.gather(*(opened.outbox.publish(event) for event in events))


def reasons(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["reason"]) for event in events]


def drained(opened: Opened) -> Callable[[], bool]:
    return lambda: opened.outbox.head.unacked == 0


def use(peer: Peer, relay: Relay) -> Callable[[], bool]:
    return lambda: relay.status.gateway == peer.url.rstrip("/") and relay.status.state == "connected"


@asynccontextmanager
async def relaying(
    opened: Opened, *urls: str, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Relay]:
    connectors = [Connector(url, None) for url in urls]
    relay = Relay(connectors, opened.outbox, chance=lambda: 0.0, clock=clock)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def quick_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for earlier gateways every few milliseconds instead of every half minute."""
    monkeypatch.setattr(limits, "RETURN_INTERVAL", 0.01)
    monkeypatch.setattr(limits, "RETURN_INTERVAL_MAX", 0.01)


def down(peer: Peer) -> None:
    peer.ready = False
    peer.on_token = lambda _: web.Response(status=503)


def up(peer: Peer) -> None:
    peer.ready = True
    peer.on_token = None


# --- the next one ----------------------------------------------------------------------------------


async def test_where_the_first_cannot_be_reached_the_next_one_gets_everything(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    opened = await open_outbox(layout)
    await record(opened, 1, 10)
    async with relaying(opened, NOWHERE, peer.url) as relay:
        assert relay.status.gateway is None
        await eventually(use(peer, relay))
    assert relay.status.gateway is None
    assert reasons(peer.events()) == list(range(1, 11))
    assert f"Not connected to the gateway at {NOWHERE}: the gateway cannot be reached" in caplog.text
    assert f"Connected to the gateway at {peer.url.rstrip('/')} (v2)." in caplog.text


async def test_the_first_one_is_used_as_long_as_it_takes_events(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        for number in range(1, 4):
            await record(opened, number, number)
            await eventually(lambda: use(peer, relay)() and drained(opened)())
            await peer.sockets[-1].close()
            await eventually(lambda number=number: len(peer.hellos) > number)  # type: ignore[misc]  # mypy cannot infer a lambda's default
    assert other_peer.requests == []


@pytest.mark.parametrize(
    "code", ["unauthorized", "superseded", "draining", "gap", "some_new_code"], ids=lambda code: code
)
async def test_a_refusal_by_one_is_no_refusal_by_the_next(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually, code: str
) -> None:
    peer.on_hello = lambda _: {"type": "refused", "code": code, "expected": 1}
    opened = await open_outbox(layout)
    await record(opened, 1, 3)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await eventually(use(other_peer, relay))
        assert relay.status.last_error is None
    assert reasons(other_peer.events()) == [1, 2, 3]


async def test_after_a_refusal_the_last_error_says_whose_it_was(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    peer.on_token = lambda _: web.Response(status=403)
    opened = await open_outbox(layout)
    async with relaying(opened, NOWHERE, peer.url) as relay:
        await eventually(lambda: str(relay.status.last_error).startswith(f"{peer.url.rstrip('/')}: "))
        await eventually(lambda: str(relay.status.last_error).startswith(f"{NOWHERE}: "))


async def test_a_gateway_that_welcomes_and_acknowledges_nothing_is_left_for_the_next(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    other_peer: Peer,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huskies.sled.relay_v2._TICK", 0.01)
    peer.acks = False
    now = 0.0
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    async with relaying(opened, peer.url, other_peer.url, clock=lambda: now) as relay:
        await eventually(lambda: len(peer.events()) == 2)
        now = limits.ACK_LIMIT + 1
        await eventually(use(other_peer, relay))
    assert reasons(other_peer.events()) == [1, 2]
    assert set(peer.log) == set(other_peer.log)


async def test_a_gateway_that_lacks_what_another_acknowledged_gets_it_under_the_same_identity(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await record(opened, 1, 5)
        await eventually(drained(opened))
        down(peer)
        await peer.sockets[0].close()
        await record(opened, 6, 8)
        await eventually(use(other_peer, relay))
    assert reasons(other_peer.events()) == list(range(1, 9))
    assert list(other_peer.log) == list(peer.log)


async def test_what_one_may_hold_is_not_stored_twice_by_another_that_lacks_what_is_gone(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    now = 0
    opened = await open_outbox(layout, now_ms=lambda: now, keep=Keeping(ms=10))
    await record(opened, 1, 3)
    now = 11
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await eventually(drained(opened))
        await record(opened, 4, 5)
        await eventually(drained(opened))
        peer.acks = False
        await record(opened, 6, 7)
        await eventually(lambda: len(peer.events()) == 7)
        down(peer)
        await peer.sockets[0].close()
        await eventually(lambda: "another one may hold event 7" in str(relay.status.last_error))
        up(peer)
        peer.acks = True
        await eventually(drained(opened))
        down(peer)
        await peer.sockets[-1].close()
        await record(opened, 8, 8)
        await eventually(use(other_peer, relay))
    assert reasons(peer.events()) == list(range(1, 8))
    assert reasons(other_peer.events()) == [8]
    assert other_peer.hellos[-1]["previous"] == [{"epoch": peer.hellos[0]["epoch"], "last_seq": 7}]


async def test_what_all_gateways_lost_is_carried_over_once_all_of_them_have_said_so(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    now = 0
    opened = await open_outbox(layout, now_ms=lambda: now, keep=Keeping(ms=10))
    other_peer.gateway_id = "cd" * 32
    welcome = {"type": "welcome", "last_seq": 0, "max_in_flight": 5_000}
    asked = {**welcome, "asked": [peer.gateway_id, other_peer.gateway_id]}
    await record(opened, 1, 3)
    now = 11
    async with relaying(opened, peer.url, other_peer.url):
        await eventually(drained(opened))
        await record(opened, 4, 4)
        await eventually(drained(opened))
        # Both gateways lost everything, and neither of them is one of which this sled knows who it is now.
        first = opened.outbox.head.epoch
        assert opened.outbox.view().oldest == 4
        for gateway in (peer, other_peer):
            gateway.on_hello = lambda hello: asked if hello["epoch"] == first else None
        peer.log.clear()
        await peer.sockets[0].close()
        await eventually(lambda: opened.outbox.head.epoch != first)
        await eventually(drained(opened))
    # The first one could not say it of the other, whom the sled had not met; the other could.
    assert [hello["epoch"] == first for hello in other_peer.hellos[:1]] == [True]
    assert reasons(peer.events()) == [4]


async def test_an_event_that_every_gateway_calls_invalid_is_set_aside(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    def refuse(first: int, events: list[dict[str, Any]]) -> dict[str, Any] | None:
        for seq, event in enumerate(events, first):
            if event["reason"] == "2":
                return {"type": "refused", "code": "invalid", "seq": seq}
        return None

    peer.on_events = other_peer.on_events = refuse
    opened = await open_outbox(layout)
    await record(opened, 1, 4)
    async with relaying(opened, peer.url, other_peer.url):
        await eventually(lambda: opened.outbox.set_aside_count == 1 and drained(opened)())
    stored = reasons(peer.events()) + reasons(other_peer.events())
    assert set(stored) == {1, 3, 4}


async def test_an_old_name_is_kept_until_every_gateway_has_refused_it(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 2)
    await opened.outbox.stop()
    opened = await open_outbox(layout, "store")
    down(peer)
    other_peer.on_token = lambda _: web.Response(status=401)
    async with relaying(opened, peer.url, other_peer.url):
        await eventually(lambda: len(other_peer.requests) >= 3)
        assert opened.outbox.is_renamed
        up(peer)
        await eventually(drained(opened))
    assert [hello["project"] for hello in peer.hellos[:1]] == ["shop"]
    assert reasons(peer.events()) == [1, 2]


async def test_which_gateway_speaks_v2_is_remembered_for_each(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    async with relaying(opened, peer.url, other_peer.url):
        await eventually(drained(opened))
    peer.speaks_v2 = other_peer.speaks_v2 = False
    await record(opened, 2, 3)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await eventually(lambda: len(other_peer.v1_frames) == 2)
        assert relay.status.protocol == "v1"
    assert peer.v1_frames == []


async def test_an_identity_used_twice_is_said_although_another_gateway_takes_it(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    other_peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.on_events = lambda _, __: {"type": "refused", "code": "superseded"}
    opened = await open_outbox(layout)
    await record(opened, 1, 1)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await eventually(use(other_peer, relay))
        await record(opened, 2, 2)
        await other_peer.sockets[0].close()
        await eventually(lambda: "used twice" in caplog.text)


# --- returning -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_return")
async def test_the_first_is_returned_to_when_it_answers_again(
    layout: Layout,
    open_outbox: OpenOutbox,
    peer: Peer,
    other_peer: Peer,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    down(peer)
    opened = await open_outbox(layout)
    await record(opened, 1, 5)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await eventually(use(other_peer, relay))
        await eventually(lambda: peer.requests.count("ready?") >= 3)
        assert use(other_peer, relay)()
        up(peer)
        await eventually(use(peer, relay))
        asked = peer.requests.count("ready?") + other_peer.requests.count("ready?")
        await record(opened, 6, 7)
        await eventually(drained(opened))
    # One that is first in the list looks for no other.
    assert peer.requests.count("ready?") + other_peer.requests.count("ready?") == asked
    # The sled does not wait for an answer to its close.
    await eventually(lambda: other_peer.sockets[-1].close_code is not None)
    assert other_peer.sockets[-1].close_code == 1001
    assert len(other_peer.hellos) == len(peer.hellos) == 1
    assert reasons(other_peer.events()) == [1, 2, 3, 4, 5]
    assert reasons(peer.events()) == [1, 2, 3, 4, 5, 6, 7]
    assert list(peer.log) == list(other_peer.log)
    assert f"The gateway at {peer.url.rstrip('/')} answers again and is returned to." in caplog.text


@pytest.mark.usefixtures("quick_return")
async def test_a_session_is_left_under_load_without_waiting_for_a_pause(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    down(peer)
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await record(opened, 1, 50)
        await eventually(use(other_peer, relay))
        other_peer.acks = False
        await record(opened, 51, 60)
        await eventually(lambda: len(other_peer.events()) == 60)
        up(peer)
        await eventually(lambda: relay._failover.is_returning)
        await record(opened, 61, 70)
        # The ack of what was sent ends the session; what came later was not sent any more.
        await other_peer.sockets[0].send_json({"type": "ack", "seq": 60})
        await eventually(lambda: use(peer, relay)() and drained(opened)())
    assert reasons(other_peer.events()) == list(range(1, 61))
    assert reasons(peer.events()) == list(range(1, 71))


@pytest.mark.usefixtures("quick_return")
async def test_one_that_is_ready_and_refuses_is_left_again(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    peer.on_token = lambda _: web.Response(status=403)
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await eventually(lambda: len(other_peer.hellos) >= 3)
        await record(opened, 1, 3)
        await eventually(drained(opened))
        assert relay._failover._vain[0] >= 2
    assert reasons(other_peer.events()) == [1, 2, 3]


@pytest.mark.usefixtures("quick_return")
async def test_an_older_gateway_is_left_without_losing_what_was_marked_as_sent(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, other_peer: Peer, eventually: Eventually
) -> None:
    down(peer)
    other_peer.speaks_v2 = False
    opened = await open_outbox(layout)
    async with relaying(opened, peer.url, other_peer.url) as relay:
        await record(opened, 1, 5)
        await eventually(lambda: other_peer.v1_frames)
        up(peer)
        for first in range(6, 306, 10):
            await record(opened, first, first + 9)
        await eventually(lambda: use(peer, relay)() and drained(opened)())
        await eventually(lambda: len(other_peer.v1_frames) + len(peer.events()) == 305)
    assert reasons(other_peer.v1_frames) + reasons(peer.events()) == list(range(1, 306))


@pytest.mark.parametrize("status", [200, 204, 302, 404, 503])
async def test_ready_is_what_says_so_itself(peer: Peer, status: int) -> None:
    async def readyz(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.Response(status=status, headers={"Location": peer.url})

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    connector = Connector(f"http://127.0.0.1:{runner.addresses[0][1]}", "secret")
    assert await connector.is_ready() is (status == 200)
    await runner.cleanup()
    assert not await connector.is_ready()
    await connector.close()


async def test_whether_a_gateway_is_ready_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READY_LIMIT", 0.05)
    left = asyncio.Event()

    async def answer_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    server = await asyncio.start_server(answer_nothing, "127.0.0.1", 0)
    connector = Connector(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None)
    assert not await connector.is_ready()
    await asyncio.wait_for(left.wait(), 5)
    await connector.close()
    server.close()


# --- copies ----------------------------------------------------------------------------------------


async def test_an_event_is_kept_until_enough_gateways_hold_it(
    layout: Layout, open_outbox: OpenOutbox, peer: Peer, eventually: Eventually
) -> None:
    now = 0
    opened = await open_outbox(layout, now_ms=lambda: now, keep=Keeping(ms=10, copies=2))
    await record(opened, 1, 5)
    now = 11
    async with relaying(opened, peer.url):
        await eventually(drained(opened))
        assert opened.outbox.view().oldest == 1
        peer.said_with_acks = {"held": 4}
        await record(opened, 6, 6)
        await eventually(lambda: opened.outbox.view().oldest == 5)
        await peer.sockets[0].send_json({"type": "ack", "seq": 6, "held": 6})
        await eventually(lambda: opened.outbox.view().held == 6)
    assert peer.hellos[0]["copies"] == 2
    assert opened.outbox.view().oldest == 6
