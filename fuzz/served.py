"""Whole requests to a running gateway: any method, target, headers and body that HTTP can carry."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest import mock
from urllib.parse import urlsplit

from fuzz.events import ENROLMENT
from fuzz.target import Check, Outcome, Target, refused, taken
from huskies import limits
from huskies.config import GatewaySettings
from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway

# What SPEC and OpenAPI know, and what HTTP itself answers to a request that is none.
_STATUSES: Final = {101, 200, 303, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 426, 429, 431, 503, 507}
_ANSWER_MAX: Final = 4 << 20
_PATIENCE: Final = 20.0
_FRAMING: Final = (b"connection", b"content-length", b"transfer-encoding", b"expect")
# Stands for the secrets that a run makes, so that inputs can be repeated in another.
_TOKEN: Final = b"TOKEN"
_SECRET: Final = b"token-that-nobody-sends"
_PROJECTS: Final = """
[projects.web]
open = true
[sled_tokens]
web-shop = "token-of-the-shop"
blog = "token-that-nobody-sends"
[access]
trusted_proxies = ["127.0.0.1"]
user_header = "X-User"
"""


class _Failures(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


@contextmanager
def _gateway() -> Iterator[Check]:
    """A gateway that asks for a token; whoever guesses is not held up, or nothing would be reached."""
    failures = _Failures()
    root = logging.getLogger()
    with (
        tempfile.TemporaryDirectory() as name,
        asyncio.Runner() as runner,
        mock.patch.object(limits, "FAILED_LOGIN_DELAY", 0.0),
        mock.patch.object(limits, "FAILED_LOGINS_MAX", 1 << 40),
        mock.patch.object(limits, "JOIN_TOKENS_MAX", 1_000),
        mock.patch.object(limits, "REFUSALS_SAID", 0),
    ):
        directory = Path(name)
        file = AccessFile(directory)
        _, secret = tokens.create(file, name="ann", scopes=("read",), created_by="ann", now_ms=0)
        file.close()
        (directory / "projects.toml").write_text(_PROJECTS)
        (directory / "projects.toml").chmod(0o600)
        gateway = Gateway(GatewaySettings(port=0, data_dir=directory))
        runner.run(gateway.start())
        root.addHandler(failures)

        def check(data: bytes) -> Outcome:
            answer = runner.run(_ask(gateway.url, _request(data, secret.encode())))
            found, failures.found = failures.found, []
            assert not found, "\n".join(logging.Formatter().format(record) for record in found)
            return _judged(answer)

        try:
            yield check
        finally:
            root.removeHandler(failures)
            runner.run(gateway.stop())


def _request(data: bytes, secret: bytes) -> bytes:
    """A request that ends: a line of method and target, headers, and after an empty line a body."""
    head, _, body = data.replace(_TOKEN, secret).partition(b"\n\n")
    first, *headers = head.replace(b"\r", b"").replace(b"\0", b"").split(b"\n")
    kept = [line for line in headers if line and line.partition(b":")[0].strip().lower() not in _FRAMING]
    framing = [b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([first + b" HTTP/1.1", *kept, *framing, b"", body])


async def _ask(url: str, request: bytes) -> bytes:
    """The answer, of a stream or WebSocket how it begins."""
    parts = urlsplit(url)
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        answer = b""
        try:
            writer.write(request)
            while len(answer) < _ANSWER_MAX and (piece := await reader.read(1 << 16)):
                answer += piece
                if answer.startswith(b"HTTP/1.1 101") or b"text/event-stream" in answer[:2_000]:
                    break
        except ConnectionError:
            # Refused before all of it was read.
            pass
        finally:
            writer.transport.abort()
    return answer


def _judged(answer: bytes) -> Outcome:
    head, _, body = answer.partition(b"\r\n\r\n")
    if not answer:
        return refused("closed")
    status = int(head.split(b" ", 2)[1])
    assert status in _STATUSES, answer[:500]
    assert _SECRET not in answer, "the answer holds a secret"
    kind = head.lower().partition(b"content-type: ")[2].partition(b"\r")[0]
    if kind.startswith(b"application/json") and body:
        shown = json.loads(body)
        assert status < 400 or status == 503 or list(shown) == ["error"], answer[:500]
    label = f"{status} {kind.decode()} {body[:80].decode('utf-8', 'replace') if status > 400 else ''}"
    return taken(label) if status < 400 else refused(label)


_AS_READER: Final = b"Host: localhost\nAuthorization: Bearer TOKEN\n"
_SEEDS: Final = (
    b"GET /gateway/events?limit=5&project=web&type=story_blocked&since=1\n" + _AS_READER,
    b"GET /gateway/events?after=0\nAccept: text/event-stream\nLast-Event-ID: 1234\n" + _AS_READER,
    b"GET /gateway/events?before=latest&story=1_bug_x&limit=1000\nAccept: application/json\n" + _AS_READER,
    b"GET /gateway/projects\nX-Forwarded-For: 1.2.3.4\nX-Forwarded-Proto: https\nX-User: ann\nHost: h",
    b"GET /gateway/digests?sled_id=" + b"ab" * 32 + b"&epoch=0123456789abcdef&seq=1\n" + _AS_READER,
    b"GET /gateway/peers\n" + _AS_READER,
    b"GET /metrics\n" + _AS_READER,
    b"GET /\n" + _AS_READER,
    b"GET /static/app.js\nHost: localhost",
    b"POST /gateway/tokens\nHost: localhost\nAuthorization: Bearer token-of-the-shop\nOrigin: http://localhost",
    b"GET /login\nHost: localhost",
    b"POST /login\nHost: localhost\nContent-Type: application/x-www-form-urlencoded\n\ntoken=TOKEN",
    b"POST /logout\nHost: localhost\nCookie: huskies=abc; __Host-huskies=def\nOrigin: http://localhost",
    b"GET /openapi.json\nHost: localhost",
    b"GET /readyz\nHost: localhost",
)  # fmt: skip
# Refused whatever they say, and worth changing all the same.
_WORDS: Final = (
    (b'POST /login\nHost: localhost\nContent-Type: multipart/form-data; boundary="x"\n\n'
    b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\nTOKEN\r\n--x--\r\n'),
    b"POST /gateway/sleds\nHost: localhost\nContent-Type: application/json\n\n" + ENROLMENT,
    b"Upgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n",
    b"Sec-WebSocket-Protocol: huskies.relay.v2\n", b"GET /gateway/events/push?project=web&token=x\n",
    b"Content-Type: ", b"charset=utf-7", b"; charset=nothing", b"multipart/form-data", b"; boundary=",
    b"Content-Encoding: gzip\n", b"Content-Encoding: deflate\n", b"Cookie: ", b"Origin: ", b"Host: [",
    b"X-Forwarded-Host: ", b"%ff", b"%2e%2e/", b"?a=", b"#", b"Range: bytes=0-1\n", b"If-None-Match: *\n",
    b"http://evil.example/", b"Accept: text/event-stream\n", b"\n\n",
)  # fmt: skip

TARGETS: Final = (
    Target(name="gateway", opened=_gateway, seeds=_SEEDS, words=_WORDS, inputs=15_000, grows=False),
)
