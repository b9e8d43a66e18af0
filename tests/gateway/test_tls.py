"""TLS from end to end: a gateway that serves it, sleds, other gateways and readers that check it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from tests.gateway.conftest import stop
from tests.support.certificates import Authority

from huskies.cli import client
from huskies.config import GatewaySettings, SledSettings
from huskies.errors import ConfigError, GatewayUnreachableError
from huskies.events.model import StoryBlocked
from huskies.gateway.server import Gateway
from huskies.sled.service import Sled
from huskies.tls import Certificate, client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import Eventually


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def gateway(tmp_path: Path, authority: Authority) -> AsyncIterator[Gateway]:
    started = await start(tmp_path / "gw", authority)
    yield started
    await stop(started)


async def start(directory: Path, authority: Authority, **changes: Any) -> Gateway:
    chain, key = authority.certificate()
    gateway = Gateway(GatewaySettings(port=0, data_dir=directory, tls_cert=chain, tls_key=key, **changes))
    await gateway.start()
    return gateway


async def start_sled(directory: Path, url: str, ca: Path | None) -> Sled:
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 - once
    sled = Sled(SledSettings(project_dir=directory, name="shop", gateway_url=url, port=0, tls_ca=ca))
    await sled.start()
    await sled.broadcaster.publish(StoryBlocked(story_id="1_x", reason="over TLS"))
    return sled


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_sled_delivers_over_tls(
    gateway: Gateway, authority: Authority, tmp_path: Path, eventually: Eventually, scheme: str
) -> None:
    assert gateway.url.startswith("https://127.0.0.1:")
    url = scheme + gateway.url.removeprefix("https")
    sled = await start_sled(tmp_path / "shop", url, authority.path)
    try:
        await eventually(lambda: gateway.log.position == 1)
    finally:
        await sled.stop()


@pytest.mark.parametrize("trusts", ["the system", "another authority"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    gateway: Gateway, tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture, trusts: str
) -> None:
    (tmp_path / "other").mkdir()
    ca = None if trusts == "the system" else Authority(tmp_path / "other", "other").path
    sled = await start_sled(tmp_path / "shop", gateway.url, ca)
    try:
        await eventually(lambda: "a certificate that is not trusted" in caplog.text)
    finally:
        await sled.stop()
    assert gateway.log.position == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"address": "192.0.2.1"}, "IP address mismatch"),
        ({"valid": False}, "certificate has expired"),
    ],
)
async def test_a_certificate_for_another_or_over_is_refused(  # noqa: PLR0917 - fixtures
    authority: Authority,
    tmp_path: Path,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    why: str,
) -> None:
    chain, key = authority.certificate("wrong", **changes)
    gateway = Gateway(GatewaySettings(port=0, data_dir=tmp_path / "gw", tls_cert=chain, tls_key=key))
    await gateway.start()
    sled = await start_sled(tmp_path / "shop", gateway.url, authority.path)
    try:
        await eventually(lambda: why in caplog.text)
    finally:
        await sled.stop()
        await stop(gateway)
    assert gateway.log.position == 0


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_nobody_falls_back_to_plain_text(
    gateway: Gateway, authority: Authority, tmp_path: Path, eventually: Eventually, scheme: str
) -> None:
    """Nor the other way: a plain URL of a gateway that serves TLS gets nothing across."""
    url = scheme + gateway.url.removeprefix("https")
    sled = await start_sled(tmp_path / "shop", url, authority.path)
    try:
        await eventually(lambda: sled._status().last_error)
    finally:
        await sled.stop()
    assert gateway.log.position == 0


async def test_gateways_replicate_over_tls(
    gateway: Gateway, authority: Authority, tmp_path: Path, eventually: Eventually
) -> None:
    other = await start(tmp_path / "other-gw", authority, peers=(gateway.url,), tls_ca=authority.path)
    distrustful = await start(tmp_path / "third-gw", authority, peers=(gateway.url,))
    try:
        await eventually(lambda: other.peers.states()[0].connected)
        await eventually(lambda: "is not trusted" in str(distrustful.peers.states()[0].last_error))
    finally:
        await stop(other)
        await stop(distrustful)


def peer_certificate(url: str, ca: Path) -> bytes:
    """What a gateway shows now, in DER."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with (
        socket.create_connection((parts.hostname, parts.port or 443), timeout=10) as plain,
        client_context(ca).wrap_socket(plain, server_hostname=parts.hostname) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return shown


async def test_a_certificate_that_is_renewed_is_used_without_a_restart(
    gateway: Gateway, authority: Authority, tmp_path: Path, eventually: Eventually
) -> None:
    before = await asyncio.to_thread(peer_certificate, gateway.url, authority.path)
    chain, key = authority.certificate("renewed")
    shutil.copy(key, tmp_path / "server.key")
    shutil.copy(chain, tmp_path / "server.pem")

    async def is_new() -> bool:
        return await asyncio.to_thread(peer_certificate, gateway.url, authority.path) != before

    await eventually(is_new)


def test_half_a_renewal_changes_nothing(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chain, key = authority.certificate()
    certificate = Certificate(chain, key)
    assert not certificate.refresh()
    other_chain, other_key = authority.certificate("other")
    shutil.copy(other_chain, chain)
    assert not certificate.refresh()
    assert "the renewed certificate is not used: key values mismatch" in caplog.text
    shutil.copy(other_key, key)
    assert certificate.refresh()
    chain.unlink()
    assert not certificate.refresh()
    assert "No such file or directory" in caplog.text


def test_what_cannot_be_used_is_named_at_the_start(authority: Authority, tmp_path: Path) -> None:
    chain, key = authority.certificate()
    with pytest.raises(ConfigError, match=r"--tls-cert .*nothing.*No such file or directory"):
        Certificate(tmp_path / "nothing", key)
    with pytest.raises(ConfigError, match="expected both in PEM"):
        Certificate(key, key)
    with pytest.raises(ConfigError, match=r"--tls-ca .*cannot be used: .*expected a file of certificates"):
        client_context(tmp_path / "nothing")
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(ConfigError, match="expected a file of certificates in PEM"):
        client_context(tmp_path / "text")
    assert chain.exists()


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    assert Certificate(*authority.certificate()).context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_readers_check_it_too(
    gateway: Gateway, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> int:
        with client.get(gateway.url, "/healthz", timeout=10) as response:
            return response.status

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("HUSKIES_TLS_CA", os.fspath(authority.path))
    assert await asyncio.to_thread(ask) == 200
    monkeypatch.delenv("HUSKIES_TLS_CA")
    with pytest.raises(GatewayUnreachableError, match=r"certificate verify failed.*HUSKIES_TLS_CA"):
        await asyncio.to_thread(ask)
