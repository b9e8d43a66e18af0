"""What one address may take of a gateway: connections that say nothing, requests, streams, slow bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.gateway.conftest import Eventually, Http, StartGateway
from tests.support.relay_client import blocked, connect, new_epoch, new_key

from huskies import idle, limits
from huskies.gateway.access import gate, tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway


@pytest.fixture
def lose_patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on the gateway soon ends what is idle: before that a busy machine may take its time."""
    monkeypatch.setattr(idle, "_SWEEP", 0.05)
    return lambda: monkeypatch.setattr(limits, "REQUEST_LIMIT", 0.2)


async def opened(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(gateway.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_who_says_nothing_or_little_does_not_keep_a_connection(
    lose_patience: Callable[[], None], gateway: Gateway, said: bytes
) -> None:
    lose_patience()
    reader, writer = await opened(gateway)
    writer.write(said)
    assert await until_closed(reader) == b""
    writer.close()


async def test_a_connection_that_was_used_is_not_kept_either(
    lose_patience: Callable[[], None], gateway: Gateway
) -> None:
    reader, writer = await opened(gateway)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    lose_patience()
    await until_closed(reader)
    writer.close()


async def test_sessions_and_streams_are_kept(lose_patience: Callable[[], None], gateway: Gateway) -> None:
    async with (
        await connect(gateway.url, "shop", new_key(), new_epoch()) as sled,
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/gateway/events", headers={"Accept": "text/event-stream"}) as stream,
    ):
        lose_patience()
        # One that says nothing is ended meanwhile.
        reader, writer = await opened(gateway)
        await until_closed(reader)
        writer.close()
        await sled.send_events(1, blocked("still there"))
        await sled.acked(1)
        async with asyncio.timeout(10):
            async for line in stream.content:
                if b"still there" in line:
                    break


async def test_an_address_has_only_so_many_requests_under_way(
    gateway: Gateway,
    http: Http,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
    tmp_path: Path,
) -> None:
    file = AccessFile(tmp_path / "gw")
    _, secret = tokens.create(file, name="ann", scopes=["read"], created_by="ann", now_ms=0)
    file.close()
    headers = {"Authorization": f"Bearer {secret}"}
    monkeypatch.setattr(limits, "REQUESTS_PER_ADDRESS", 1)
    # As if they came from elsewhere.
    monkeypatch.setattr(gate, "is_loopback", lambda _: False)
    async with await connect(gateway.url, "shop", new_key(), new_epoch()):
        answer = await http(f"{gateway.url}/gateway/projects", headers=headers)
        assert answer.status == 429
        assert "too many requests from this address" in answer.body["error"]

    async def is_let_in() -> bool:
        return (await http(f"{gateway.url}/gateway/projects", headers=headers)).status == 200

    await eventually(is_let_in)


async def test_sleds_connect_only_so_often_from_one_address(
    start_gateway: StartGateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKES_AT_ONCE", 3)
    monkeypatch.setattr(limits, "HANDSHAKES_A_SECOND", 0.01)
    gateway = await start_gateway()
    async with await connect(gateway.url, "shop", new_key(), new_epoch()):
        pass
    monkeypatch.setattr(gate, "is_loopback", lambda _: False)
    statuses = [(await http(f"{gateway.url}/gateway/tokens", method="POST")).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    # Who reads is not kept from it.
    assert (await http(f"{gateway.url}/healthz")).status == 200
    assert 'huskies_refused_total{kind="access"} 2.0' in (await http(f"{gateway.url}/metrics")).body


async def test_a_project_has_only_so_many_sleds(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_PROJECT", 2)
    async with (
        await connect(gateway.url, "shop", new_key(), new_epoch()),
        await connect(gateway.url, "shop", new_key(), new_epoch()),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(gateway.url, "shop", new_key(), new_epoch())
        assert refused.value.status == 429
        async with await connect(gateway.url, "blog", new_key(), new_epoch()):
            pass


async def test_this_machine_may_have_more(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUESTS_PER_ADDRESS", 1)
    async with await connect(gateway.url, "shop", new_key(), new_epoch()):
        assert (await http(f"{gateway.url}/gateway/projects")).status == 200


async def test_streams_are_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READERS_MAX", 1)
    headers = {"Accept": "text/event-stream"}
    url = f"{gateway.url}/gateway/events"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers) as first,
        session.get(url, headers=headers) as second,
    ):
        assert (first.status, second.status) == (200, 503)


@pytest.mark.parametrize("path", ["/login", "/gateway/sleds"])
async def test_a_body_that_crawls_is_given_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(limits, "BODY_LIMIT", 0.05)
    reader, writer = await opened(gateway)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    writer.write(head.encode() + b"t")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
