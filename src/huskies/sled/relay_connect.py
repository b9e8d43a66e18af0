"""Reaching the gateway: a join token, then a WebSocket (SPEC 4 and 5); all it answers is bounded."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from huskies import limits
from huskies.errors import ConfigError, HuskiesError
from huskies.protocol import wire
from huskies.sockets import clean
from huskies.tls import Trust

_TOKEN_BODY_MAX: Final = 64 << 10
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_UNAUTHORIZED: Final = (401, 403)
_OK: Final = 200
_SCHEMES: Final = {
    "http": ("http", "ws"),
    "https": ("https", "wss"),
    "ws": ("http", "ws"),
    "wss": ("https", "wss"),
}


class AttemptError(HuskiesError):
    """An attempt to open a session failed; `unauthorized`: the gateway said that this sled may not."""

    def __init__(self, reason: str, *, unauthorized: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unauthorized = unauthorized


class _Answer(msgspec.Struct):
    token: str


class Connector:
    """Opens WebSockets to the gateway at `gateway_url`; `tls` says whom to trust (True: the system's).

    Raises `ConfigError` where that is no URL, or the sled token none that can be sent.
    """

    def __init__(self, gateway_url: str, sled_token: str | None, *, tls: Trust = True) -> None:
        self._http, self._ws = _bases(gateway_url)
        if sled_token is not None and not _TOKEN.fullmatch(sled_token):
            raise ConfigError("sled_token", "expected printable ASCII without spaces")
        self._sled_token = sled_token
        self._tls = tls
        self._in_query = False
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The gateway's URL in its one spelling, by which it is remembered."""
        return self._http

    async def connect(self, project: str) -> aiohttp.ClientWebSocketResponse:
        """An open WebSocket; its `protocol` says which version is spoken. Raises `AttemptError`.

        The token stands in a header, as long as that is accepted; after an upgrade that was not, the next
        attempt puts it the other way.
        """
        try:
            async with asyncio.timeout(limits.GREETING_LIMIT):
                token = await self._ask_token()
                return await self._upgrade(project, token)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise AttemptError(f"the gateway {what_happened(error)}") from None

    async def is_ready(self) -> bool:
        """Whether the gateway says that sleds may push; shows it no token."""
        try:
            async with (
                asyncio.timeout(limits.READY_LIMIT),
                self._client().get(URL(self._http + wire.READY_PATH), allow_redirects=False) as response,
            ):
                return response.status == _OK
        except (AttemptError, aiohttp.ClientError, OSError, ValueError):
            return False

    async def close(self) -> None:
        """Let go of what the connections share."""
        if self._session is not None:
            await self._session.close()

    async def _ask_token(self) -> str:
        headers = {} if self._sled_token is None else {"Authorization": f"Bearer {self._sled_token}"}
        url = URL(self._http + wire.TOKENS_PATH)
        async with self._client().post(url, headers=headers, allow_redirects=False) as response:
            if response.status != _OK:
                raise AttemptError(
                    f"the gateway refuses a join token (HTTP {response.status})",
                    unauthorized=response.status in _UNAUTHORIZED,
                )
            body = await read_bounded(response)
        try:
            token = msgspec.json.decode(body, type=_Answer).token
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise AttemptError("the gateway's answer holds no join token") from None
        if not _TOKEN.fullmatch(token):
            raise AttemptError("the gateway's join token is none that can be sent")
        return token

    async def _upgrade(self, project: str, token: str) -> aiohttp.ClientWebSocketResponse:
        in_query = self._in_query
        query = {"project": project, **({"token": token} if in_query else {})}
        headers = {} if in_query else {"Authorization": f"Bearer {token}"}
        try:
            return await self._client().ws_connect(
                URL(self._ws + wire.PUSH_PATH).with_query(query),
                headers=headers,
                protocols=(wire.SUBPROTOCOL,),
                # Pings and pongs come to the session: they show that the gateway lives.
                autoping=False,
                max_msg_size=limits.FRAME_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=limits.CLOSE_LIMIT),
            )
        except aiohttp.WSServerHandshakeError as error:
            self._in_query = not in_query
            # Conclusive only where the token stood as older gateways know it, too.
            raise AttemptError(
                f"the gateway refuses the connection (HTTP {error.status})",
                unauthorized=in_query and error.status in _UNAUTHORIZED,
            ) from None
        except (AttemptError, aiohttp.ClientError, OSError, asyncio.CancelledError):
            # Redirected, broken off or never answered: not accepted either. (The timeout cancels.)
            self._in_query = not in_query
            raise

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection that is used again may turn out dead, and aiohttp then repeats the request: a
                # join token would be sent twice.
                connector=aiohttp.TCPConnector(force_close=True, ssl=self._tls),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(_refuse_redirects,),
            )
        return self._session


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    # `ws_connect` would follow, and hand a join token to whomever the redirect names.
    response = await handler(request)
    if 300 <= response.status < 400:  # noqa: PLR2004 - HTTP's class of redirects
        response.close()
        raise AttemptError(f"the gateway redirects elsewhere (HTTP {response.status})")
    return response


def what_happened(error: Exception) -> str:
    """Why a request within `GREETING_LIMIT` failed, to stand behind "the gateway"; holds no secret."""
    match error:
        case TimeoutError():
            return f"did not answer within {limits.GREETING_LIMIT:.0f} s"
        case aiohttp.ClientConnectorCertificateError():
            return f"shows a certificate that is not trusted: {clean(str(error.certificate_error))}"
        case aiohttp.ClientConnectorError():
            return f"cannot be reached: {clean(str(error.os_error))}"
        case _:
            # Not its text: that may contain the URL, and with it the token.
            return f"answers what cannot be used ({type(error).__name__})"


async def read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body; raises `AttemptError` where it is larger than any answer ought to be."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _TOKEN_BODY_MAX:
            raise AttemptError(f"the gateway's answer is larger than {_TOKEN_BODY_MAX} bytes")
    return bytes(body)


def http_base(gateway_url: str) -> str:
    """The gateway's URL in its one spelling, by which it is remembered; raises `ConfigError`."""
    return _bases(gateway_url)[0]


def _bases(gateway_url: str) -> tuple[str, str]:
    expected = "expected a URL such as http://gateway:3000, without user and password"
    try:
        url = URL(gateway_url)
    except ValueError:
        raise ConfigError("gateway_url", expected) from None
    schemes = _SCHEMES.get(url.scheme)
    if schemes is None or not url.host or url.user or url.password:
        raise ConfigError("gateway_url", expected)
    base = url.with_query(None).with_fragment(None)
    http, ws = (str(base.with_scheme(scheme)).rstrip("/") for scheme in schemes)
    return http, ws
