"""Asking a gateway over HTTP with the standard library: a command's start must not wait for aiohttp."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from huskies.errors import EXIT_USAGE, GatewayUnreachableError, HuskiesError

# Has no flag: the arguments of a process are there for every user of the machine to read.
TOKEN_VARIABLE: Final = "HUSKIES_TOKEN"  # noqa: S105 - a variable's name
CA_VARIABLE: Final = "HUSKIES_TLS_CA"
_NEXT: Final = "start one with `huskies up` or `huskies gateway`, or name another with --gateway-url"
_NEXT_TRUST: Final = f"name the authority that signed its certificate with {CA_VARIABLE}"
# How much of an answer that is no JSON is worth showing.
_SHOWN: Final = 200


class GatewayRefusedError(HuskiesError):
    """The gateway at `url` answered with another HTTP status than 200."""

    def __init__(self, url: str, status: int, problem: str) -> None:
        advice = f"; set {TOKEN_VARIABLE} to yours" if status == http.client.UNAUTHORIZED else ""
        super().__init__(f"the gateway at {url} answered {status}: {problem}{advice}")
        self.url = url
        self.status = status
        if status == http.client.UNPROCESSABLE_ENTITY:
            # What was asked for cannot be used: a cursor, say, or a project's name.
            self.exit_status = EXIT_USAGE


def get(
    base_url: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float,
) -> http.client.HTTPResponse:
    """Ask, and return the answer with its body still to be read; `timeout` (s) is of each step, not of all.

    Raises `GatewayUnreachableError` and `GatewayRefusedError`.
    """
    return ask("GET", base_url, path, query=query, headers=headers, timeout=timeout)


def ask(
    method: str,
    base_url: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float,
) -> http.client.HTTPResponse:
    """As `get`, with a method, and perhaps a body of JSON."""
    parts = urlsplit(base_url)
    target = f"{parts.path.rstrip('/')}{path}{'?' if query else ''}{urlencode(query or {})}"
    try:
        connection = _connection(parts, timeout)
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        # With `close`, the answer alone owns the socket, and ends it when it is read or dropped.
        kind = {} if body is None else {"Content-Type": "application/json"}
        sent = {"Connection": "close", **kind, **shown, **(headers or {})}
        connection.request(method, target, body=body, headers=sent)
        response = connection.getresponse()
        if response.status == http.client.OK:
            return response
        body = response.read(65_536)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        advice = _NEXT_TRUST if isinstance(error, ssl.SSLCertVerificationError) else _NEXT
        raise GatewayUnreachableError(base_url, f"{reason(error)}; {advice}") from None
    raise GatewayRefusedError(base_url, response.status, _problem_in(body, response.reason))


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout)
    from huskies.tls import client_context

    ca = os.environ.get(CA_VARIABLE)
    context = client_context(Path(ca) if ca else None)
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def read_all(response: http.client.HTTPResponse, base_url: str) -> bytes:
    """The whole body; raises `GatewayUnreachableError` where it breaks off."""
    try:
        return response.read()
    except (OSError, http.client.HTTPException) as error:
        raise GatewayUnreachableError(base_url, f"the answer broke off: {reason(error)}; try again") from None


def reason(error: Exception) -> str:
    """What went wrong, in words; many of these errors have none of their own."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer is incomplete"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text or type(error).__name__)[:_SHOWN]


def _problem_in(body: bytes, phrase: str) -> str:
    """The JSON `error` that Huskies answers with, or what else there is: something else may listen there."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()[:_SHOWN] or phrase
        return f"{text}; is this a Huskies gateway? Check --gateway-url"
