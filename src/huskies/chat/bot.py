"""The Matrix bot: reads on where it stopped, takes commands, and has them answered."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from pathlib import Path
from typing import Final

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
from huskies.chat.session import Session, UnreadableError
from huskies.chat.settings import BOT_FILE, BotSettings
from huskies.chat.store import CommandStore, Taken
from huskies.errors import ConfigError, StoreError
from huskies.protocol.backoff import Backoff

_LOCK: Final = "lock"
_STORE: Final = "bot.db"

_log = logging.getLogger("huskies.chat")


class Bot:
    """One account in its rooms; `start` returns once it runs, `wait` raises what makes going on impossible.

    A homeserver that cannot be reached is waited for. The gateway's client is closed with the bot.
    """

    def __init__(
        self, settings: BotSettings, *, gateway: GatewayClient, mutes: Mutes, data_dir: Path
    ) -> None:
        self._settings = settings
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
        self._told = False

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
        """Log in, and begin to read; raises `ConfigError` where the login is refused.

        Whether it raises or not, `stop` is to follow.
        """
        self._hold()
        self._failure = asyncio.get_running_loop().create_future()
        # What it warns of is said here in other words, or is tried again.
        logging.getLogger("nio").setLevel(logging.CRITICAL)
        if not self._settings.allowed_users:
            _log.warning("allowed_users in %s is empty: the bot answers nobody", BOT_FILE)
        logged_in = False
        try:
            await self._log_in()
            logged_in = True
        except (HomeserverError, LoggedOutError) as error:
            self._tell(error)
        self._running = asyncio.create_task(self._run(logged_in=logged_in))
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

    async def _run(self, *, logged_in: bool) -> None:
        since = self._store.token()
        is_first = True
        backoff = Backoff()
        while True:
            pause = backoff.next_delay(random.random())  # noqa: S311 - spreads load
            try:
                if not logged_in:
                    await self._log_in()
                    logged_in = True
                answer = await self._session.sync(since)
                taken = await self._take(answer, since)
                if is_first:
                    self._settle_in()
                    taken = self._store.unanswered()
                for each in taken:
                    self._conversation.begin(each, self._inbox)
                since, is_first = answer.next_batch, False
            except UnreadableError as error:
                _log.exception("the homeserver at %s: %s", self._settings.homeserver, error)
                self._store.take(error.next_batch, [])
                since = error.next_batch
            except LoggedOutError as error:
                self._tell(error)
                self._session.forget_token()
                logged_in, is_first = False, True
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

    async def _log_in(self) -> None:
        await self._session.log_in()
        client = self._session.client
        shown = await self._session.ask(
            client.get_displayname(), ProfileGetDisplayNameResponse, "the bot's name"
        )
        self._shown_name = shown.displayname
        _log.info("logged in as %s", self._session.user_id, extra={"device": client.device_id})

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
