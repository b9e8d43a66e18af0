"""Whatever Apprise reaches: its library waits for networks, so it does in threads of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from enum import Enum, auto
from typing import Final

import apprise

from huskies.errors import ConfigError
from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing, Receipt
from huskies.notify.channels.watching import watched

_LIMIT: Final = 60.0
# Apprise's own are 4 s each: a service that takes the message and answers after five would be asked again.
_CONNECT_LIMIT: Final = 8.0
_READ_LIMIT: Final = 50.0

# Its lines may hold what is secret in a URL.
logging.getLogger("apprise").disabled = True


def check_url(url: str, where: str) -> None:
    """Raises `ConfigError`, without the URL: it holds secrets."""
    if not apprise.Apprise().add(url):
        raise ConfigError(where, "expected one URL that Apprise understands; what is there is none")


class _Outcome(Enum):
    TAKEN = auto()
    NOT_TAKEN = auto()
    UNKNOWN = auto()


class AppriseChannel:
    """One Apprise URL. Services give messages no names here: none is edited, and none can be looked for."""

    can_look = False

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._thread: threading.Thread | None = None

    async def send(self, message: Outgoing) -> Receipt:
        """Hand it over, in a thread; raises `DeliveryError` or `DoubtfulError`."""
        if self._thread is not None and self._thread.is_alive():
            # It cannot be ended; another one would be the next that hangs.
            raise DeliveryError("the message before is still under way")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[_Outcome] = loop.create_future()

        def work() -> None:
            loop.call_soon_threadsafe(_set, outcome, self._send(message))

        self._thread = threading.Thread(target=work, name=f"apprise {self.name}", daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(_LIMIT):
                found = await outcome
        except TimeoutError:
            raise DoubtfulError(f"it was not done within {_LIMIT:g} s") from None
        if found is _Outcome.NOT_TAKEN:
            raise DeliveryError("the service did not take it")
        if found is _Outcome.UNKNOWN:
            raise DoubtfulError("it failed after it may have been sent")
        return Receipt()

    def _send(self, message: Outgoing) -> _Outcome:
        with watched() as attempts:
            try:
                taken = self._notify(message)
            except Exception:  # noqa: BLE001 - plugins raise what they like; their texts may hold secrets
                taken = False
        if taken:
            return _Outcome.TAKEN
        return _Outcome.NOT_TAKEN if attempts.surely_nothing else _Outcome.UNKNOWN

    def _notify(self, message: Outgoing) -> bool:
        # In this thread alone, so that it can be watched.
        service = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False))
        service.add(self._url)
        for each in service:
            _be_patient(each)
        title, _, body = message.text.partition("\n")
        kind = apprise.NotifyType.WARNING if message.urgent else apprise.NotifyType.INFO
        return bool(
            service.notify(
                title=title if body else "",
                body=body or title,
                notify_type=kind,
                body_format=apprise.NotifyFormat.TEXT,
            )
        )

    async def look_for(self, message: Outgoing) -> Receipt | None:
        """Not to be had."""
        raise DeliveryError(f"{self.name} cannot be asked for {message.delivery_id}")

    async def close(self) -> None:
        """What is under way ends by itself, or with the process."""


def _be_patient(service: apprise.NotifyBase) -> None:
    """Wait for answers for as long as there is time, where the URL (`cto`, `rto`) does not say how long."""
    for name, limit in (("socket_connect_timeout", _CONNECT_LIMIT), ("socket_read_timeout", _READ_LIMIT)):
        usual = getattr(type(service), name)
        if getattr(service, name) == usual:
            setattr(service, name, max(usual, limit))


def _set(outcome: asyncio.Future[_Outcome], found: _Outcome) -> None:
    if not outcome.done():
        outcome.set_result(found)
