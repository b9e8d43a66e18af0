"""Strict JSON of events: what does not have the shape of SPEC 2 is refused, unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.events.model import (
    MergeFailure,
    RateLimitHardBlock,
    RateLimitWarning,
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StageTransition,
    StatusEvent,
    StoredEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
    StoryBlocked,
)
from huskies.events.words import problem_in_words

_encoder = msgspec.json.Encoder()
_status: msgspec.json.Decoder[StatusEvent] = msgspec.json.Decoder(StatusEvent)
_stored: msgspec.json.Decoder[StoredEvent] = msgspec.json.Decoder(StoredEvent)
_relayed: msgspec.json.Decoder[RelayedEvent] = msgspec.json.Decoder(RelayedEvent)
_batch = msgspec.json.Decoder(list[RelayedEvent])
_raw_batch = msgspec.json.Decoder(list[msgspec.Raw])

_T = TypeVar("_T")


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes | str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidEventError(problem_in_words(error)) from None


def encode(event: StatusEvent) -> bytes:
    """The event as one JSON object, its fields in the order of SPEC 2."""
    return _encoder.encode(event)


def encode_relayed(event: RelayedEvent) -> bytes:
    """One event in the canonical form."""
    return _encoder.encode(event)


def encode_batch(events: Sequence[RelayedEvent]) -> bytes:
    """The events as one JSON array: the canonical form, in which the log keeps and compares them."""
    return _encoder.encode(events)


def decode_status(data: bytes | str) -> StatusEvent:
    """One status event from JSON; raises `InvalidEventError`."""
    return _decode(_status, data)


def decode_relayed(data: bytes | str) -> RelayedEvent:
    """One event as v2 carries it, from JSON; raises `InvalidEventError`."""
    return _decode(_relayed, data)


def decode_batch(data: bytes | msgspec.Raw) -> list[RelayedEvent]:
    """A JSON array of events as v2 carries them; raises `InvalidEventError` naming the first bad one."""
    try:
        return _batch.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _first_invalid(data) or InvalidEventError(problem_in_words(error)) from None


def _first_invalid(data: bytes | msgspec.Raw) -> InvalidEventError | None:
    try:
        parts = _raw_batch.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    for index, part in enumerate(parts):
        try:
            _relayed.decode(part)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return InvalidEventError(problem_in_words(error), index)
    return None


def decode_v1(data: bytes | str) -> StoredEvent:
    """One stored event as an older sled sends it; a long name or reason is shortened, visibly.

    Raises `InvalidEventError`.
    """
    try:
        return _stored.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        first = InvalidEventError(problem_in_words(error))
    try:
        fields: Any = msgspec.json.decode(data)
        if isinstance(fields, dict):
            for key, limit in (("story_name", limits.STORY_NAME_MAX), ("reason", limits.REASON_MAX)):
                if isinstance(fields.get(key), str):
                    fields[key] = shorten(fields[key], limit)
        event: StoredEvent = msgspec.convert(fields, StoredEvent)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise first from None
    return event


def shorten(text: str, limit: int) -> str:
    """The text, at most `limit` characters long; where something was cut, its end says so."""
    if len(text) <= limit:
        return text
    mark = f"… (shortened from {len(text)} characters)"
    return text[: limit - len(mark)] + mark


def to_stored(event: StatusEvent, timestamp_ms: int) -> RelayedEvent:
    """The form of the event that leaves the sled, recorded at `timestamp_ms`; long texts are shortened.

    Raises `InvalidEventError` for a moment that lies beyond the calendar in UTC.
    """
    name = shorten(event.story_name, limits.STORY_NAME_MAX)
    match event:
        case StageTransition():
            return StoredStageTransition(
                story_id=event.story_id,
                story_name=name,
                from_stage=event.from_stage,
                to_stage=event.to_stage,
                timestamp_ms=timestamp_ms,
            )
        case MergeFailure():
            return StoredMergeFailure(
                story_id=event.story_id,
                story_name=name,
                reason=shorten(event.reason, limits.REASON_MAX),
                timestamp_ms=timestamp_ms,
            )
        case StoryBlocked():
            return StoredStoryBlocked(
                story_id=event.story_id,
                story_name=name,
                reason=shorten(event.reason, limits.REASON_MAX),
                timestamp_ms=timestamp_ms,
            )
        case RateLimitWarning():
            return RelayedRateLimitWarning(
                story_id=event.story_id,
                story_name=name,
                agent_name=event.agent_name,
                timestamp_ms=timestamp_ms,
            )
        case RateLimitHardBlock():
            return RelayedRateLimitHardBlock(
                story_id=event.story_id,
                story_name=name,
                agent_name=event.agent_name,
                reset_at=_in_utc(event.reset_at),
                timestamp_ms=timestamp_ms,
            )


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidEventError(
            f"reset_at: expected a time within the years 1 to 9999 in UTC, got {moment}"
        ) from None
