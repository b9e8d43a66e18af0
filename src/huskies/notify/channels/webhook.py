"""Signed webhooks: the headers of Standard Webhooks around a CloudEvent.

The delivery's id is the webhook's id at each attempt, so that a receiver can tell a repetition from news.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from huskies.errors import ConfigError
from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing, Receipt
from huskies.sockets import clean

EVENT_TYPE: Final = "dev.huskies.notification"
_SOURCE: Final = "/gateway/notifications"
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = (24, 64)
_CONNECT_LIMIT: Final = 5.0
_LIMIT: Final = 15.0
_TOLD_BYTES: Final = 300
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_GONE: Final = 410


def check_url(url: str, where: str) -> None:
    """Raises `ConfigError`, without the URL: it may be secret."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ConfigError(where, "expected an http or https URL with a host")


def parse_secret(text: str, where: str) -> bytes:
    """The key in `whsec_` and base64; raises `ConfigError`, without it."""
    least, most = _SECRET_BYTES
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(_PREFIX) or not least <= len(key) <= most:
        raise ConfigError(
            where, f"expected {_PREFIX} and {least} to {most} bytes in base64, one secret a line"
        )
    return key


def signatures(secrets: tuple[bytes, ...], delivery_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret."""
    text = b"%b.%d.%b" % (delivery_id.encode(), timestamp, body)
    made = (hmac.digest(secret, text, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)


def cloud_event(message: Outgoing) -> bytes:
    """The body: a CloudEvent in structured JSON. What may be absent is left out."""
    data: dict[str, Any] = {
        "subject": message.subject,
        "text": message.text,
        "about": message.about,
        "urgent": message.urgent,
    }
    if message.edits is not None:
        data["replaces"] = message.edits
    if message.thread is not None:
        data["thread"] = message.thread
    queued = datetime.fromtimestamp(message.queued_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": message.delivery_id,
            "source": _SOURCE,
            "type": EVENT_TYPE,
            "time": queued.replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": data,
        }
    )


class WebhookChannel:
    """Posts to one URL; `now` is the wall clock in Unix seconds."""

    # A receiver tells a repetition by its id: there is nothing to look for, and no need to.
    can_look = False

    def __init__(self, name: str, url: str, secrets: tuple[bytes, ...], now: Callable[[], float]) -> None:
        self.name = name
        self._url = url
        self._secrets = secrets
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Outgoing) -> Receipt:
        """Post it; raises `DeliveryError` or `DoubtfulError`."""
        body, timestamp = cloud_event(message), int(self._now())
        headers = {
            "Content-Type": "application/cloudevents+json",
            "webhook-id": message.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self._secrets, message.delivery_id, timestamp, body),
        }
        try:
            async with self._opened().post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status in _OK:
                    return Receipt(message.delivery_id)
                raise await self._refusal(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise DeliveryError(f"the connection failed: {_in_words(error)}") from None
        except aiohttp.InvalidURL:
            raise DeliveryError("the URL cannot be used", permanent=True) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise DoubtfulError(f"no answer came: {_in_words(error)}") from None

    async def look_for(self, message: Outgoing) -> Receipt | None:
        """Not to be had."""
        raise DeliveryError(f"{self.name} cannot be asked for {message.delivery_id}")

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = aiohttp.ClientTimeout(total=_LIMIT, sock_connect=_CONNECT_LIMIT)
            self._session = aiohttp.ClientSession(timeout=limits, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse) -> DeliveryError:
        told = clean((await response.content.read(_TOLD_BYTES)).decode("utf-8", "replace"))
        problem = f"HTTP {response.status}" + (f": {told}" if told else "")
        if response.status in _REDIRECTS:
            return DeliveryError(f"{problem}; the URL is another one now", permanent=True)
        wait = _seconds(response.headers.get("Retry-After"), self._now())
        return DeliveryError(problem, retry_after=wait, permanent=response.status == _GONE)


def _seconds(text: str | None, now: float) -> float | None:
    """What `Retry-After` says, in seconds from now; None where it says nothing that makes sense."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _in_words(error: Exception) -> str:
    """What went wrong, without the host: the URL may be secret."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
