"""What the sled takes from other programs: status events, checked before they are recorded."""

from __future__ import annotations

from typing import Final

import msgspec

from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.events.model import (
    STAGES,
    MergeFailure,
    StageTransition,
    StatusEvent,
    StoryBlocked,
)

_STORED_KINDS: Final = (StageTransition, MergeFailure, StoryBlocked)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event ready to be recorded: as local subscribers get it, and as it leaves the sled.

    `json` is the stored form; `stored` is false for the rate-limit kinds, which only v2 may carry.
    """

    event: StatusEvent
    json: bytes
    timestamp_ms: int
    stored: bool


def checked(event: StatusEvent) -> StatusEvent:
    """The event, plain (without what a stored form adds), if it has the shape of SPEC 2.

    Structs built in Python are not checked by their constructor. Raises `InvalidEventError`.
    """
    try:
        data = codec.encode(event)
    except (TypeError, ValueError, msgspec.EncodeError) as error:
        raise InvalidEventError(f"the event is no JSON: {error}") from None
    return parsed(data)


def parsed(data: bytes) -> StatusEvent:
    """The status event in this JSON; raises `InvalidEventError`."""
    event = codec.decode_status(data)
    if isinstance(event, StageTransition):
        for field, stage in (("from_stage", event.from_stage), ("to_stage", event.to_stage)):
            if stage not in STAGES:
                raise InvalidEventError(f"{field}: expected one of {', '.join(STAGES)}, got `{stage[:64]}`")
    return event


def entry_of(event: StatusEvent, timestamp_ms: int) -> Entry:
    """The checked event, as it is recorded at `timestamp_ms`; raises `InvalidEventError`."""
    plain = checked(event)
    json = codec.encode(codec.to_stored(plain, timestamp_ms))
    return Entry(event=plain, json=json, timestamp_ms=timestamp_ms, stored=isinstance(plain, _STORED_KINDS))


def entry_from(json: bytes) -> Entry:
    """The entry whose stored form this is; raises `InvalidEventError`."""
    return entry_of(parsed(json), codec.decode_relayed(json).timestamp_ms)
