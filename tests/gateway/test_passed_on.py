"""A gateway on loopback behind a proxy of its machine: who comes through that is nobody of this machine."""

from __future__ import annotations

import aiohttp
import pytest
from tests.gateway.conftest import Http, StartGateway, stop
from tests.support.relay_client import blocked, join_token, push

from huskies import limits
from huskies.gateway.server import Gateway
from huskies.protocol import wire
from huskies.protocol.peer_wire import PEERS_PATH
from huskies.protocol.peer_wire import SUBPROTOCOL as PEER_SUBPROTOCOL

# What one proxy or another adds, trusted or not; the client may have written the rest of it.
TRACES = [
    {"X-Forwarded-For": "203.0.113.7"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"x-forwarded-proto": "https"},
    {"X-Forwarded-Host": "localhost"},
    {"X-Forwarded-Port": "443"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Via": "1.1 proxy"},
    {"Via": ""},
]
TRUSTING = '[access]\ntrusted_proxies = ["127.0.0.1"]\n'
traced = pytest.mark.parametrize("trace", TRACES, ids=str)


async def refused_socket(url: str, protocol: str, headers: dict[str, str]) -> int:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url, headers=headers, protocols=[protocol])
    return refused.value.status


async def refused_push(gateway: Gateway, trace: dict[str, str]) -> int:
    async with aiohttp.ClientSession() as session:
        token = await join_token(session, gateway.url)
    headers = {"Authorization": f"Bearer {token}", **trace}
    return await refused_socket(f"{gateway.url}{wire.PUSH_PATH}?project=shop", wire.SUBPROTOCOL, headers)


@traced
async def test_who_comes_through_a_proxy_reads_nothing(
    gateway: Gateway, http: Http, trace: dict[str, str]
) -> None:
    for path in ("/gateway/projects", "/gateway/events", "/gateway/digests", "/metrics", PEERS_PATH):
        assert (await http(gateway.url + path)).status == 200, path
        assert (await http(gateway.url + path, headers=trace)).status == 401, path
    assert (await http(f"{gateway.url}/login", headers=trace)).status == 200


@traced
async def test_who_comes_through_a_proxy_pushes_for_no_project_that_is_not_open(
    gateway: Gateway, trace: dict[str, str]
) -> None:
    assert await refused_push(gateway, trace) == 403
    await push(gateway.url, "shop", blocked())


@traced
async def test_no_gateway_replicates_through_a_proxy_without_a_token(
    gateway: Gateway, trace: dict[str, str]
) -> None:
    assert await refused_socket(gateway.url + PEERS_PATH, PEER_SUBPROTOCOL, trace) == 403


async def test_nor_through_one_that_is_listed_and_says_nothing(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway(projects=TRUSTING)
    assert (await http(f"{gateway.url}/metrics")).status == 401
    assert await refused_push(gateway, {}) == 403
    await stop(gateway)


async def test_requests_through_a_proxy_of_this_machine_are_bounded(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUESTS_PER_ADDRESS", 0)
    assert (await http(f"{gateway.url}/healthz")).status == 200
    assert (await http(f"{gateway.url}/healthz", headers={"Via": "1.1 proxy"})).status == 429
