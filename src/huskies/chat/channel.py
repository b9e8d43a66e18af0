"""Matrix as a channel: a message gets into a room once, and what became of it can be found out."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
from nio import (
    ErrorResponse,
    GroupEncryptionError,
    LocalProtocolError,
    MegolmEvent,
    OlmUnverifiedDeviceError,
    RoomSendResponse,
)

from huskies.chat.asking import HomeserverError, LoggedOutError, is_closed, reason, status_of, words_of
from huskies.chat.content import DELIVERY_FIELD, TEXT, Content, content_of, transaction_id
from huskies.chat.formatted import Reply
from huskies.chat.session import Session
from huskies.errors import ConfigError
from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing, Receipt

_SERVER_FAILED: Final = 500
_LIMITED: Final = 429
# Whoever tries again gets the same: not allowed, no such room, too large.
_PERMANENT: Final = (400, 403, 404, 413)
_PAGE_EVENTS: Final = 100
# By how much the homeserver's clock may be behind what is known of it.
_CLOCK_MS: Final = 600_000


class MatrixChannel:
    """Notifications in one room; see `huskies.notify.channel.Channel`."""

    can_look = True

    def __init__(self, name: str, room_id: str, session: Session) -> None:
        self.name = name
        self.room_id = room_id
        self._session = session

    async def send(self, message: Outgoing) -> Receipt:
        """Deliver it; raises `DeliveryError` or `DoubtfulError`."""
        content = content_of(
            Reply(message.text, message.html),
            message.delivery_id,
            # What someone should see: clients are silent about notices.
            kind=TEXT,
            edits=message.edits,
            thread=message.thread,
        )
        event_id = await send(self._session, self.room_id, content)
        return _receipt(message, event_id)

    async def look_for(self, message: Outgoing) -> Receipt | None:
        """What an earlier attempt left in the room; None: certainly nothing. Raises `DeliveryError`."""
        event_id = await find(self._session, self.room_id, message.delivery_id, message.queued_ms)
        return None if event_id is None else _receipt(message, event_id)

    async def close(self) -> None:
        """The session is the bot's, and ends with it."""


def _receipt(message: Outgoing, event_id: str) -> Receipt:
    # An edit is no message of its own: the next edit names the same one again.
    return Receipt(message.edits or event_id)


async def send(session: Session, room_id: str, content: Content) -> str:
    """Put a message into a room; its event id. Raises `DeliveryError` or `DoubtfulError`.

    Attempts with one delivery id are one message, for as long as the homeserver knows them: a day.
    """
    if not session.ready:
        raise DeliveryError(session.absence)
    if room_id not in session.client.rooms:
        raise DeliveryError(f"the bot is not in room {room_id}; invite it there")
    try:
        await session.prepare(room_id)
    except (HomeserverError, LoggedOutError, ConfigError) as error:
        # Nothing of the message was sent yet.
        raise DeliveryError(str(error), retry_after=getattr(error, "retry_after", None)) from None
    try:
        answer = await session.client.room_send(
            room_id,
            "m.room.message",
            content,
            tx_id=transaction_id(content[DELIVERY_FIELD]),
            ignore_unverified_devices=True,
        )
    except aiohttp.ClientConnectorError as error:
        raise DeliveryError(f"the homeserver cannot be reached: {reason(error)}") from None
    except (LocalProtocolError, GroupEncryptionError, OlmUnverifiedDeviceError) as error:
        # What was prepared holds no more: the bot is logged out, or someone has joined.
        raise DeliveryError(f"the session changed: {reason(error)}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise DoubtfulError(f"no answer of the homeserver: {reason(error)}") from None
    except RuntimeError as error:
        if not is_closed(error):
            raise
        raise DoubtfulError("the connection was closed, to log in again") from None
    if isinstance(answer, RoomSendResponse):
        return str(answer.event_id)
    raise _refused(answer)


def _refused(answer: ErrorResponse) -> DeliveryError | DoubtfulError:
    status = status_of(answer)
    words = f"the homeserver answered {status}: {words_of(answer)}"
    if not status or status >= _SERVER_FAILED:
        # A proxy in front of it may say so of what it has passed on.
        return DoubtfulError(words)
    if status == _LIMITED:
        return DeliveryError(words, retry_after=(answer.retry_after_ms or 0) / 1_000 or None)
    return DeliveryError(words, permanent=status in _PERMANENT)


async def find(session: Session, room_id: str, delivery_id: str, since_ms: int) -> str | None:
    """The event of a delivery in a room, None where certainly there is none since then (Unix ms).

    Raises `DeliveryError`, also where a message of the bot's own cannot be read.
    """
    if not session.ready:
        raise DeliveryError(session.absence)
    oldest_ms = session.there(since_ms) - _CLOCK_MS
    start: str | None = None
    unread = reached = False
    while not reached:
        try:
            page = await session.page_before(room_id, start, None, _PAGE_EVENTS)
        except (HomeserverError, LoggedOutError) as error:
            raise DeliveryError(str(error), retry_after=getattr(error, "retry_after", None)) from None
        for event in page.events:
            reached = reached or getattr(event, "server_timestamp", oldest_ms) < oldest_ms
            if reached or getattr(event, "sender", None) != session.user_id:
                continue
            if _is(event, delivery_id):
                return str(event.event_id)
            unread = unread or isinstance(event, MegolmEvent)
        start = page.next
        reached = reached or start is None
    if unread:
        raise DeliveryError(
            f"the bot cannot read messages of its own in {room_id}: keys are lost", permanent=True
        )
    return None


def _is(event: Any, delivery_id: str) -> bool:  # noqa: ANN401 - nio has no types
    if getattr(event, "transaction_id", None) == transaction_id(delivery_id):
        return True
    content = event.source.get("content")
    return isinstance(content, dict) and content.get(DELIVERY_FIELD) == delivery_id
