"""The Matrix bot: reads on where it stopped, takes commands, and has them answered."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from filelock import FileLock, Timeout
from nio import ProfileGetDisplayNameResponse, SyncResponse

from huskies.chat.account import directory_of
from huskies.chat.answering import Answers
from huskies.chat.asking import HomeserverError, LoggedOutError
from huskies.chat.channel import MatrixChannel
from huskies.chat.conversation import Conversation
from huskies.chat.gateway import GatewayClient
from huskies.chat.inbox import Inbox
from huskies.chat.joining import Joining
from huskies.chat.mutes import Mutes
from huskies.chat.session import NOT_CONNECTED, Session, UnreadableError
from huskies.chat.settings import BOT_FILE, BotSettings
from huskies.chat.store import CommandStore, Taken
from huskies.errors import ConfigError, HuskiesError, StoreError
from huskies.protocol.backoff import Backoff

_LOCK: Final = "lock"
_STORE: Final = "bot.db"
# After a login that was refused (s): when it is tried again, and how often one looks for another secret.
_LOG_IN_AGAIN: Final = 300.0
_LOOK_AGAIN: Final = 2.0

_log = logging.getLogger("huskies.chat")


class Bot:
    """One account in its rooms; `start` returns once it runs, `wait` raises what makes going on impossible.

    A homeserver that cannot be reached is waited for, and so is one that refuses the login: until then its
    channels do not deliver, and nobody else is held up. `reread` gives the settings as they are now, and
    raises `ConfigError`; by it a new secret is found. The gateway's client is closed with the bot.
    """

    def __init__(
        self,
        settings: BotSettings,
        *,
        gateway: GatewayClient,
        mutes: Mutes,
        data_dir: Path,
        reread: Callable[[], BotSettings] | None = None,
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._gateway = gateway
        self._data_dir = data_dir
        self._lock = FileLock(directory_of(data_dir) / _LOCK)
        self._session = Session(settings, data_dir)
        self._store = CommandStore(
            directory_of(data_dir) / _STORE, f"{settings.homeserver} {settings.username}"
        )
        self._shown_name: str | None = None
        self._failure: asyncio.Future[None] | None = None
        self._conversation = Conversation(
            self._session, self._store, Answers(gateway, mutes, self.names), self._failed
        )
        self._inbox = Inbox(
            settings, self._session, self.names, self._conversation.is_asked, self._store.waiting()
        )
        self._joining = Joining(self._session, self._store.settled, self._failed)
        self._running: asyncio.Task[None] | None = None
        self._is_logged_in = False
        # What is due once has not been done.
        self._is_first = True
        self._told = False
        # Why the login was refused, so that it is said once.
        self._refusal = ""

    @property
    def channels(self) -> list[MatrixChannel]:
        """One for each of `room_ids`, in their order."""
        rooms = zip(self._settings.channel_names, self._settings.room_ids, strict=True)
        return [MatrixChannel(name, room_id, self._session) for name, room_id in rooms]

    @property
    def channel(self) -> MatrixChannel | None:
        """The one of the first room; None where `room_ids` is empty."""
        return next(iter(self.channels), None)

    def names(self) -> list[str]:
        """What the bot is called, the best name first."""
        local_part = self._settings.username.removeprefix("@").partition(":")[0]
        names = (self._settings.name, self._shown_name, local_part, self._session.user_id)
        return list(dict.fromkeys(name for name in names if name))

    async def start(self) -> None:
        """Begin to log in and to read; raises `ConfigError` where another process runs this bot.

        Whether it raises or not, `stop` is to follow.
        """
        self._hold()
        self._failure = asyncio.get_running_loop().create_future()
        # What it warns of is said here in other words, or is tried again.
        logging.getLogger("nio").setLevel(logging.CRITICAL)
        if not self._settings.allowed_users:
            _log.warning("allowed_users in %s is empty: the bot answers nobody", BOT_FILE)
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._ended)

    async def wait(self) -> None:
        """Return when it was stopped; raises `HuskiesError`."""
        if self._failure is not None:
            await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """End it; commands that have no answer yet get one at the next start."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._joining.stop()
        await self._conversation.stop()
        await self._session.close()
        await self._gateway.close()
        self._store.close()
        self._lock.release()
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(None)

    def _hold(self) -> None:
        """See to it that no other process is the same device; raises `ConfigError`."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            problem = "another process runs this bot; stop that one, or name another --data-dir"
            raise ConfigError(str(directory_of(self._data_dir)), problem) from None

    # --- reading -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        since, backoff = self._store.token(), Backoff()
        while True:
            pause = backoff.next_delay(random.random())  # noqa: S311 - spreads load
            try:
                since = await self._read_on(since)
            except UnreadableError as error:
                _log.exception("the homeserver at %s: %s", self._settings.homeserver, error)
                self._store.take(error.next_batch, [])
                since = error.next_batch
            except LoggedOutError as error:
                self._tell(error)
                self._session.forget_token()
                self._is_logged_in, self._is_first = False, True
            except ConfigError as error:
                await self._wait_for_another_secret(error)
                continue
            except HomeserverError as error:
                self._tell(error)
                pause = max(pause, error.retry_after or 0)
            else:
                backoff.succeeded()
                if self._told:
                    self._told = False
                    _log.info("the homeserver at %s answers again", self._settings.homeserver)
                continue
            await asyncio.sleep(pause)

    async def _read_on(self, since: str | None) -> str:
        """Read what is new since then, and have it answered; how far that is."""
        if not self._is_logged_in:
            await self._log_in()
        answer = await self._session.sync(since)
        taken = await self._take(answer, since)
        if self._is_first:
            self._settle_in()
            taken = self._store.unanswered()
        for each in taken:
            self._conversation.begin(each, self._inbox)
        self._is_first = False
        return str(answer.next_batch)

    async def _log_in(self) -> None:
        await self._session.log_in()
        client = self._session.client
        shown = await self._session.ask(
            client.get_displayname(), ProfileGetDisplayNameResponse, "the bot's name"
        )
        self._shown_name = shown.displayname
        self._is_logged_in, self._refusal, self._session.absence = True, "", NOT_CONNECTED
        _log.info("logged in as %s", self._session.user_id, extra={"device": client.device_id})

    async def _wait_for_another_secret(self, error: ConfigError) -> None:
        """Wait until it may help to log in again: for a secret that is another one, or a while.

        Raises `HuskiesError` where more has changed: with that whoever runs the bot begins anew.
        """
        level = logging.DEBUG if self._refusal == str(error) else logging.ERROR
        self._refusal, self._told = str(error), True
        self._session.absence = f"the bot is not logged in: {error}"
        advice = "no room is told anything until it is; tried again once its secret changes, and every"
        _log.log(level, "%s; %s %g min", self._session.absence, advice, _LOG_IN_AGAIN / 60)
        loop = asyncio.get_running_loop()
        until = loop.time() + _LOG_IN_AGAIN
        while loop.time() < until:
            await asyncio.sleep(_LOOK_AGAIN)
            if (found := self._settings_now()) != self._settings:
                if _without_secrets(found) != _without_secrets(self._settings):
                    raise HuskiesError(f"{BOT_FILE} has changed; it is read at the next start")
                self._settings = found
                await self._session.use(found)
                return

    def _settings_now(self) -> BotSettings:
        if self._reread is None:
            return self._settings
        try:
            return self._reread()
        except ConfigError:
            # Someone is at it.
            return self._settings

    async def _take(self, answer: SyncResponse, since: str | None) -> list[Taken]:
        """The commands in what came; only now it is read, so that whoever ended before sees it again."""
        invited = self._inbox.invitations_in(answer)
        if since is None:
            # Whatever was said before the bot was there for the first time is not meant for it.
            taken = self._store.take(answer.next_batch, [], invited=invited)
        else:
            read = await self._inbox.read(answer, since)
            taken = self._store.take(answer.next_batch, read.commands, read.to_keep(), invited)
            self._inbox.took(read)
        for room_id in answer.rooms.leave:
            self._joining.give_up(room_id)
        for room_id in invited:
            self._joining.begin(room_id)
        return taken

    def _settle_in(self) -> None:
        """What is due once, when it is known which rooms there are."""
        for room_id in (*self._settings.room_ids, *self._store.invited()):
            if room_id not in self._session.client.rooms:
                self._joining.begin(room_id)
            else:
                self._store.settled(room_id)

    def _tell(self, error: Exception) -> None:
        """Say once that the homeserver does not do what it should."""
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        _log.log(level, "the homeserver at %s: %s; trying again", self._settings.homeserver, error)

    # --- ending ------------------------------------------------------------------------------------

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.Error):
            error = StoreError(f"{directory_of(self._data_dir) / _STORE} cannot be written: {error}")
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)


def _without_secrets(settings: BotSettings) -> BotSettings:
    return msgspec.structs.replace(settings, password=None, access_token=None)
