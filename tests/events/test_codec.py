from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.events.model import (
    EVENT_TYPES,
    STORED_TYPES,
    MergeFailure,
    RateLimitHardBlock,
    RateLimitWarning,
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StageTransition,
    StatusEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
    StoryBlocked,
    event_type,
)

RESET_AT = datetime(2026, 1, 1, tzinfo=UTC)
COMMON = {"story_id": "42_story_login", "story_name": "Login", "timestamp_ms": 1}
# Every relayed kind, whole.
WHOLE: dict[str, dict[str, Any]] = {
    "stage_transition": {**COMMON, "from_stage": "2_current", "to_stage": "3_qa"},
    "merge_failure": {**COMMON, "reason": "conflict"},
    "story_blocked": {**COMMON, "reason": "conflict"},
    "rate_limit_warning": {**COMMON, "agent_name": "coder"},
    "rate_limit_hard_block": {**COMMON, "agent_name": "coder", "reset_at": "2026-01-01T00:00:00Z"},
}
# The JSON of SPEC 2, byte for byte.
SPELLED_OUT: list[tuple[RelayedEvent, bytes]] = [
    (
        StoredStageTransition(
            story_id="42_story_login", story_name="Login", from_stage="2_current", to_stage="3_qa",
            timestamp_ms=1700000000000,
        ),
        (b'{"type":"stage_transition","story_id":"42_story_login","story_name":"Login",'
        b'"from_stage":"2_current",'
        b'"to_stage":"3_qa","timestamp_ms":1700000000000}'),
    ),
    (
        StoredMergeFailure(
            story_id="42_story_login", reason="conflict in src/main.rs", timestamp_ms=1700000001000
        ),
        (b'{"type":"merge_failure","story_id":"42_story_login","story_name":"",'
        b'"reason":"conflict in src/main.rs","timestamp_ms":1700000001000}'),
    ),
    (
        StoredStoryBlocked(
            story_id="42_story_login", reason="retry limit exceeded", timestamp_ms=1700000002000
        ),
        (b'{"type":"story_blocked","story_id":"42_story_login","story_name":"",'
        b'"reason":"retry limit exceeded","timestamp_ms":1700000002000}'),
    ),
    (
        RelayedRateLimitHardBlock(
            story_id="42_story_login", story_name="Login", agent_name="coder", reset_at=RESET_AT,
            timestamp_ms=5
        ),
        (b'{"type":"rate_limit_hard_block","story_id":"42_story_login","story_name":"Login",'
        b'"agent_name":"coder","reset_at":"2026-01-01T00:00:00Z","timestamp_ms":5}'),
    ),
    (
        RelayedRateLimitWarning(
            story_id="42_story_login", story_name="Login", agent_name="coder", timestamp_ms=5
        ),
        (b'{"type":"rate_limit_warning","story_id":"42_story_login","story_name":"Login",'
        b'"agent_name":"coder","timestamp_ms":5}'),
    ),
]  # fmt: skip
NO_JSON = {
    "blank": b"  ",
    "words": b"hello",
    "cut short": b'{"type":"story_blocked"',
    "two values": b"{} {}",
    "invalid UTF-8": b'{"type":"story_blocked","story_id":"\xff","reason":"r","timestamp_ms":1}',
    "a surrogate as is": b'{"type":"story_blocked","story_id":"\xed\xa0\x80","reason":"","timestamp_ms":1}',
    "a lone high surrogate": b'{"type":"story_blocked","story_id":"\\ud800 x","reason":"","timestamp_ms":1}',
    "a lone low surrogate": b'{"type":"story_blocked","story_id":"\\udc00 x","reason":"","timestamp_ms":1}',
    "a byte order mark": b'\xef\xbb\xbf{"type":"story_blocked","story_id":"a","reason":"","timestamp_ms":1}',
    "nested deeply": b'{"type":"story_blocked","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"type":"story_blocked","story_id":"a","reason":"r","timestamp_ms":NaN}',
}
NO_OBJECT = [b"null", b"1", b"true", b'"story_blocked"', b"[]", b"{}", b'{"type":null}', b'{"type":3}']


def whole(kind: str, **changes: Any) -> bytes:
    return json.dumps({"type": kind, **WHOLE[kind], **changes}).encode()


def without(kind: str, field: str) -> bytes:
    return json.dumps({"type": kind, **{k: v for k, v in WHOLE[kind].items() if k != field}}).encode()


@pytest.mark.parametrize(("event", "data"), SPELLED_OUT, ids=lambda value: type(value).__name__)
def test_the_json_is_that_of_the_specification(event: RelayedEvent, data: bytes) -> None:
    assert codec.encode(event) == data
    assert codec.decode_relayed(data) == event
    assert codec.encode_batch([event, event]) == b"[" + data + b"," + data + b"]"


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_kind_decodes(kind: str) -> None:
    assert event_type(codec.decode_relayed(whole(kind))) == kind
    assert event_type(codec.decode_status(whole(kind))) == kind


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_a_missing_story_name_is_an_empty_one(kind: str) -> None:
    assert codec.decode_relayed(without(kind, "story_name")).story_name == ""


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in EVENT_TYPES for field in WHOLE[kind] if field != "story_name"],
)
def test_a_missing_field_is_refused_by_name(kind: str, field: str) -> None:
    with pytest.raises(InvalidEventError, match=field):
        codec.decode_relayed(without(kind, field))


REFUSALS = {
    b"": "not JSON: input data was truncated",
    b'{"type":"story_blocked","story_id":"s","reason":"r"} x': "not JSON: trailing characters (byte 54)",
    b'{"type":"story_blocked","story_id":"\xff","reason":"r"}': "not JSON: a text is not UTF-8",
    b"[]": "expected an object, got a list",
    b"{}": "type: is missing",
    b'{"type":"news"}': "type: unknown value 'news'",
    b'{"type":"story_blocked","story_id":"s"}': "reason: is missing",
    b'{"type":"story_blocked","story_id":3,"reason":"r"}': "story_id: expected a text, got a whole number",
    b'{"type":"story_blocked","story_id":"","reason":"r"}': "story_id: expected a text that is not empty",
    b'{"type":"story_blocked","story_id":"%b","reason":"r"}'
    % (b"x" * 257): "story_id: expected a text of at most 256 characters",
    b'{"type":"story_blocked","story_id":"s","reason":null}': "reason: expected a text, got null",
    b'{"type":"rate_limit_hard_block","story_id":"s","agent_name":"a","reset_at":"soon"}': (
        "reset_at: expected a time such as 2026-01-31T14:00:00Z"
    ),
    b'{"type":"rate_limit_hard_block","story_id":"s","agent_name":"a","reset_at":"2026-01-01T00:00:00"}': (
        "reset_at: expected a time with its zone, such as 2026-01-31T14:00:00Z"
    ),
}


@pytest.mark.parametrize(("data", "problem"), REFUSALS.items(), ids=REFUSALS.values())
def test_a_refusal_names_the_field_in_plain_words(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        codec.decode_status(data)
    assert refused.value.problem == problem


@pytest.mark.parametrize("value", [None, True, 7, 1.0, [], {}], ids=repr)
@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in EVENT_TYPES for field in WHOLE[kind] if field != "timestamp_ms"],
)
def test_a_text_that_is_none_is_refused(kind: str, field: str, value: object) -> None:
    with pytest.raises(InvalidEventError, match=field):
        codec.decode_relayed(whole(kind, **{field: value}))


@pytest.mark.parametrize(
    "value", [None, True, False, 1.0, 1.5, "1", [], -1, limits.TIMESTAMP_MS_MAX + 1, 2**64]
)
@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_a_time_that_is_no_whole_number_in_range_is_refused(kind: str, value: object) -> None:
    with pytest.raises(InvalidEventError, match="timestamp_ms"):
        codec.decode_relayed(whole(kind, timestamp_ms=value))


@pytest.mark.parametrize("value", [0, limits.TIMESTAMP_MS_MAX])
def test_the_first_and_the_last_moment_are_accepted(value: int) -> None:
    assert codec.decode_relayed(whole("story_blocked", timestamp_ms=value)).timestamp_ms == value


@pytest.mark.parametrize("kind", ["", "StageTransition", "stage-transition", "story_done", "STORY_BLOCKED"])
def test_an_unknown_type_is_refused(kind: str) -> None:
    data = json.dumps({**WHOLE["story_blocked"], "type": kind}).encode()
    for decode in (codec.decode_status, codec.decode_relayed, codec.decode_v1):
        with pytest.raises(InvalidEventError):
            decode(data)


@pytest.mark.parametrize("data", NO_OBJECT)
def test_what_is_no_tagged_object_is_refused(data: bytes) -> None:
    for decode in (codec.decode_status, codec.decode_relayed, codec.decode_v1):
        with pytest.raises(InvalidEventError):
            decode(data)


@pytest.mark.parametrize("data", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    for decode in (codec.decode_status, codec.decode_relayed, codec.decode_v1):
        with pytest.raises(InvalidEventError):
            decode(data)
    with pytest.raises(InvalidEventError):
        codec.decode_batch(b"[0," + data + b"]")


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_unknown_fields_are_ignored(kind: str) -> None:
    plain = codec.decode_relayed(whole(kind))
    assert codec.decode_relayed(whole(kind, colour="red", nested={"a": [1, None]})) == plain
    assert codec.decode_v1(whole("story_blocked", to_stage=7)) == codec.decode_v1(whole("story_blocked"))


@pytest.mark.parametrize("kind", STORED_TYPES)
def test_v1_takes_the_three_stored_kinds(kind: str) -> None:
    assert codec.decode_v1(whole(kind)) == codec.decode_relayed(whole(kind))


@pytest.mark.parametrize("kind", ["rate_limit_warning", "rate_limit_hard_block"])
def test_v1_takes_no_rate_limits(kind: str) -> None:
    with pytest.raises(InvalidEventError):
        codec.decode_v1(whole(kind))


LONG = [
    *((kind, "story_id", limits.STORY_ID_MAX) for kind in EVENT_TYPES),
    *((kind, "story_name", limits.STORY_NAME_MAX) for kind in EVENT_TYPES),
    ("story_blocked", "reason", limits.REASON_MAX),
    ("merge_failure", "reason", limits.REASON_MAX),
    ("stage_transition", "from_stage", limits.STAGE_MAX),
    ("stage_transition", "to_stage", limits.STAGE_MAX),
    ("rate_limit_warning", "agent_name", limits.AGENT_NAME_MAX),
    ("rate_limit_hard_block", "agent_name", limits.AGENT_NAME_MAX),
]


def test_the_limits_are_those_of_the_specification() -> None:
    assert (limits.STORY_ID_MAX, limits.STORY_NAME_MAX, limits.REASON_MAX) == (256, 1_024, 16_384)


@pytest.mark.parametrize(("kind", "field", "limit"), LONG)
def test_a_text_at_its_limit_is_accepted_and_one_beyond_refused(kind: str, field: str, limit: int) -> None:
    # Characters count, not bytes.
    longest = "é" * limit
    assert getattr(codec.decode_relayed(whole(kind, **{field: longest})), field) == longest
    with pytest.raises(InvalidEventError, match=field):
        codec.decode_relayed(whole(kind, **{field: longest + "é"}))


@pytest.mark.parametrize("field", ["story_id", "from_stage", "to_stage"])
def test_an_empty_id_or_stage_is_refused(field: str) -> None:
    with pytest.raises(InvalidEventError, match=field):
        codec.decode_relayed(whole("stage_transition", **{field: ""}))


@pytest.mark.parametrize(
    ("field", "limit"), [("story_name", limits.STORY_NAME_MAX), ("reason", limits.REASON_MAX)]
)
def test_v1_shortens_a_long_text_visibly_and_within_its_limit(field: str, limit: int) -> None:
    exact = codec.decode_v1(whole("story_blocked", **{field: "x" * limit}))
    assert getattr(exact, field) == "x" * limit
    event = codec.decode_v1(whole("story_blocked", **{field: "x" * (limit + 1)}))
    shortened = getattr(event, field)
    assert len(shortened) == limit
    assert shortened.startswith("x" * 900)
    assert shortened.endswith(f"… (shortened from {limit + 1} characters)")


def test_v1_shortens_both_texts_of_one_event() -> None:
    event = codec.decode_v1(whole("merge_failure", story_name="n" * 5_000, reason="r" * 50_000))
    assert isinstance(event, StoredMergeFailure)
    assert (len(event.story_name), len(event.reason)) == (limits.STORY_NAME_MAX, limits.REASON_MAX)


def test_v1_refuses_a_long_id_even_beside_a_long_name() -> None:
    with pytest.raises(InvalidEventError, match="story_id"):
        codec.decode_v1(whole("story_blocked", story_id="i" * 257, story_name="n" * 1_025))


def test_what_v1_shortened_is_valid_on_v2() -> None:
    event = codec.decode_v1(whole("story_blocked", reason="\U0001f43a" * 20_000))
    assert codec.decode_relayed(codec.encode(event)) == event


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_batch_names_its_first_invalid_event(bad: int) -> None:
    parts = [whole("story_blocked")] * 3
    parts[bad] = whole("story_blocked", reason=7)
    parts.append(b"{}")
    with pytest.raises(InvalidEventError) as caught:
        codec.decode_batch(b"[" + b",".join(parts) + b"]")
    assert caught.value.index == bad


def test_a_batch_that_is_no_list_is_refused() -> None:
    with pytest.raises(InvalidEventError):
        codec.decode_batch(whole("story_blocked"))


STATUS: list[tuple[StatusEvent, RelayedEvent]] = [
    (
        StageTransition(story_id="1_bug_x", story_name="X", from_stage="a", to_stage="b"),
        StoredStageTransition(
            story_id="1_bug_x", story_name="X", from_stage="a", to_stage="b", timestamp_ms=9
        ),
    ),
    (
        MergeFailure(story_id="1_bug_x", reason="r"),
        StoredMergeFailure(story_id="1_bug_x", reason="r", timestamp_ms=9),
    ),
    (
        StoryBlocked(story_id="1_bug_x", reason="r"),
        StoredStoryBlocked(story_id="1_bug_x", reason="r", timestamp_ms=9),
    ),
    (
        RateLimitWarning(story_id="1_bug_x", agent_name="coder"),
        RelayedRateLimitWarning(story_id="1_bug_x", agent_name="coder", timestamp_ms=9),
    ),
    (
        RateLimitHardBlock(story_id="1_bug_x", agent_name="coder", reset_at=RESET_AT),
        RelayedRateLimitHardBlock(story_id="1_bug_x", agent_name="coder", reset_at=RESET_AT, timestamp_ms=9),
    ),
]


@pytest.mark.parametrize(("event", "stored"), STATUS, ids=lambda value: type(value).__name__)
def test_an_event_is_stored_with_the_time_it_was_recorded(event: StatusEvent, stored: RelayedEvent) -> None:
    assert codec.to_stored(event, 9) == stored
    assert event_type(event) == event_type(stored)


@pytest.mark.parametrize("kind", [StoryBlocked, MergeFailure])
def test_long_texts_are_shortened_visibly_when_stored(kind: type[StoryBlocked | MergeFailure]) -> None:
    stored = codec.to_stored(kind(story_id="1_bug_x", story_name="n" * 2_000, reason="r" * 20_000), 9)
    assert isinstance(stored, StoredStoryBlocked | StoredMergeFailure)
    assert (len(stored.story_name), len(stored.reason)) == (limits.STORY_NAME_MAX, limits.REASON_MAX)
    assert stored.story_name.endswith("n… (shortened from 2000 characters)")
    assert stored.reason.endswith("r… (shortened from 20000 characters)")
    assert codec.decode_relayed(codec.encode(stored)) == stored


def test_a_reset_time_is_stored_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    event = RateLimitHardBlock(
        story_id="1_bug_x", agent_name="coder", reset_at=datetime(2026, 1, 1, 5, 30, tzinfo=east)
    )
    assert b'"reset_at":"2026-01-01T00:00:00Z"' in codec.encode(codec.to_stored(event, 9))


@pytest.mark.parametrize("value", ["2026-01-01T00:00:00", "tomorrow", "2026-13-01T00:00:00Z"])
def test_a_reset_time_without_a_zone_or_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidEventError, match="reset_at"):
        codec.decode_relayed(whole("rate_limit_hard_block", reset_at=value))


def test_events_cannot_be_changed() -> None:
    event = codec.decode_relayed(whole("story_blocked"))
    with pytest.raises(AttributeError, match="immutable"):
        event.story_id = "other"  # type: ignore[misc]
    assert msgspec.structs.replace(event, story_id="other").story_id == "other"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_moment_beyond_the_calendar_is_refused(moment: str) -> None:
    event = codec.decode_status(
        b'{"type":"rate_limit_hard_block","story_id":"a","agent_name":"b","reset_at":"%b"}' % moment.encode()
    )
    with pytest.raises(InvalidEventError, match="reset_at"):
        codec.to_stored(event, 1)
