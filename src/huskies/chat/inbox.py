"""What came in from the homeserver: which of it are commands that the bot obeys, and invitations."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from nio import (
    EncryptionError,
    Event,
    InviteMemberEvent,
    MegolmEvent,
    ReactionEvent,
    RoomMessageText,
    SyncResponse,
)

from huskies import limits
from huskies.chat import commands
from huskies.chat.content import is_edit, thread_of
from huskies.chat.session import Session
from huskies.chat.settings import BotSettings
from huskies.chat.store import Taken, Waiting
from huskies.sockets import clean

# Messages whose keys have not come yet, the newest.
_WAITING_MAX: Final = 200
# Who was named in the log, so that it is once.
_OUTSIDERS_MAX: Final = 1_000
_PAGE_EVENTS: Final = 100
_THUMBS_UP: Final = ("👍", "✅", "✔")
_THUMBS_DOWN: Final = ("👎", "❌")
_NAMES_IN_ROOM: Final = 2

_log = logging.getLogger("huskies.chat")


class Read(NamedTuple):
    """The commands in what came, and all that waits for its keys behind it, by event id, the oldest first."""

    commands: list[Taken]
    waiting: dict[str, MegolmEvent]

    def to_keep(self) -> list[Waiting]:
        """What waits, as it is stored."""
        return [
            Waiting(event_id=event_id, room_id=event.room_id, source=json.dumps(event.source))
            for event_id, event in self.waiting.items()
        ]


class Inbox:
    """Reads what `Session.sync` returns; `waiting` is what an earlier process left to be read.

    `is_asked` says whether the bot waits for someone's yes or no in a room, and, where a message is named,
    whether that may be the one with the question.
    """

    def __init__(
        self,
        settings: BotSettings,
        session: Session,
        names: Callable[[], list[str]],
        is_asked: Callable[[str, str, str | None], bool],
        waiting: Iterable[Waiting],
    ) -> None:
        self._settings = settings
        self._session = session
        self._names = names
        self._is_asked = is_asked
        self._waiting = {one.event_id: event for one in waiting if (event := _event_of(one)) is not None}
        self._outsiders: set[str] = set()

    def command_in(self, taken: Taken) -> commands.Command | None:
        """The command that was taken."""
        return commands.parse(taken.body, self._names(), is_direct=self.is_direct(taken.room_id))

    def is_direct(self, room_id: str) -> bool:
        """Whether the bot is there with one other alone."""
        room = self._session.client.rooms.get(room_id)
        return room is not None and len(room.users) == _NAMES_IN_ROOM

    async def read(self, answer: SyncResponse, since: str | None) -> Read:
        """Read what came since then; `took` follows once it is kept. Raises `HomeserverError`."""
        read = Read([], dict(self._waiting))
        self._read_waiting(read)
        for room_id, info in answer.rooms.join.items():
            events = info.timeline.events
            if info.timeline.limited and since is not None:
                events = [*await self._left_out(room_id, info.timeline.prev_batch, since), *events]
            for event in events:
                self._read(room_id, event, read)
        return read

    def took(self, read: Read) -> None:
        """What was read is kept: what waits is what did behind it."""
        self._waiting = read.waiting

    def invitations_in(self, answer: SyncResponse) -> list[str]:
        """The rooms into which someone asks the bot who may."""
        found = []
        for room_id, info in answer.rooms.invite.items():
            inviter = _inviter(info.invite_state, self._session.user_id)
            if inviter in self._settings.allowed_users or room_id in self._settings.room_ids:
                found.append(room_id)
            else:
                _log.warning("not joining %s: %s may not invite the bot", clean(room_id), clean(str(inviter)))
        return found

    async def _left_out(self, room_id: str, before: str | None, since: str) -> list[Any]:
        """What the homeserver left out of its answer, as far as it is young enough; the oldest first."""
        found: list[Any] = []
        oldest_ms = self._session.now_ms() - limits.COMMAND_AGE_MAX_MS
        while before is not None:
            page = await self._session.page_before(room_id, before, since, _PAGE_EVENTS)
            found += page.events
            young = page.events and getattr(page.events[-1], "server_timestamp", 0) >= oldest_ms
            before = page.next if young else None
        return found[::-1]

    def _read_waiting(self, read: Read) -> None:
        """Messages whose keys came after them."""
        for event_id, event in self._waiting.items():
            try:
                readable = self._session.client.decrypt_event(event)
            except EncryptionError:
                if self._is_old(event):
                    del read.waiting[event_id]
                    _log.warning(
                        "a message of %s in %s could not be read", clean(event.sender), clean(event.room_id)
                    )
                continue
            del read.waiting[event_id]
            self._read(event.room_id, readable, read)

    def _read(self, room_id: str, event: Any, read: Read) -> None:  # noqa: ANN401 - nio has no types
        try:
            read.commands.extend(self._taken(room_id, event, read))
        except Exception:  # noqa: BLE001 - whoever is in a room can send anything; it must not stop the bot
            _log.exception("an event in %s could not be read, and is passed over", clean(room_id))

    def _taken(self, room_id: str, event: Any, read: Read) -> Iterable[Taken]:  # noqa: ANN401 - see above
        if getattr(event, "sender", None) in (None, self._session.user_id) or self._is_old(event):
            return
        if isinstance(event, MegolmEvent):
            self._let_wait(room_id, event, read)
            return
        body = self._body(room_id, event)
        if body is None or not self._obeys(room_id, event):
            return
        yield Taken(
            event_id=event.event_id,
            room_id=room_id,
            sender=event.sender,
            body=body,
            thread=thread_of(event.source["content"]),
            sent_ms=event.server_timestamp,
            reacts_to=event.reacts_to if isinstance(event, ReactionEvent) else None,
        )

    def _let_wait(self, room_id: str, event: MegolmEvent, read: Read) -> None:
        if event.sender not in self._settings.allowed_users:
            return
        event.room_id = room_id
        read.waiting[event.event_id] = event
        while len(read.waiting) > _WAITING_MAX:
            del read.waiting[next(iter(read.waiting))]

    def _body(self, room_id: str, event: Any) -> str | None:  # noqa: ANN401 - see above
        """The text of a command; None where it is none."""
        if isinstance(event, ReactionEvent):
            # Clients may add what makes an emoji of a character.
            key = event.key.rstrip("\ufe0f")
            known = key in _THUMBS_UP or key in _THUMBS_DOWN
            if not known or not self._is_asked(room_id, event.sender, event.reacts_to):
                return None
            return "yes" if key in _THUMBS_UP else "no"
        if not isinstance(event, RoomMessageText) or is_edit(event.source["content"]):
            return None
        command = commands.parse(event.body, self._names(), is_direct=self.is_direct(room_id))
        if isinstance(command, commands.Answer) and not self.is_direct(room_id):
            return event.body if self._is_asked(room_id, event.sender, None) else None
        return None if command is None else event.body

    def _obeys(self, room_id: str, event: Any) -> bool:  # noqa: ANN401 - see above
        sender = event.sender
        if sender not in self._settings.allowed_users:
            if len(self._outsiders) >= _OUTSIDERS_MAX:
                self._outsiders.clear()
            if sender not in self._outsiders:
                self._outsiders.add(sender)
                _log.warning("%s in %s is not in allowed_users: not answered", clean(sender), clean(room_id))
            return False
        if self._settings.encrypt_to != "listed":
            return True
        if event.decrypted and not event.verified:
            _log.warning(
                "a command of %s came from a device that is not in devices: not answered", clean(sender)
            )
            return False
        if not event.decrypted and self._is_encrypted(room_id):
            # Whoever has an access token can say it, and the homeserver can without one.
            _log.warning(
                "a command of %s came unencrypted into %s, where all is encrypted: not answered",
                clean(sender),
                clean(room_id),
            )
            return False
        return True

    def hears_reactions(self, room_id: str) -> bool:
        """Whether a reaction counts there: clients encrypt none, so that of its device nothing is known."""
        return self._settings.encrypt_to != "listed" or not self._is_encrypted(room_id)

    def _is_encrypted(self, room_id: str) -> bool:
        room = self._session.client.rooms.get(room_id)
        # Of a room that the bot is not in any more the worst is assumed.
        return room is None or bool(room.encrypted)

    def _is_old(self, event: Any) -> bool:  # noqa: ANN401 - see above
        sent_ms = getattr(event, "server_timestamp", None)
        return not isinstance(sent_ms, int) or sent_ms < self._session.now_ms() - limits.COMMAND_AGE_MAX_MS


def _event_of(waiting: Waiting) -> MegolmEvent | None:
    event = Event.parse_encrypted_event(json.loads(waiting.source))
    if not isinstance(event, MegolmEvent):
        return None
    event.room_id = waiting.room_id
    return event


def _inviter(state: Iterable[Any], user_id: str) -> str | None:
    for event in state:
        if (
            isinstance(event, InviteMemberEvent)
            and event.state_key == user_id
            and event.membership == "invite"
        ):
            return str(event.sender)
    return None
