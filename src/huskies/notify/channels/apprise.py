"""Whatever Apprise reaches: its library waits for networks, so it does in threads of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final

import apprise

from huskies.errors import ConfigError
from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing, Receipt

_LIMIT: Final = 60.0

# Its lines may hold what is secret in a URL.
logging.getLogger("apprise").disabled = True


def check_url(url: str, where: str) -> None:
    """Raises `ConfigError`, without the URL: it holds secrets."""
    if not apprise.Apprise().add(url):
        raise ConfigError(where, "expected one URL that Apprise understands; what is there is none")


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
        outcome: asyncio.Future[bool] = loop.create_future()

        def work() -> None:
            try:
                taken = self._notify(message)
            except Exception:  # noqa: BLE001 - plugins raise what they like; their texts may hold secrets
                taken = False
            loop.call_soon_threadsafe(_set, outcome, taken)

        self._thread = threading.Thread(target=work, name=f"apprise {self.name}", daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(_LIMIT):
                taken = await outcome
        except TimeoutError:
            raise DoubtfulError(f"it was not done within {_LIMIT:g} s") from None
        if not taken:
            raise DeliveryError("the service did not take it")
        return Receipt()

    def _notify(self, message: Outgoing) -> bool:
        service = apprise.Apprise()
        service.add(self._url)
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


def _set(outcome: asyncio.Future[bool], taken: bool) -> None:  # noqa: FBT001 - called by the event loop
    if not outcome.done():
        outcome.set_result(taken)
