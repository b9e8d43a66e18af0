"""The real nginx and the real Caddy in front of a gateway, with the very files of docs/proxy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.gateway.conftest import Eventually, StartGateway, stop
from tests.support.behind_proxy import Behind, basic, bearer
from tests.support.relay_client import (
    RelayClient,
    blocked,
    connect,
    connect_v1,
    new_epoch,
    new_key,
    push,
)
from tests.support.reverse_proxy import DOCS, KINDS, PASSWORD, USER, ReverseProxy, installed, running
from tests.support.sse_client import open_stream

from huskies import limits
from huskies.config import GatewaySettings, SledSettings
from huskies.events.model import StoryBlocked
from huskies.gateway import server
from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway
from huskies.sled.service import Sled

PROJECTS = (DOCS / "projects.toml").read_text("utf-8")
OPEN = "[projects.shop]\nopen = true\n"
FORGED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-User": "eve",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "localhost",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": "for=127.0.0.1",
}
PEOPLE = ("/", "/gateway/projects", "/gateway/events", "/gateway/digests", "/metrics")
READERS = (*PEOPLE, "/gateway/peers")


def needing(kind: str) -> Any:
    """A parameter; a mark, and no call of `skip`, so that what is missing is said in one line."""
    reason = f"{kind} is not installed: `make needs` installs it"
    return pytest.param(kind, marks=() if installed(kind) else pytest.mark.skip(reason))


@pytest.fixture(scope="module", params=[needing(kind) for kind in KINDS])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReverseProxy]:
    """One for all tests; each starts a gateway of its own behind it."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as one:
        yield one


@pytest.fixture
async def behind(start_gateway: StartGateway, proxy: ReverseProxy, tmp_path: Path) -> Behind:
    gateway = await start_gateway(projects=PROJECTS + OPEN, port=proxy.upstream)
    return Behind(gateway, proxy, tmp_path / "gw")


@asynccontextmanager
async def sled(directory: Path, proxy: ReverseProxy, token: str | None = None) -> AsyncIterator[Sled]:
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 - once
    url = proxy.url.replace("https", "wss")
    settings = SledSettings(
        project_dir=directory, name="shop", gateway_url=url, port=0, tls_ca=proxy.ca, sled_token=token
    )
    one = Sled(settings)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def refused(pushing: Awaitable[Any]) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await pushing
    return error.value.status


# --- sleds, gateways, streams ------------------------------------------------------------------------


async def test_a_sled_delivers_and_is_acknowledged(
    behind: Behind, tmp_path: Path, eventually: Eventually
) -> None:
    async with sled(tmp_path / "shop", behind.proxy) as one:
        await one.broadcaster.publish(StoryBlocked(story_id="1_x", reason="through a proxy"))
        await eventually(lambda: one._outbox is not None and one._outbox.head.unacked == 0)
        assert one._status().protocol == "v2"
    assert behind.gateway.log.position == 1


async def test_acks_and_a_close_come_through(behind: Behind) -> None:
    tls = behind.proxy.tls
    async with await connect(behind.proxy.url, "shop", new_key(), new_epoch(), tls=tls) as client:
        for seq in range(1, 4):
            await client.send_events(seq, blocked(f"number {seq}"))
            await client.acked(seq)
        # As large as a frame gets: what bounds bodies does not bound these.
        await client.send_events(4, *(blocked("x" * 16_000) for _ in range(50)))
        await client.acked(53)
        await client.send(b"no text")
        _, closed = await client.until_closed()
    assert closed.code == 1003


async def test_an_older_sled_delivers_and_its_token_is_in_no_log(
    behind: Behind, eventually: Eventually
) -> None:
    async with await connect_v1(behind.proxy.url, "shop", tls=behind.proxy.tls) as client:
        await client.send({**blocked(), "timestamp_ms": 1})
        await eventually(lambda: behind.gateway.log.position == 1)
        secret = client.socket._response.url.query["token"]
    if behind.proxy.kind == "nginx":
        await eventually(lambda: "GET /gateway/events/push" in behind.proxy.log.read_text())
        assert secret not in behind.proxy.log.read_text()
    else:
        assert not behind.proxy.log.exists()


async def test_gateways_replicate_through_it(behind: Behind, tmp_path: Path, eventually: Eventually) -> None:
    await push(behind.proxy.url, "shop", blocked(), tls=behind.proxy.tls)
    settings = GatewaySettings(
        port=0,
        data_dir=tmp_path / "other",
        peers=(behind.proxy.url,),
        peer_token=behind.token("peer"),
        tls_ca=behind.proxy.ca,
    )
    other = Gateway(settings)
    await other.start()
    try:
        await eventually(lambda: other.log.position == 1)
    finally:
        await stop(other)


async def test_events_are_not_held_back(behind: Behind) -> None:
    """Each is seen before the next one is sent: whoever waited for a full buffer would wait for ever."""
    token, tls = behind.token("read"), behind.proxy.tls
    async with (
        open_stream(behind.proxy.url, token=token, tls=tls, after="0") as stream,
        await connect(behind.proxy.url, "shop", new_key(), new_epoch(), tls=tls) as client,
    ):
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        for seq in range(1, 6):
            await client.send_events(seq, blocked(f"number {seq}"))
            assert [event["event"]["reason"] for event in await stream.take(1)] == [f"number {seq}"]


async def test_a_stream_whose_token_is_revoked_ends(behind: Behind) -> None:
    token = behind.token("read")
    async with open_stream(behind.proxy.url, token=token, tls=behind.proxy.tls, after="0") as stream:
        await stream.next_block()
        file = AccessFile(behind.directory)
        tokens.revoke(file, "read", now_ms=1)
        file.close()
        # It is cut off, which a proxy passes on as it likes.
        with suppress(aiohttp.ClientPayloadError):
            while await stream.next_block() is not None:
                pass


async def test_while_the_gateway_is_away_there_is_502_and_then_the_sled_goes_on(
    behind: Behind,
    start_gateway: StartGateway,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(limits, "BACKOFF_MAX", 0.05)
    async with sled(tmp_path / "shop", behind.proxy) as one:
        await one.broadcaster.publish(StoryBlocked(story_id="1_x", reason="before"))
        await eventually(lambda: behind.gateway.log.position == 1)
        await stop(behind.gateway)
        assert (await behind.ask("/healthz")).status == 502
        await one.broadcaster.publish(StoryBlocked(story_id="1_x", reason="meanwhile"))
        again = await start_gateway(port=behind.proxy.upstream)
        await eventually(lambda: again.log.position == 2)
        assert (await behind.ask("/healthz")).status == 200


@pytest.mark.parametrize("kind", [needing("nginx")])
async def test_what_is_silent_for_too_long_is_cut_off_and_pings_keep_the_rest(
    start_gateway: StartGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Only nginx has such a limit; an older sled, which nobody pings, shows that it holds."""
    monkeypatch.setattr(limits, "PING_INTERVAL", 0.05)
    monkeypatch.setattr(server, "_TICK_INTERVAL", 0.05)
    with running(kind, tmp_path, **{"proxy_read_timeout 90s": "proxy_read_timeout 1s"}) as proxy:
        await start_gateway(projects=PROJECTS + OPEN, port=proxy.upstream)
        async with (
            await connect(proxy.url, "shop", new_key(), new_epoch(), tls=proxy.tls) as pinged,
            await connect_v1(proxy.url, "shop", tls=proxy.tls) as silent,
        ):
            answering = asyncio.create_task(pinged.next_frame())
            await silent.until_closed()
            assert not answering.done()
            await pinged.send_events(1, blocked())
            assert await answering == {"type": "ack", "seq": 1}


# --- who may what ------------------------------------------------------------------------------------


async def test_who_names_himself_to_the_proxy_reads(behind: Behind) -> None:
    for path in PEOPLE:
        answer = await behind.ask(path, basic(USER, PASSWORD) | FORGED)
        assert answer.status == 200, path
    # What is for programs asks for a token, whoever comes.
    assert (await behind.ask("/gateway/peers", basic(USER, PASSWORD) | FORGED)).status == 401


async def test_who_does_not_is_asked_by_the_proxy(behind: Behind) -> None:
    # Caddy takes a second of a processor for a name that it does not know.
    for headers, paths in (
        ({}, PEOPLE),
        (basic(USER, "wrong"), PEOPLE),
        (basic("eve", PASSWORD), PEOPLE[:1]),
    ):
        for path in paths:
            answer = await behind.ask(path, headers | FORGED)
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_what_a_client_makes_up_opens_nothing(behind: Behind) -> None:
    """These pass the proxy, which leaves judging them to the gateway; the names in `FORGED` must not."""
    for way_past in (
        bearer("made-up"),
        {"Authorization": "bearer  made-up"},
        {"Authorization": "Bearer ", "Cookie": "__Host-huskies=made-up"},
        {"Cookie": "a=b; __Host-huskies=made-up"},
        {"Cookie": "__Host-huskies=made-up", **basic(USER, "wrong")},
        # What is named in it some proxies drop, their own headers included.
        {**bearer("made-up"), "Connection": "close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-User"},
    ):
        for path in READERS:
            answer = await behind.ask(path, way_past | FORGED)
            assert answer.status in (303, 401, 429), (path, way_past)
            assert answer.headers.get("Location", "/login") == "/login"


async def test_paths_for_programs_tell_nothing_of_who_is_made_up(behind: Behind) -> None:
    for path in (
        "/static/../gateway/projects",
        "/login/../metrics",
        "/static/%2e%2e/metrics",
        "/healthz/../",
    ):
        for headers in (basic(USER, "wrong"), {}):
            answer = await raw(behind, f"GET {path} HTTP/1.1", headers | FORGED)
            assert answer in (400, 401, 404), path


async def test_a_token_reads_and_pushes_through_it(behind: Behind) -> None:
    assert (await behind.ask("/gateway/projects", bearer(behind.token("read")))).status == 200
    secret, tls = behind.token("push:blog"), behind.proxy.tls
    await push(behind.proxy.url, "blog", blocked(), sled_token=secret, tls=tls)
    assert await refused(RelayClient.open(behind.proxy.url, "bank", sled_token=secret, tls=tls)) == 403
    # On loopback it would be let in.
    assert await refused(RelayClient.open(behind.proxy.url, "bank", tls=tls)) == 403


async def test_a_gateway_that_was_told_of_no_proxy_is_open_to_nobody_behind_one(
    start_gateway: StartGateway, proxy: ReverseProxy, tmp_path: Path
) -> None:
    gateway = await start_gateway(port=proxy.upstream)
    behind = Behind(gateway, proxy, tmp_path / "gw")
    for path in READERS:
        answer = await behind.ask(path, basic(USER, PASSWORD) | FORGED)
        assert answer.status == (303 if path == "/" else 401), path
    assert await refused(RelayClient.open(proxy.url, "shop", tls=proxy.tls)) == 403
    assert (await behind.ask("/login")).status == 200


async def test_the_cookie_of_a_login_is_for_tls_alone(behind: Behind) -> None:
    form, own = {"token": behind.token("read")}, {"Origin": behind.proxy.url}
    entered = await behind.ask("/login", own | FORGED, method="POST", data=form)
    cookie = entered.headers["Set-Cookie"]
    assert (entered.status, entered.headers["Location"]) == (303, "/")
    assert cookie.startswith("__Host-huskies=")
    assert {"Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    shown = {"Cookie": cookie.partition(";")[0]}
    assert (await behind.ask("/", shown)).status == 200
    assert (await behind.ask("/logout", own | shown, method="POST")).status == 303
    assert (await behind.ask("/gateway/projects", shown)).status == 401


async def test_a_page_of_another_origin_logs_nobody_in(behind: Behind) -> None:
    form = {"token": behind.token("read")}
    for origin in ("https://evil.example", "http://localhost", "null"):
        answer = await behind.ask("/login", FORGED | {"Origin": origin}, method="POST", data=form)
        assert answer.status == 403, origin


async def test_guesses_are_counted_by_where_they_really_come_from(
    start_gateway: StartGateway,
    proxy: ReverseProxy,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FAILED_LOGINS_MAX", 2)
    gateway = await start_gateway(projects=PROJECTS, port=proxy.upstream)
    behind = Behind(gateway, proxy, tmp_path / "gw")

    async def guess(client: str, claimed: str) -> int:
        headers = bearer("made-up") | FORGED | {"X-Forwarded-For": claimed}
        return (await behind.ask("/gateway/projects", headers, client=client)).status

    assert [await guess("127.0.0.2", f"203.0.113.{number}") for number in range(3)] == [401, 401, 429]
    assert await guess("127.0.0.3", "127.0.0.2") == 401
    await eventually(lambda: behind.addresses() == {"127.0.0.2", "127.0.0.3"})


async def test_plain_http_serves_nothing(behind: Behind) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{behind.proxy.plain_url}/healthz", allow_redirects=False) as answer,
    ):
        assert answer.status in (301, 308)
        assert answer.headers["Location"].startswith("https://127.0.0.1")


# --- what is too large, or breaks off ----------------------------------------------------------------


async def raw(
    behind: Behind, line: str, headers: Mapping[str, str], body: bytes = b"", *, leaves: bool = False
) -> int:
    """The status of what a client would not send by itself; 0 where it leaves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", behind.proxy.port, ssl=behind.proxy.tls)
    fields = {"Host": f"127.0.0.1:{behind.proxy.port}", "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{line}\r\n{head}\r\n".encode() + body)
    await writer.drain()
    if leaves:
        writer.transport.abort()
        return 0
    async with asyncio.timeout(10):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_what_is_too_large_is_refused_in_words(
    behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    large = {**form, "Content-Length": str(1 << 17)}
    assert await raw(behind, "POST /login HTTP/1.1", large, b"x" * (1 << 17)) == 413
    for size in (9_000, 100_000):
        assert await raw(behind, "GET /healthz HTTP/1.1", {"X-Long": "x" * size}) in (400, 431), size
    assert await raw(behind, f"GET /{'x' * 100_000} HTTP/1.1", {}) in (400, 414, 431)
    assert [record for record in caplog.records if record.exc_info] == []
    assert (await behind.ask("/healthz")).status == 200


async def test_who_breaks_off_within_a_body_leaves_no_traceback(
    behind: Behind, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "huskies")
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "100"}
    await raw(behind, "POST /login HTTP/1.1", headers, b"x" * 10, leaves=True)
    if behind.proxy.kind == "caddy":
        # nginx passes a body on once it is whole, and so nothing of this one.
        await eventually(lambda: "a client left within its request" in caplog.text)
    assert (await behind.ask("/healthz")).status == 200
    assert [record for record in caplog.records if record.exc_info] == []
