"""Requests that break off, or are none: a clean answer if someone reads it, and no traceback in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tests.gateway.conftest import Eventually

from huskies.gateway.server import Gateway

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
paths = pytest.mark.parametrize("path", ["/login", "/gateway/sleds"])


@pytest.fixture(autouse=True)
def _no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG, "huskies")
    yield
    records = caplog.get_records("call")
    told = [record for record in records if record.exc_info or record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in told] == []


async def sent(
    gateway: Gateway, head: str, body: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"{head}\r\n".encode() + body)
    return reader, writer


async def answer(gateway: Gateway, head: str, body: bytes = b"") -> int:
    """The status, once the gateway has closed the connection."""
    reader, writer = await sent(gateway, head, body)
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    return int(said.split()[1])


def post(path: str, *headers: str) -> str:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{''.join(headers)}"


@paths
@pytest.mark.parametrize("is_abrupt", [True, False], ids=["reset", "closed"])
async def test_who_leaves_within_the_body_leaves_no_traceback(
    gateway: Gateway, eventually: Eventually, caplog: pytest.LogCaptureFixture, path: str, *, is_abrupt: bool
) -> None:
    reader, writer = await sent(
        gateway, post(path, FORM, "Content-Length: 100\r\nExpect: 100-continue\r\n"), b"x" * 10
    )
    async with asyncio.timeout(10):
        # From then on its handler waits for the body.
        assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
    if is_abrupt:
        writer.transport.abort()
    else:
        writer.close()
    await eventually(lambda: "a client left within its request" in caplog.text)


@paths
async def test_who_sends_no_more_than_a_part_of_the_body_is_waited_for_no_longer(
    gateway: Gateway, eventually: Eventually, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    reader, writer = await sent(gateway, post(path, FORM, "Content-Length: 100\r\n"), b"x" * 10)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    await eventually(lambda: "a client " in caplog.text)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (FORM + CHUNKED, b"zz\r\nabc"),
        (FORM + "Content-Encoding: gzip\r\nContent-Length: 5\r\n", b"abcde"),
    ],
    ids=["chunks", "gzip"],
)
@paths
async def test_a_body_that_is_damaged_is_refused(
    gateway: Gateway, path: str, headers: str, body: bytes
) -> None:
    assert await answer(gateway, post(path, headers), body) == 400


@pytest.mark.parametrize(
    "head",
    [
        "nonsense\r\n",
        "GET / HTTP/1.1\r\nno header\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 10_000}\r\n",
        f"GET /{'x' * 10_000} HTTP/1.1\r\nHost: x\r\n",
    ],
    ids=["no request", "no header", "a long header", "a long path"],
)
async def test_what_is_no_request_is_refused(gateway: Gateway, head: str) -> None:
    assert await answer(gateway, head) == 400


async def test_a_body_that_is_too_large_is_refused(gateway: Gateway) -> None:
    head = post("/login", FORM, f"Content-Length: {1 << 17}\r\n")
    assert await answer(gateway, head, b"x" * (1 << 17)) == 413
