"""What `huskies chat` runs: the notifier with its channels, put together."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from huskies.cli.client import TOKEN_VARIABLE
from huskies.errors import ConfigError
from huskies.logs import register_secret
from huskies.notify.channel import Channel
from huskies.notify.channels.webhook import WebhookChannel
from huskies.notify.desk import Desk
from huskies.notify.lock import locked
from huskies.notify.notifier import Notifier
from huskies.notify.rules import Doubtful, Rules
from huskies.notify.settings import NOTIFY_FILE, ChannelSettings, load_settings
from huskies.notify.stream import EventSource
from huskies.tls import PIN_VARIABLE, Trust, pinned, trusted


class Chat:
    """`start`, then `wait`; `stop`. Raises `ConfigError` where a setting cannot be used."""

    def __init__(
        self, data_dir: Path, gateway_url: str, *, environ: Mapping[str, str], tls_ca: Path | None
    ) -> None:
        self._data_dir = data_dir
        self._gateway_url = gateway_url
        self._settings = load_settings(data_dir, environ)
        if not self._settings.channels:
            problem = "names no channel; define one as [channels.NAME], or name another --data-dir"
            raise ConfigError(str(data_dir / NOTIFY_FILE), problem)
        self._token = environ.get(TOKEN_VARIABLE, "").strip() or None
        if self._token is not None:
            register_secret(self._token)
        self._pin = environ.get(PIN_VARIABLE)
        self._tls_ca = tls_ca
        self._opened = AsyncExitStack()
        self._notifier: Notifier | None = None

    @property
    def channel_names(self) -> list[str]:
        """Where messages go."""
        return [channel.name for channel in self._settings.channels]

    async def start(self) -> None:
        """Begin; raises `ConfigError`."""
        self._trust()
        self._opened.enter_context(locked(self._data_dir))
        channels = {each.name: _channel(each) for each in self._settings.channels}
        desk = Desk(self._data_dir, Rules(self._settings.rules, zone=self._settings.zone), now_ms=_now_ms)
        source = EventSource(self._gateway_url, token=self._token, trust=self._trust, chance=random.random)
        doubtful: dict[str, Doubtful] = {each.name: _doubtful(each) for each in self._settings.channels}
        self._notifier = Notifier(desk, source, channels, doubtful=doubtful)
        self._opened.push_async_callback(self._notifier.stop)
        await self._notifier.start()

    async def wait(self) -> None:
        """Until it is stopped; raises what makes going on impossible."""
        assert self._notifier is not None, "start it first"  # noqa: S101 - a caller's mistake
        await self._notifier.wait()

    async def stop(self) -> None:
        """End it all."""
        await self._opened.aclose()

    def _trust(self) -> Trust | aiohttp.Fingerprint:
        if self._pin is not None:
            return aiohttp.Fingerprint(pinned(Path(self._pin)))
        return trusted(self._gateway_url, self._tls_ca)


def _channel(settings: ChannelSettings) -> Channel:
    if settings.webhook is not None:
        return WebhookChannel(settings.name, settings.webhook, settings.secrets, time.time)
    from huskies.notify.channels.apprise import AppriseChannel

    return AppriseChannel(settings.name, settings.apprise or "")


def _doubtful(settings: ChannelSettings) -> Doubtful:
    """A receiver of webhooks tells a repetition by its id; people would not."""
    return settings.doubtful or ("leave" if settings.webhook is None else "resend")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
