"""Where containers reach a gateway on loopback, too: whoever comes in there must say who it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.containers.conftest import WITH_ENGINE, Asker
from tests.gateway.conftest import StartGateway
from tests.support.operator import Operator
from tests.support.relay_client import blocked, push

from huskies.containers.engine import Engine
from huskies.gateway.server import Gateway

pytestmark = WITH_ENGINE
PATHS = (
    ("GET", "/"),
    ("GET", "/gateway/projects"),
    ("GET", "/gateway/events"),
    ("GET", "/gateway/stats"),
    ("GET", "/gateway/digests"),
    ("GET", "/gateway/peers"),
    ("GET", "/metrics"),
    ("GET", "/gateway/containers"),
    ("POST", "/gateway/projects"),
    ("DELETE", "/gateway/projects/web-shop"),
    ("POST", "/gateway/projects/web-shop/stop"),
    ("POST", "/gateway/projects/web-shop/start"),
    ("GET", "/gateway/projects/web-shop/logs"),
)


@pytest.fixture
async def bridged(gateway: Gateway) -> tuple[Gateway, str]:
    """A gateway that listens for containers, too; and its URL there."""
    await gateway.bridge.ensure()
    engine = Engine()
    address = await asyncio.to_thread(engine.bridge_address)
    engine.close()
    assert address is not None
    url = f"http://{address}:{urlsplit(gateway.url).port}"
    assert gateway.bridge.describe() == f"the gateway listens for containers on {url.removeprefix('http://')}"
    return gateway, url


async def test_who_shows_nothing_is_refused_there_and_not_on_loopback(
    bridged: tuple[Gateway, str], asker: Asker
) -> None:
    gateway, url = bridged
    for method, path in PATHS:
        async with asker.session.request(method, url + path, allow_redirects=False) as answer:
            assert answer.status == (303 if path == "/" else 401), path
        # A container may say that it is someone else, and that it asked for this machine.
        headers = {"Host": "localhost", "X-Forwarded-For": "127.0.0.1", "Origin": gateway.url}
        async with asker.session.request(
            method, url + path, headers=headers, allow_redirects=False
        ) as answer:
            assert answer.status in (303, 401, 403), path
    for path in ("/gateway/projects", "/gateway/events", "/metrics"):
        assert (await asker.ask("GET", gateway, path))[0] == 200


async def test_no_sled_and_no_gateway_is_let_in_there_without_a_secret(
    bridged: tuple[Gateway, str], tmp_path: Path
) -> None:
    gateway, url = bridged
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await push(url, "stray", blocked("from a container"))
    assert refused.value.status == 403
    await push(gateway.url, "stray", blocked("from this machine"))
    secret = Operator(tmp_path / "gw").make("mine", "push:mine")
    await push(url, "mine", blocked("from its container"), sled_token=secret)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await push(url, "another", blocked("from its container"), sled_token=secret)
    assert refused.value.status == 403
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{url}/gateway/peers", protocols=("huskies.peer.v1",))
    assert refused.value.status == 403


async def test_a_gateway_that_has_made_nothing_listens_on_loopback_alone(gateway: Gateway) -> None:
    assert [str(name[0]) for name in addresses(gateway)] == ["127.0.0.1"]
    await gateway.bridge.ensure()
    await gateway.bridge.ensure()
    assert len(addresses(gateway)) == 2


async def test_one_that_listens_elsewhere_listens_nowhere_else(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(host="0.0.0.0", projects="[projects.web]\nopen = true\n")  # noqa: S104 - what the test is about
    await gateway.bridge.ensure()
    assert len(addresses(gateway)) == 1
    assert gateway.bridge.describe().startswith("the gateway listens on 0.0.0.0:")


async def test_an_address_that_is_not_this_machines(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of an engine on another machine; RFC 5737 gives this address to nobody.
    monkeypatch.setattr(Engine, "bridge_address", lambda _: "192.0.2.77")
    await gateway.bridge.ensure()
    assert "192.0.2.77 is not one of this machine (a remote or rootless engine?)" in gateway.bridge.describe()
    assert "`huskies gateway --host`" in gateway.bridge.describe()
    assert "--gateway-url" in gateway.bridge.describe()


def addresses(gateway: Gateway) -> list[tuple[str, int]]:
    runner = gateway.bridge._runner
    assert runner is not None
    return list(runner.addresses)
