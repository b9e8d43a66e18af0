"""The bot's session with its homeserver: logging in as the same device, and reading on.

One attempt each: whoever calls decides when to try again, and knows what a failure means for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from nio import (
    AsyncClient,
    AsyncClientConfig,
    EncryptionError,
    LoginResponse,
    MegolmEvent,
    RoomMessagesResponse,
    SyncResponse,
    WhoamiResponse,
)
from nio.store import SqliteStore

from huskies.chat import account
from huskies.chat.asking import REQUEST_LIMIT, HomeserverError, LoggedOutError, ask
from huskies.chat.keys import Keys
from huskies.chat.settings import BOT_FILE, BotSettings
from huskies.errors import ConfigError, HuskiesError
from huskies.logs import register_secret
from huskies.readers.times import now_ms
from huskies.sockets import clean

# How long the homeserver holds a request for news, and how much longer its answer may take.
SYNC_HELD_MS: Final = 30_000
_SYNC_LIMIT: Final = 45.0
# The first answer tells of every member of every room.
_FIRST_SYNC_LIMIT: Final = 300.0
NOT_CONNECTED: Final = "the bot is not connected to its homeserver"
_STORE: Final = "keys.db"
_FILTER: Final[dict[str, Any]] = {
    "presence": {"types": []},
    "account_data": {"types": []},
    "room": {"ephemeral": {"types": []}, "account_data": {"types": []}, "timeline": {"limit": 50}},
}

_log = logging.getLogger("huskies.chat")
_Answer = TypeVar("_Answer")


class UnreadableError(HuskiesError):
    """What came could not be taken in, and would not be the next time; it ends at `next_batch`."""

    def __init__(self, next_batch: str, problem: str) -> None:
        super().__init__(f"what came could not be taken in, and is passed over: {problem}")
        self.next_batch = next_batch


class Page(NamedTuple):
    """Events, and where those before them begin."""

    events: list[Any]
    next: str | None


class Session:
    """One device of the bot's account. `log_in` comes first, then `sync`, and then the rest works."""

    def __init__(self, settings: BotSettings, data_dir: Path) -> None:
        self._settings = settings
        self._where = str(data_dir / BOT_FILE)
        self._directory = account.directory_of(data_dir)
        self._account = account.load(self._directory, settings)
        self._keys = Keys(settings)
        self.client = self._new_client()
        self.ready = False
        # Why it is not, where it is not.
        self.absence = NOT_CONNECTED
        # The homeserver's clock less this one's (ms): what is old is so by its time.
        self._ahead_ms = 0

    @property
    def user_id(self) -> str:
        """The bot's own id, once it is logged in."""
        return str(self.client.user_id)

    def now_ms(self) -> int:
        """Unix ms by the homeserver's clock, within a second."""
        return self.there(now_ms())

    def there(self, here_ms: int) -> int:
        """What the homeserver's clock showed when this one showed that (Unix ms)."""
        return here_ms + self._ahead_ms

    async def close(self) -> None:
        """Let go of connections and of the store."""
        self.ready = False
        await self.client.close()
        if self.client.store is not None:
            self.client.store.database.close()
            self.client.store = None

    # --- logging in --------------------------------------------------------------------------------

    async def log_in(self) -> None:
        """Be the same device as before; raises `ConfigError` where it is refused, and `HomeserverError`."""
        kept = self._account
        token = self._settings.access_token or kept.access_token
        if token is not None and await self._resume(token):
            return
        if self._settings.password is None:
            raise ConfigError(
                self._where, "the homeserver does not know this access token; give it a new one"
            )
        # Before the device is there: see `Account`.
        account.save(self._directory, kept)
        await self._replace_client()
        asking = self.client.login(self._settings.password, device_name="Huskies")
        try:
            answer = await self.ask(asking, LoginResponse, "the login")
        except HomeserverError as error:
            # A proxy whose homeserver is away says so without a code.
            if not (error.refused and error.code):
                raise
            raise ConfigError(self._where, f"{error}; check homeserver, username and password") from None
        # The homeserver forgets the keys of a device that was logged out; saying them again does no harm.
        self.client.olm.account.shared = False
        self._keep(answer.user_id, answer.device_id, answer.access_token)

    def forget_token(self) -> None:
        """The homeserver does not know the access token; the next login is by password."""
        self._account = msgspec.structs.replace(self._account, access_token=None)
        self.ready = False

    async def use(self, settings: BotSettings) -> None:
        """Log in with other secrets of the same account from now on."""
        self._settings = settings
        # A token may be another device's, whose keys are others.
        await self._replace_client()

    async def _resume(self, token: str) -> bool:
        """Go on with an access token; False where the homeserver does not know it."""
        self.client.access_token = token
        try:
            who = await self.ask(self.client.whoami(), WhoamiResponse, "the access token")
        except LoggedOutError:
            self.client.access_token = ""
            return False
        if who.device_id is None:
            raise ConfigError(self._where, "this access token belongs to no device; take one of a login")
        self.client.restore_login(who.user_id, who.device_id, token)
        self._keep(who.user_id, who.device_id, token)
        return True

    def _keep(self, user_id: str, device_id: str, token: str) -> None:
        register_secret(token)
        known = msgspec.structs.replace(
            self._account,
            user_id=user_id,
            device_id=device_id,
            access_token=None if self._settings.access_token else token,
        )
        if known != self._account:
            account.save(self._directory, known)
            self._account = known

    async def _replace_client(self) -> None:
        await self.close()
        self.client = self._new_client()

    def _new_client(self) -> AsyncClient:
        config = AsyncClientConfig(
            max_limit_exceeded=0,
            max_timeouts=0,
            request_timeout=REQUEST_LIMIT,
            store=SqliteStore,
            store_name=_STORE,
            encryption_enabled=True,
            pickle_key=self._account.store_key,
            # What was read is kept with the commands that it held, in one transaction.
            store_sync_tokens=False,
        )
        return AsyncClient(
            self._settings.homeserver,
            self._settings.username,
            device_id=self._account.device_id,
            store_path=str(self._directory),
            config=config,
            ssl=True,
        )

    # --- reading -----------------------------------------------------------------------------------

    async def sync(self, since: str | None) -> SyncResponse:
        """What is new since then, taken in.

        Raises `HomeserverError`, `LoggedOutError` and `UnreadableError`.
        """
        first = not self.ready
        asking = self.client.sync(
            timeout=0 if first else SYNC_HELD_MS, sync_filter=_FILTER, since=since, full_state=first
        )
        limit = _FIRST_SYNC_LIMIT if first else _SYNC_LIMIT
        try:
            answer = await self.ask(asking, SyncResponse, "what is new", limit=limit)
        except (HuskiesError, asyncio.CancelledError):
            raise
        except Exception as error:
            # Anyone in a room can send what the library does not expect; it must not stop the bot for good.
            if self.client.next_batch in ("", since):
                raise
            self.ready = True
            raise UnreadableError(
                self.client.next_batch, f"{type(error).__name__}: {clean(str(error))}"
            ) from error
        for room_id in answer.rooms.leave:
            self.client.rooms.pop(room_id, None)
        self._look_at_clock(answer)
        try:
            await self._keys.look_after(self.client)
        except HomeserverError as error:
            # What came is taken in; the keys are looked after again with what comes next.
            _log.debug("keys wait: %s", error)
        self.ready = True
        return answer

    async def page_before(self, room_id: str, start: str | None, end: str | None, count: int) -> Page:
        """Events of a room, the newest first, decrypted as far as there are keys; raises as `ask` does.

        `start` None: from the newest on; `end`: where to stop. `next` is None where there are no more.
        """
        asking = self.client.room_messages(room_id, start=start, end=end, limit=count)
        answer = await self.ask(asking, RoomMessagesResponse, "a page of a room")
        events = [self._readable(room_id, event) for event in answer.chunk]
        more = events and answer.end and answer.end != start
        return Page(events, answer.end if more else None)

    def _readable(self, room_id: str, event: Any) -> Any:  # noqa: ANN401 - nio has no types
        if not isinstance(event, MegolmEvent):
            return event
        event.room_id = room_id
        try:
            return self.client.decrypt_event(event)
        except EncryptionError:
            return event

    def _look_at_clock(self, answer: SyncResponse) -> None:
        transport = answer.transport_response
        date = "" if transport is None else transport.headers.get("Date", "")
        try:
            self._ahead_ms = int(parsedate_to_datetime(date).timestamp() * 1_000) - now_ms()
        except ValueError:
            self._ahead_ms = 0

    async def prepare(self, room_id: str) -> None:
        """See to it that every device that may read the room can; raises as `ask` does."""
        await self._keys.prepare(self.client, room_id)

    async def ask(
        self, asking: Awaitable[Any], shape: type[_Answer], what: str, limit: float = REQUEST_LIMIT
    ) -> _Answer:
        """The homeserver's answer; see `huskies.chat.asking.ask`."""
        return await ask(self.client, asking, shape, what, limit)
