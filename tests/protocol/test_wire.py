from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.events import codec
from huskies.events.model import StoredStoryBlocked
from huskies.protocol import wire

EVENT = StoredStoryBlocked(story_id="1_bug_x", reason="r", timestamp_ms=1)
KEY, EPOCH, SIGNATURE = "ab" * 32, "0123456789abcdef", "cd" * 64
HELLO = {
    "type": "hello", "project": "web-shop", "sled_id": KEY, "epoch": EPOCH, "last_seq": 41,
    "signature": SIGNATURE,
}  # fmt: skip
STORY = {"story_id": "1_bug_x", "story_name": "X", "stage": "3_qa", "blocked": None, "merge_failure": "no"}
FRAMES: list[tuple[wire.SledFrame | wire.GatewayFrame, str]] = [
    (
        wire.Challenge(gateway_id=KEY, nonce="n"),
        f'{{"type":"challenge","gateway_id":"{KEY}","nonce":"n"}}',
    ),
    (
        wire.Hello(project="web-shop", sled_id=KEY, epoch=EPOCH, last_seq=41, signature=SIGNATURE),
        (f'{{"type":"hello","project":"web-shop","sled_id":"{KEY}","epoch":"{EPOCH}","last_seq":41,'
        f'"signature":"{SIGNATURE}"}}'),
    ),
    (
        wire.Hello(
            project="p", sled_id=KEY, epoch=EPOCH, last_seq=0, signature=SIGNATURE,
            previous=[wire.PreviousEpoch(epoch=EPOCH, last_seq=29)],
        ),
        (f'{{"type":"hello","project":"p","sled_id":"{KEY}","epoch":"{EPOCH}","last_seq":0,'
        f'"signature":"{SIGNATURE}","previous":[{{"epoch":"{EPOCH}","last_seq":29}}]}}'),
    ),
    (
        wire.Hello(project="p", sled_id=KEY, epoch=EPOCH, last_seq=0, signature=SIGNATURE, copies=2),
        (f'{{"type":"hello","project":"p","sled_id":"{KEY}","epoch":"{EPOCH}","last_seq":0,'
        f'"signature":"{SIGNATURE}","copies":2}}'),
    ),
    (wire.Welcome(last_seq=37, max_in_flight=5000), '{"type":"welcome","last_seq":37,"max_in_flight":5000}'),
    (
        wire.Events(first_seq=36, events=[EVENT]),
        ('{"type":"events","first_seq":36,"events":[{"type":"story_blocked","story_id":"1_bug_x",'
        '"story_name":"","reason":"r","timestamp_ms":1}]}'),
    ),
    (wire.Ack(seq=41), '{"type":"ack","seq":41}'),
    (wire.Ack(seq=41, held=0), '{"type":"ack","seq":41,"held":0}'),
    (
        wire.Snapshot(
            seq=41, stories=[wire.SnapshotStory(story_id="1_bug_x", story_name="X", stage="3_qa")]
        ),
        ('{"type":"snapshot","seq":41,"stories":[{"story_id":"1_bug_x","story_name":"X","stage":"3_qa",'
        '"blocked":null,"merge_failure":null,"since_ms":null}]}'),
    ),
    (wire.Snapshot(seq=0, stories=[]), '{"type":"snapshot","seq":0,"stories":[]}'),
    (
        wire.Refused(code="gap", expected=38, reason="why"),
        '{"type":"refused","code":"gap","reason":"why","expected":38}',
    ),
    (
        wire.Refused(code="conflict", seq=5, reason="why"),
        '{"type":"refused","code":"conflict","reason":"why","seq":5}',
    ),
]  # fmt: skip
SLED_FRAMES = (wire.Hello, wire.Events, wire.Snapshot)


@pytest.mark.parametrize(("frame", "data"), FRAMES, ids=lambda value: type(value).__name__)
def test_a_frame_is_the_json_of_the_specification(
    frame: wire.SledFrame | wire.GatewayFrame, data: str
) -> None:
    assert wire.encode(frame).decode() == data
    decode = wire.decode_from_sled if isinstance(frame, SLED_FRAMES) else wire.decode_from_gateway
    assert decode(data.encode()) == frame


def test_events_that_are_json_already_make_the_same_frame() -> None:
    parts = [codec.encode(EVENT)] * 2
    assert wire.encode_events(36, parts) == wire.encode(wire.Events(first_seq=36, events=[EVENT, EVENT]))


def test_a_snapshot_without_the_optional_fields_is_read() -> None:
    frame = wire.decode_from_sled(b'{"type":"snapshot","seq":1,"stories":[{"story_id":"a","stage":"3_qa"}]}')
    assert frame == wire.Snapshot(seq=1, stories=[wire.SnapshotStory(story_id="a", stage="3_qa")])
    whole = {"type": "snapshot", "seq": 1, "stories": [STORY]}
    assert isinstance(wire.decode_from_sled(json.dumps(whole).encode()), wire.Snapshot)


def test_unknown_fields_are_ignored() -> None:
    assert wire.decode_from_gateway('{"type":"ack","seq":1,"more":[1]}') == wire.Ack(seq=1)
    assert isinstance(wire.decode_from_sled(json.dumps({**HELLO, "more": 1}).encode()), wire.Hello)


@pytest.mark.parametrize("epoch", ["0" * 16, "F" * 64, "0123456789abcdefA"])
def test_an_epoch_is_16_to_64_hex_digits(epoch: str) -> None:
    assert isinstance(wire.decode_from_sled(json.dumps({**HELLO, "epoch": epoch}).encode()), wire.Hello)


BAD_HELLOS: list[dict[str, Any]] = [
    {"epoch": "0" * 15}, {"epoch": "0" * 65}, {"epoch": "g" * 16}, {"epoch": "0" * 16 + "\n"},
    {"epoch": None},
    {"sled_id": "ab" * 31}, {"sled_id": "ab" * 33}, {"sled_id": "xy" * 32}, {"sled_id": KEY + "\n"},
    {"signature": "cd" * 63}, {"signature": "zz" * 64}, {"signature": SIGNATURE + "\n"},
    {"project": ""}, {"project": "a b"}, {"project": "x" * 65}, {"project": "shop\n"},
    {"last_seq": -1}, {"last_seq": 2**63}, {"last_seq": 1.0}, {"last_seq": True}, {"last_seq": "1"},
    {"copies": 0}, {"copies": limits.COPIES_MAX + 1}, {"copies": "2"}, {"copies": None},
    {"previous": [{"epoch": EPOCH}]}, {"previous": [{"epoch": "x", "last_seq": 1}]},
    {"previous": [{"epoch": EPOCH, "last_seq": -1}]}, {"previous": {}},
    {"previous": [{"epoch": EPOCH, "last_seq": 1}] * (limits.PREVIOUS_EPOCHS_MAX + 1)},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD_HELLOS, ids=lambda change: json.dumps(change)[:40])
def test_a_hello_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_from_sled(json.dumps({**HELLO, **change}).encode())


@pytest.mark.parametrize("field", [name for name in HELLO if name != "type"])
def test_a_hello_without_a_field_is_refused(field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        wire.decode_from_sled(json.dumps({k: v for k, v in HELLO.items() if k != field}).encode())


def test_a_batch_holds_one_to_a_thousand_events() -> None:
    part = codec.encode(EVENT)
    full = wire.decode_from_sled(wire.encode_events(1, [part] * 1_000))
    assert isinstance(full, wire.Events)
    assert len(full.events) == 1_000
    for parts in ([], [part] * 1_001):
        with pytest.raises(msgspec.ValidationError):
            wire.decode_from_sled(wire.encode_events(1, parts))


def test_seqs_count_from_one() -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_from_sled(wire.encode_events(0, [codec.encode(EVENT)]))


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_from_gateway('{"type":"welcome","last_seq":0,"max_in_flight":0}')


def test_each_side_refuses_the_frames_of_its_own() -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_from_sled(wire.encode(wire.Ack(seq=1)))
    with pytest.raises(msgspec.ValidationError):
        wire.decode_from_gateway(json.dumps(HELLO))


def test_the_signed_text_is_six_lines() -> None:
    text = wire.signed_text(gateway_id="g", nonce="n", project="p", sled_id="s", epoch="e")
    assert text == b"huskies.relay.v2\ng\nn\np\ns\ne"


def test_the_names_of_the_wire_are_these() -> None:
    assert (wire.TOKENS_PATH, wire.PUSH_PATH) == ("/gateway/tokens", "/gateway/events/push")
    assert wire.READY_PATH == "/readyz"
    assert (wire.EVENTS_PATH, wire.PROJECTS_PATH) == ("/gateway/events", "/gateway/projects")


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_frame_or_a_decode_error(data: bytes) -> None:
    for decode in (wire.decode_from_sled, wire.decode_from_gateway):
        try:
            decode(data)
        except (msgspec.DecodeError, UnicodeError):
            continue
