"""What the notifier reads: events as the gateway streams them, and the board. Pure."""

from __future__ import annotations

import msgspec

from huskies.events.model import RelayedEvent
from huskies.protocol.vectors import Origin


class Received(msgspec.Struct, frozen=True, gc=False):
    """A `GatewayStatusEvent`."""

    cursor: str
    project: str
    sled_id: str
    epoch: str
    seq: int
    received_ms: int
    replayed: bool
    event: RelayedEvent

    @property
    def origin(self) -> Origin:
        """The sequence that it belongs to."""
        return self.sled_id, self.epoch

    @property
    def identity(self) -> str:
        """Its identity as one text."""
        return f"{self.sled_id}/{self.epoch}/{self.seq}"


class Gap(msgspec.Struct, frozen=True):
    """Events that the gateway keeps no more, or that are damaged there: positions in its log."""

    first: int | str = msgspec.field(name="from", default="?")
    last: int | str = msgspec.field(name="to", default="?")


class StoryOnBoard(msgspec.Struct, frozen=True):
    """A story of `GET /gateway/projects`, as far as it matters here."""

    story_id: str
    story_name: str = ""
    blocked: str | None = None
    blocked_since_ms: int | None = None
    merge_failure: str | None = None
    merge_failure_since_ms: int | None = None

    def held_up(self) -> dict[str, tuple[str, int | None]]:
        """Why and since when it is held up, by the kind of event that says so."""
        found = {
            "story_blocked": (self.blocked, self.blocked_since_ms),
            "merge_failure": (self.merge_failure, self.merge_failure_since_ms),
        }
        return {kind: (reason, since) for kind, (reason, since) in found.items() if reason is not None}


class ProjectOnBoard(msgspec.Struct, frozen=True):
    """A project of `GET /gateway/projects`."""

    name: str
    stories: list[StoryOnBoard] = []


class Board(msgspec.Struct, frozen=True):
    """The answer to `GET /gateway/projects`: where everything stands, as of the event at `cursor`."""

    projects: list[ProjectOnBoard]
    cursor: str
