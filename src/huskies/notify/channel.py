"""What a channel is: somewhere messages go, and how it says what became of one."""

from __future__ import annotations

from typing import Protocol

import msgspec

from huskies.errors import HuskiesError


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way to a channel.

    `delivery_id` (lower-case hex, 32 digits) is the same at each attempt, after restarts too, and no other
    message's. `text` reads well in a terminal; `html` says the same formatted, and is made of what is safe.
    `edits` is the remote id of a message that this one replaces, `thread` that of one that this belongs
    under; a channel that cannot do either sends an ordinary message. `about` are the identities
    (`SLED_ID/EPOCH/SEQ`) of the events it tells of. `queued_ms` is when it was decided on (Unix ms): no
    earlier message of this delivery can be older.
    """

    delivery_id: str
    subject: str
    text: str
    html: str
    queued_ms: int
    edits: str | None = None
    thread: str | None = None
    about: tuple[str, ...] = ()
    urgent: bool = False


class Receipt(msgspec.Struct, frozen=True):
    """The channel has the message; `remote_id` is its name there, empty where it gives none."""

    remote_id: str = ""


class DeliveryError(HuskiesError):
    """A message was not delivered: the channel did not take it, for certain.

    `retry_after` (s) is what the channel asked for. `permanent`: trying again would not help.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, permanent: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.permanent = permanent


class DoubtfulError(HuskiesError):
    """Nobody knows whether the channel took the message: the reply was lost, or never came."""


class Channel(Protocol):
    """Somewhere messages go. `name` is the rule table's; methods are called by one task at a time."""

    name: str
    # Whether `look_for` can find what was sent: then a doubtful delivery is settled by looking.
    can_look: bool

    async def send(self, message: Outgoing) -> Receipt:
        """Deliver it; raises `DeliveryError` or `DoubtfulError`."""

    async def look_for(self, message: Outgoing) -> Receipt | None:
        """What an earlier attempt left in the channel; None: certainly nothing. Raises `DeliveryError`."""

    async def close(self) -> None:
        """Let go of connections."""
