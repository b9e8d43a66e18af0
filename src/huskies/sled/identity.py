"""Whether a sled that starts is still the one that its outbox belongs to (SPEC 3 and 5, rules 5 and 6). Pure.

A sled_id belongs to one project in one place. What was recorded before a project was renamed or moved may
already have reached the gateway, its ack lost; sent again under a new identity it would be stored twice. So
it is first delivered under the old one.
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
    # A new key and epoch at once; what was never acknowledged belongs to the original.
    LEAVE_BEHIND = auto()
    # A new key and epoch at once, which carry over what was never acknowledged.
    CARRY_OVER = auto()
    # The old key and epoch until what was recorded so far is acknowledged, then new ones.
    DRAIN_FIRST = auto()


def decide(
    recorded: Identity,
    found: Identity,
    *,
    same_directory: bool,
    original_exists: bool,
    unacked: int,
    exposed: bool,
) -> Step:
    """Decides about an outbox `recorded` under one identity and `found` under another.

    `same_directory`: the two places are one directory under two names, such as a bind mount.
    `original_exists`: the recorded place still holds a sled with this key. `unacked`: how many events wait
    for an ack; `exposed`: whether any of them may have been sent.
    """
    if recorded.project == found.project and (recorded.place == found.place or same_directory):
        return Step.KEEP
    if recorded.place != found.place and not same_directory and original_exists:
        return Step.LEAVE_BEHIND
    return Step.DRAIN_FIRST if unacked and exposed else Step.CARRY_OVER
