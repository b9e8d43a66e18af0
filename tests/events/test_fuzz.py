"""Whatever the bytes: an event, or `InvalidEventError`, and never anything else."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.events.model import (
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StatusEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
    StoryBlocked,
)

_text: Final = st.text(st.characters(codec="utf-8"), max_size=40)
_id: Final = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
_time: Final = st.integers(0, limits.TIMESTAMP_MS_MAX)
_moment: Final = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 - the zone comes from `timezones`
    datetime(2100, 1, 1),  # noqa: DTZ001 - see above
    timezones=st.sampled_from((UTC, timezone(timedelta(hours=-8)))),
)
relayed: Final[st.SearchStrategy[RelayedEvent]] = st.one_of(
    st.builds(
        StoredStageTransition,
        story_id=_id,
        story_name=_text,
        from_stage=_id,
        to_stage=_id,
        timestamp_ms=_time,
    ),
    st.builds(StoredMergeFailure, story_id=_id, story_name=_text, reason=_text, timestamp_ms=_time),
    st.builds(StoredStoryBlocked, story_id=_id, story_name=_text, reason=_text, timestamp_ms=_time),
    st.builds(RelayedRateLimitWarning, story_id=_id, story_name=_text, agent_name=_text, timestamp_ms=_time),
    st.builds(
        RelayedRateLimitHardBlock,
        story_id=_id,
        story_name=_text,
        agent_name=_text,
        reset_at=_moment,
        timestamp_ms=_time,
    ),
)
# JSON that has the shape of an event more often than chance would.
_scraps: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text | st.sampled_from(("story_blocked", "")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("type", "story_id", "story_name", "reason", "timestamp_ms", "to_stage")), inner
        )
    ),
    max_leaves=12,
)


def _spell(value: object) -> bytes:
    # The standard library's, which writes NaN, Infinity and lone surrogates too.
    return json.dumps(value).encode()


@given(relayed)
def test_an_event_survives_the_wire(event: RelayedEvent) -> None:
    assert codec.decode_relayed(codec.encode(event)) == event


@given(st.lists(relayed, max_size=5))
def test_a_batch_survives_the_wire_and_its_form_is_canonical(events: list[RelayedEvent]) -> None:
    data = codec.encode_batch(events)
    assert codec.decode_batch(data) == events
    # A reset time in another zone is the same moment; everything else is the same bytes.
    again = codec.encode_batch(codec.decode_batch(data))
    assert codec.decode_batch(again) == events


@given(st.text(st.characters(codec="utf-8"), max_size=30_000), st.integers(60, 2_000))
@settings(max_examples=50)
def test_a_shortened_text_is_never_longer_than_its_limit(text: str, limit: int) -> None:
    short = codec.shorten(text, limit)
    assert len(short) <= limit
    assert (short == text) == (len(text) <= limit)


@given(st.builds(StoryBlocked, story_id=_id, story_name=_text, reason=_text), _time)
def test_what_is_stored_may_be_relayed(event: StatusEvent, timestamp_ms: int) -> None:
    stored = codec.to_stored(event, timestamp_ms)
    assert codec.decode_v1(codec.encode(stored)) == stored


@given(st.binary(max_size=200) | _scraps.map(_spell))
def test_arbitrary_bytes_are_an_event_or_refused(data: bytes) -> None:
    for decode in (codec.decode_v1, codec.decode_status, codec.decode_relayed, codec.decode_batch):
        with suppress(InvalidEventError):
            decode(data)


@given(relayed, st.data())
def test_an_event_damaged_anywhere_is_an_event_or_refused(event: RelayedEvent, data: st.DataObject) -> None:
    whole = bytearray(codec.encode_batch([event]))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InvalidEventError):
        codec.decode_batch(bytes(whole))
    with suppress(InvalidEventError):
        codec.decode_v1(bytes(whole[1:-1]))
