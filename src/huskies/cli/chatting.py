"""What `huskies chat` runs: the notifier with its channels, and the Matrix bot, put together."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from huskies.chat.settings import BOT_FILE, BotSettings, load_bot
from huskies.cli.children import CHILD_VARIABLE
from huskies.cli.client import TOKEN_VARIABLE
from huskies.cli.runtime import until_one_ends
from huskies.errors import ConfigError
from huskies.limits import SHUTDOWN_LIMIT
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

_LAST_ONE_ENDS: Final = 2 * SHUTDOWN_LIMIT


class Chat:
    """`start`, then `wait`; `stop`. Raises `ConfigError` where a setting cannot be used."""

    def __init__(
        self,
        data_dir: Path,
        gateway_url: str,
        *,
        environ: Mapping[str, str],
        tls_ca: Path | None,
    ) -> None:
        self._data_dir = data_dir
        self._environ = environ
        self._gateway_url = gateway_url
        self._bot_settings = load_bot(data_dir, environ) if (data_dir / BOT_FILE).exists() else None
        self._rooms = () if self._bot_settings is None else self._bot_settings.channel_names
        self._settings = load_settings(data_dir, environ, default_channels=self._rooms)
        self.channel_names = (*self._rooms, *(channel.name for channel in self._settings.channels))
        if self._bot_settings is None and not self.channel_names:
            problem = f"names no channel, and there is no {BOT_FILE}; define one as [channels.NAME]"
            raise ConfigError(str(data_dir / NOTIFY_FILE), problem)
        self._token = environ.get(TOKEN_VARIABLE, "").strip() or None
        if self._token is not None:
            register_secret(self._token)
        self._pin = environ.get(PIN_VARIABLE)
        self._tls_ca = tls_ca
        # One that a gateway runs may come after one whose gateway was killed a moment ago.
        self._patience = _LAST_ONE_ENDS if environ.get(CHILD_VARIABLE) else 0.0
        self._opened = AsyncExitStack()
        self._running: list[Notifier | Bot] = []

    async def start(self) -> None:
        """Begin; raises `ConfigError`."""
        if self._pin is None:
            # What is wrong with a flag is noticed at once. A gateway's own certificate may be half renewed.
            self.trust()
        await self._opened.enter_async_context(locked(self._data_dir, self._patience))
        # What people are told in a room is changed there when it is over, and disturbs nobody again.
        rules = Rules(self._settings.rules, zone=self._settings.zone, editing=frozenset(self._rooms))
        desk = Desk(self._data_dir, rules, now_ms=_now_ms)
        channels = {each.name: _channel(each) for each in self._settings.channels}
        doubtful: dict[str, Doubtful] = {each.name: _doubtful(each) for each in self._settings.channels}
        if self._bot_settings is not None:
            bot = self._make_bot(self._bot_settings, desk)
            self._opened.push_async_callback(bot.stop)
            # It logs in by itself: a homeserver that hangs holds up nobody else.
            await bot.start()
            self._running.append(bot)
            channels.update({channel.name: channel for channel in bot.channels})
        source = EventSource(self._gateway_url, token=self._token, trust=self.trust, chance=random.random)
        notifier = Notifier(desk, source, channels, doubtful=doubtful)
        self._opened.push_async_callback(notifier.stop)
        self._running.append(notifier)
        await notifier.start()

    async def wait(self) -> None:
        """Until it is stopped; raises what makes going on impossible."""
        await until_one_ends(self._running)

    async def stop(self) -> None:
        """End it all, the notifier first: what it has to tell goes through the bot."""
        await self._opened.aclose()

    def _make_bot(self, settings: BotSettings, desk: Desk) -> Bot:
        from huskies.chat.bot import Bot
        from huskies.chat.gateway import GatewayClient

        gateway = GatewayClient(self._gateway_url, token=self._token, trust=self.trust)
        return Bot(
            settings, gateway=gateway, mutes=desk, data_dir=self._data_dir, reread=self._bot_settings_now
        )

    def _bot_settings_now(self) -> BotSettings:
        """Raises `ConfigError`."""
        found = load_bot(self._data_dir, self._environ)
        if self._environ.get(CHILD_VARIABLE) or self._bot_settings is None:
            return found
        # Of all else a change ends the process, and nobody would start this one again.
        return msgspec.structs.replace(
            self._bot_settings, password=found.password, access_token=found.access_token
        )

    def trust(self) -> Trust:
        """Whom to trust that the gateway is who it is; raises `ConfigError`."""
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
