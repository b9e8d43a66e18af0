"""What `huskies chat` runs: the notifier with its channels, and the Matrix bot, put together."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from huskies.chat.settings import BOT_FILE, BotSettings, load_bot
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

if TYPE_CHECKING:
    from huskies.chat.bot import Bot


class Chat:
    """`start`, then `wait`; `stop`. Raises `ConfigError` where a setting cannot be used."""

    def __init__(
        self, data_dir: Path, gateway_url: str, *, environ: Mapping[str, str], tls_ca: Path | None
    ) -> None:
        self._data_dir = data_dir
        self._gateway_url = gateway_url
        self._bot_settings = load_bot(data_dir, environ) if (data_dir / BOT_FILE).exists() else None
        rooms = () if self._bot_settings is None else self._bot_settings.channel_names
        self._settings = load_settings(data_dir, environ, bot_channels=rooms)
        self.channel_names = [*rooms, *(channel.name for channel in self._settings.channels)]
        if self._bot_settings is None and not self.channel_names:
            problem = f"names no channel, and there is no {BOT_FILE}; define one as [channels.NAME]"
            raise ConfigError(str(data_dir / NOTIFY_FILE), problem)
        self._token = environ.get(TOKEN_VARIABLE, "").strip() or None
        if self._token is not None:
            register_secret(self._token)
        self._pin = environ.get(PIN_VARIABLE)
        self._tls_ca = tls_ca
        self._opened = AsyncExitStack()
        self._notifier: Notifier | None = None
        self._bot: Bot | None = None

    async def start(self) -> None:
        """Begin; raises `ConfigError`."""
        self._trust()
        self._opened.enter_context(locked(self._data_dir))
        channels = {each.name: _channel(each) for each in self._settings.channels}
        # What people are told in a room is changed there when it is over, and disturbs nobody again.
        editing = frozenset(() if self._bot_settings is None else self._bot_settings.channel_names)
        rules = Rules(self._settings.rules, zone=self._settings.zone, editing=editing)
        desk = Desk(self._data_dir, rules, now_ms=_now_ms)
        source = EventSource(self._gateway_url, token=self._token, trust=self._trust, chance=random.random)
        doubtful: dict[str, Doubtful] = {each.name: _doubtful(each) for each in self._settings.channels}
        if self._bot_settings is not None:
            self._bot = self._make_bot(self._bot_settings, desk)
            self._opened.push_async_callback(self._bot.stop)
            channels |= {channel.name: channel for channel in self._bot.channels}
        self._notifier = Notifier(desk, source, channels, doubtful=doubtful)
        self._opened.push_async_callback(self._notifier.stop)
        if self._bot is not None:
            await self._bot.start()
        await self._notifier.start()

    def _make_bot(self, settings: BotSettings, desk: Desk) -> Bot:
        from huskies.chat.bot import Bot
        from huskies.chat.gateway import GatewayClient

        trust = self._trust()
        gateway = GatewayClient(self._gateway_url, token=self._token, trust=trust)
        return Bot(settings, gateway=gateway, mutes=desk, data_dir=self._data_dir)

    async def wait(self) -> None:
        """Until it is stopped; raises what makes going on impossible."""
        parts = [part for part in (self._notifier, self._bot) if part is not None]
        waiting = [asyncio.create_task(part.wait()) for part in parts]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        for task in done:
            task.result()

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
