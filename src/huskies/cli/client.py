"""Asking a gateway over HTTP with the standard library: a command's start must not wait for aiohttp."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from huskies.errors import EXIT_USAGE, GatewayUnreachableError, HuskiesError

_NEXT: Final = "start one with `huskies up` or `huskies gateway`, or name another with --gateway-url"
# How much of an answer that is no JSON is worth showing.
_SHOWN: Final = 200


class GatewayRefusedError(HuskiesError):
    """The gateway at `url` answered with another HTTP status than 200."""

    def __init__(self, url: str, status: int, problem: str) -> None:
        super().__init__(f"the gateway at {url} answered {status}: {problem}")
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
    parts = urlsplit(base_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = f"{parts.path.rstrip('/')}{path}{'?' if query else ''}{urlencode(query or {})}"
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout)
        # With `close`, the answer alone owns the socket, and ends it when it is read or dropped.
        connection.request("GET", target, headers={"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        if response.status == http.client.OK:
            return response
        body = response.read(65_536)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise GatewayUnreachableError(base_url, f"{reason(error)}; {_NEXT}") from None
    raise GatewayRefusedError(base_url, response.status, _problem_in(body, response.reason))


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
    except (ValueError, LookupError, TypeError):
        text = body.decode("utf-8", "replace").strip()[:_SHOWN] or phrase
        return f"{text}; is this a Huskies gateway? Check --gateway-url"
