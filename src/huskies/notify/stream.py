"""Reads the gateway's event stream for ever: a batch at a time, resuming where the connection was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, TypeVar

import aiohttp
import msgspec

from huskies.errors import ConfigError, GatewayUnreachableError, HuskiesError
from huskies.limits import STREAM_ID_INTERVAL
from huskies.notify.model import Board, Gap, Received
from huskies.protocol.backoff import Backoff
from huskies.protocol.vectors import Origin
from huskies.protocol.wire import EVENTS_PATH, PROJECTS_PATH
from huskies.sse import Message, SseParser
from huskies.tls import Trust

_log = logging.getLogger("huskies.notify")

# The gateway says something at least every STREAM_ID_INTERVAL; three missed are a dead connection.
_SILENCE_LIMIT: Final = 3 * STREAM_ID_INTERVAL
_CONNECT_LIMIT: Final = 10.0
_ANSWER_LIMIT: Final = 30.0
# People wait for what happened: not for a minute after the gateway is back.
_LONGEST_PAUSE: Final = 10.0
_BATCH_BYTES: Final = 512 << 10
_REFUSED: Final = (401, 403)
_DIGESTS_PATH: Final = "/gateway/digests"

_received = msgspec.json.Decoder(Received)

Item: TypeAlias = Received | Gap
_Answer = TypeVar("_Answer")


class Taker(Protocol):
    """Where what was read goes."""

    async def take(self, items: list[Item], cursor: str | None) -> None:
        """Take a batch, and the cursor behind it."""

    async def reset(self) -> None:
        """What follows begins with the beginning of the gateway's log."""

    async def connected(self) -> None:
        """The stream is there (again)."""

    def disconnected(self) -> None:
        """The stream is lost, and made again."""


class _Sequence(msgspec.Struct, frozen=True):
    sled_id: str
    epoch: str
    last_seq: int


class _Digests(msgspec.Struct, frozen=True):
    sequences: list[_Sequence]


class RefusedError(HuskiesError):
    """The gateway does not let this process read; someone has to do something about it."""


class EventSource:
    """One gateway, asked with `token`, if there is one; `trust` says whom to trust each time it is dialed."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        trust: Callable[[], Trust],
        chance: Callable[[], float],
    ) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._trust = trust
        self._chance = chance
        self._is_lost = False

    async def follow(self, cursor: str, taker: Taker) -> None:
        """Read what comes after the cursor; raises `RefusedError`, and what the taker does."""
        parser, backoff = SseParser(), Backoff()
        parser.last_id = cursor
        async with self._session() as session:
            while True:
                parser.restart()
                try:
                    problem = await self._read(session, parser, taker, backoff)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    problem = _in_words(error)
                taker.disconnected()
                if not self._is_lost:
                    self._is_lost = True
                    _log.warning("the gateway's events are not to be had: %s", problem)
                await asyncio.sleep(min(backoff.next_delay(self._chance()), _LONGEST_PAUSE))

    async def _read(
        self, session: aiohttp.ClientSession, parser: SseParser, taker: Taker, backoff: Backoff
    ) -> str:
        """Pass on what comes until the connection ends; returns why it did."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": parser.last_id or "0"}
        async with session.get(
            self._base_url + EVENTS_PATH, headers=headers, ssl=self._trusted(), allow_redirects=False
        ) as response:
            if response.status in _REFUSED:
                raise RefusedError(await self._refusal(response))
            if response.status != 200:  # noqa: PLR2004 - OK
                return f"it answered {response.status}"
            if self._is_lost:
                self._is_lost = False
                _log.info("the gateway's events come again")
            await taker.connected()
            while data := await response.content.readany():
                backoff.succeeded()
                await self._pass_on(list(parser.feed(data)), parser, taker)
        return "it ended the stream"

    async def _pass_on(self, messages: list[Message], parser: SseParser, taker: Taker) -> None:
        items: list[Item] = []
        for message in messages:
            if message.event == "status":
                try:
                    items.append(_received.decode(message.data))
                except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                    _log.warning("an event that is unknown here is passed over: %s", error)
            elif message.event == "gap":
                items.append(_decode_gap(message.data))
            elif message.event == "reset":
                # What came before it in the same piece is of the log that was.
                if items:
                    await taker.take(items, None)
                    items = []
                _log.warning("the gateway's log is another one, and is read from its beginning")
                await taker.reset()
            elif message.event == "error":
                _log.warning("the gateway ends the stream: %s", message.data.decode("utf-8", "replace"))
        await taker.take(items, parser.last_id)

    async def _refusal(self, response: aiohttp.ClientResponse) -> str:
        body = (await response.content.read(4_096)).decode("utf-8", "replace")
        return (
            f"the gateway at {self._base_url} answered {response.status}: {body}; set HUSKIES_TOKEN to a "
            "token that reads (`huskies token create chat --scope read`)"
        )

    # --- questions -----------------------------------------------------------------------------------

    async def board(self) -> Board:
        """Where everything stands; raises `GatewayUnreachableError` and `RefusedError`."""
        return await self._ask(PROJECTS_PATH, Board)

    async def heads(self) -> dict[Origin, int]:
        """How far the log holds each sequence; empty where this token may not know.

        Raises `GatewayUnreachableError`.
        """
        try:
            found = await self._ask(_DIGESTS_PATH, _Digests)
        except RefusedError:
            return {}
        return {(each.sled_id, each.epoch): each.last_seq for each in found.sequences}

    async def _ask(self, path: str, shape: type[_Answer]) -> _Answer:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_LIMIT)
        try:
            async with (
                self._session() as session,
                session.get(
                    self._base_url + path,
                    headers={"Accept": "application/json"},
                    ssl=self._trusted(),
                    timeout=timeout,
                    allow_redirects=False,
                ) as response,
            ):
                if response.status in _REFUSED:
                    raise RefusedError(await self._refusal(response))
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise GatewayUnreachableError(self._base_url, f"it answered {response.status}")
                return msgspec.json.decode(await response.read(), type=shape)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise GatewayUnreachableError(self._base_url, _in_words(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise GatewayUnreachableError(self._base_url, f"its answer is unknown here: {error}") from None

    def _trusted(self) -> Trust:
        """Whom to trust; raises `ConnectionError`: a certificate that is being renewed is there soon."""
        try:
            return self._trust()
        except ConfigError as error:
            raise ConnectionError(str(error)) from None

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_LIMIT, sock_read=_SILENCE_LIMIT),
            read_bufsize=_BATCH_BYTES,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def _decode_gap(data: bytes) -> Gap:
    try:
        return msgspec.json.decode(data, type=Gap)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Gap()


def _in_words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
