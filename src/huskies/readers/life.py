"""A story's whole life, worked out from its events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from huskies.readers.fleet import Received


class Spell(msgspec.Struct, frozen=True):
    """A time (Unix ms) during which something was so; None: from before what is known, or still so."""

    what: str
    from_ms: int | None
    to_ms: int | None = None

    def lasted(self, now_ms: int) -> int | None:
        """How long (ms); None where no one knows since when."""
        if self.from_ms is None:
            return None
        return max(0, (now_ms if self.to_ms is None else self.to_ms) - self.from_ms)


class Happening(msgspec.Struct, frozen=True):
    """One of the story's events."""

    at_ms: int
    received_ms: int
    replayed: bool
    event: dict[str, Any]


class Life(msgspec.Struct, frozen=True):
    """The stages in which the story stood, how it was held up, and its events, each the oldest first."""

    stages: list[Spell]
    blocked: list[Spell]
    merge_failures: list[Spell]
    events: list[Happening]

    def time_in_stages(self, now_ms: int) -> list[tuple[str, int | None]]:
        """How long (ms) it stood in each stage, all its times there together, in the order it came there."""
        total: dict[str, int | None] = {}
        for spell in self.stages:
            lasted, before = spell.lasted(now_ms), total.get(spell.what)
            total[spell.what] = before if lasted is None else (before or 0) + lasted
        return list(total.items())


def time_of(spells: Sequence[Spell], now_ms: int) -> int:
    """How long (ms) it was so, all the times together."""
    return sum(spell.lasted(now_ms) or 0 for spell in spells)


def life(received: Sequence[Received]) -> Life:
    """What these events of one story, in the order of the log, tell of it.

    They are taken in the order in which they happened: a sled that was cut off delivers late. One of a kind
    that is not known here, or that says no time, is kept and changes nothing.
    """
    events = sorted(
        (Happening(_at(each), each.received_ms, each.replayed, each.event) for each in received),
        key=lambda happening: happening.at_ms,
    )
    return Life(
        list(_stages(events)),
        list(_held_up(events, "story_blocked")),
        list(_held_up(events, "merge_failure")),
        events,
    )


def _at(received: Received) -> int:
    at_ms = received.event.get("timestamp_ms")
    return at_ms if isinstance(at_ms, int) else received.received_ms


def _stages(events: Sequence[Happening]) -> Iterator[Spell]:
    stood: Spell | None = None
    for happening in events:
        match happening.event:
            case {"type": "stage_transition", "from_stage": str(before), "to_stage": str(after)}:
                if stood is None:
                    stood = Spell(before, None)
                if after != stood.what:
                    yield msgspec.structs.replace(stood, to_ms=happening.at_ms)
                    stood = Spell(after, happening.at_ms)
            case _:
                pass
    if stood is not None:
        yield stood


def _held_up(events: Sequence[Happening], kind: str) -> Iterator[Spell]:
    """The times it was so: until it moved or went on, or until another reason was given."""
    held: Spell | None = None
    for happening in events:
        match happening.event:
            case {"type": "stage_transition"}:
                ends, begins = held, None
            case {"type": str(found), "reason": str(reason)} if found == kind:
                ends, begins = held, Spell(reason, happening.at_ms)
            case _:
                continue
        if ends is not None:
            yield msgspec.structs.replace(ends, to_ms=happening.at_ms)
        held = begins
    if held is not None:
        yield held
