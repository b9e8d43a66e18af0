"""Following a gateway's event stream for ever: resuming, and saying so, where the connection is lost."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Mapping
from typing import Final, Protocol, TypeVar

import msgspec

from huskies.cli import client
from huskies.errors import HuskiesError
from huskies.limits import STREAM_ID_INTERVAL
from huskies.protocol.backoff import Backoff
from huskies.protocol.wire import EVENTS_PATH
from huskies.sse import Message, SseParser

# The gateway says something at least every STREAM_ID_INTERVAL; three missed are a dead connection.
_SILENCE_LIMIT: Final = 3 * STREAM_ID_INTERVAL
# Someone is looking: they should not wait a minute after the gateway is back.
_LONGEST_PAUSE: Final = 10.0
_READ_BYTES: Final = 64 << 10
# Whoever is refused so is so again, until someone does something about it.
_NEVER: Final = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


class Sink(Protocol):
    """Where what was read goes."""

    def event(self, data: bytes) -> None:
        """Take one `GatewayStatusEvent` as JSON."""

    def warning(self, text: str) -> None:
        """Take something about the stream itself that a reader must not miss."""

    def notice(self, text: str) -> None:
        """Take what else the gateway says."""

    def disconnected(self, url: str, problem: str) -> None:
        """The connection is lost, and made again."""

    def connected(self) -> None:
        """The connection is there again; what follows goes on where it broke off."""


class Reason(msgspec.Struct, frozen=True):
    """The data of `reset` and `error`."""

    reason: str = "no reason given"


class Gap(msgspec.Struct, frozen=True):
    """The data of `gap`: the first and last position that are kept no more."""

    first: int | str = msgspec.field(name="from", default="?")
    last: int | str = msgspec.field(name="to", default="?")


_Data = TypeVar("_Data", Reason, Gap)


class Follower:
    """Reads one gateway's events that `query` asks for into the sink."""

    def __init__(self, base_url: str, query: Mapping[str, str], sink: Sink) -> None:
        self._base_url = base_url
        self._query = query
        self._sink = sink
        self._parser = SseParser()

    def run(self) -> None:
        """Follow until interrupted; raises `HuskiesError` only where the first connection fails."""
        response = self._connect()
        backoff = Backoff()
        while True:
            problem = self._read(response)
            self._sink.disconnected(self._base_url, problem)
            response = self._reconnect(backoff)
            self._sink.connected()

    def _reconnect(self, backoff: Backoff) -> http.client.HTTPResponse:
        while True:
            time.sleep(min(backoff.next_delay(random.random()), _LONGEST_PAUSE))  # noqa: S311 - spreads load
            try:
                response = self._connect()
            except client.GatewayRefusedError as error:
                if error.status in _NEVER:
                    raise
                continue
            except HuskiesError:
                continue
            backoff.succeeded()
            return response

    def _connect(self) -> http.client.HTTPResponse:
        headers = {"Accept": "text/event-stream"}
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id
        self._parser.restart()
        return client.get(
            self._base_url, EVENTS_PATH, query=self._query, headers=headers, timeout=_SILENCE_LIMIT
        )

    def _read(self, response: http.client.HTTPResponse) -> str:
        """Pass on what comes until the connection ends; returns why it did."""
        problem = "the gateway ended it"
        with response:
            while True:
                try:
                    data = response.read1(_READ_BYTES)
                except TimeoutError:
                    return f"no sign of life for {_SILENCE_LIMIT:g} s"
                except (OSError, http.client.HTTPException) as error:
                    return client.reason(error)
                if not data:
                    return problem
                for message in self._parser.feed(data):
                    problem = self._pass_on(message) or problem

    def _pass_on(self, message: Message) -> str | None:
        """Pass one message to the sink; returns the reason where it announces the end."""
        match message.event:
            case "status":
                self._sink.event(message.data)
            case "reset":
                said = _decode(message.data, Reason)
                self._sink.warning(f"RESET: {said.reason}; what follows starts again from the beginning")
            case "gap":
                gap = _decode(message.data, Gap)
                self._sink.warning(
                    f"GAP: events {gap.first} to {gap.last} are kept no more, or damaged, at the gateway "
                    "and were missed"
                )
            case "error":
                return _decode(message.data, Reason).reason
            case other:
                self._sink.notice(f"{other}: {message.data.decode('utf-8', 'replace')}")
        return None


def _decode(data: bytes, shape: type[_Data]) -> _Data:
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return shape()
