"""Whether a sled that starts is still the one that its outbox belongs to (SPEC 3 and 5, rules 5 and 6). Pure.

A sled_id belongs to one project in one place. What was recorded before a project was renamed, moved or
copied may already have reached the gateway, its ack lost, or may reach it from another copy of this outbox;
sent under another identity it would be stored twice. So it is first delivered under the identity it was
recorded under, where the log holds it once, however many deliver it.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """A project's name and where it lies (its directory, absolute, links resolved)."""

    project: str
    place: str


class Step(Enum):
    """What is done about the identity at start."""

    KEEP = auto()
    # A new key and epoch at once: nothing waits for an ack.
    BEGIN_ANEW = auto()
    # The old key and epoch until what was recorded so far is acknowledged, then new ones.
    DRAIN_FIRST = auto()


def decide(recorded: Identity, found: Identity, *, same_directory: bool, unacked: int) -> Step:
    """Decides about an outbox `recorded` under one identity and `found` under another.

    `same_directory`: the two places are one directory under two names, such as a bind mount. `unacked`: how
    many events wait for an ack.
    """
    if recorded.project == found.project and (recorded.place == found.place or same_directory):
        return Step.KEEP
    return Step.DRAIN_FIRST if unacked else Step.BEGIN_ANEW
