"""The gateway's side of SPEC 5, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from huskies import limits
from huskies.protocol.effects import Admit, Append, ApplySnapshot, AskOthers, End, GatewayEffect, Ping, Send
from huskies.protocol.gateway import Elsewhere, GatewaySession

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SLED_ID = KEY.public_key().public_bytes_raw().hex()
GATEWAY_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
GATEWAY_ID = GATEWAY_KEY.public_key().public_bytes_raw().hex()
EPOCH = "0123456789abcdef"
CHALLENGE_TEXT = f"huskies.relay.v2 challenge\n{GATEWAY_ID}\nfresh\nweb-shop".encode()
EVENT = {"type": "story_blocked", "story_id": "1_bug_x", "reason": "r", "timestamp_ms": 1}


def verify(key: str, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def started() -> GatewaySession:
    return GatewaySession(
        project="web-shop", gateway_id=GATEWAY_ID, nonce="fresh", verify=verify, sign=GATEWAY_KEY.sign, now=0
    )


def hello(last_seq: int = 0, /, **changes: Any) -> bytes:
    frame = {"project": "web-shop", "sled_id": SLED_ID, "epoch": EPOCH, "gateway_id": GATEWAY_ID, **changes}
    lines = ("huskies.relay.v2", frame.pop("gateway_id"), changes.get("nonce", "fresh"), frame["project"],
             frame["sled_id"], frame["epoch"])  # fmt: skip
    signature = KEY.sign("\n".join(lines).encode()).hex()
    return json.dumps({"type": "hello", "last_seq": last_seq, "signature": signature, **frame}).encode()


def opened(held: int = 0, last_seq: int = 0) -> GatewaySession:
    session = started()
    session.start()
    [admit] = session.receive(hello(last_seq), 0)
    assert isinstance(admit, Admit)
    session.admitted(held)
    return session


def batch(first_seq: int, *events: object) -> bytes:
    return json.dumps({"type": "events", "first_seq": first_seq, "events": events or (EVENT,)}).encode()


def frames(effects: Sequence[GatewayEffect]) -> list[dict[str, Any]]:
    return [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]


def refusal(effects: Sequence[GatewayEffect]) -> tuple[dict[str, Any], int]:
    """The last frame and the close code after it."""
    *_, end = effects
    assert isinstance(end, End)
    return frames(effects)[-1], end.close_code


# --- the greeting ------------------------------------------------------------------------------------


def test_the_gateway_speaks_first() -> None:
    [challenge] = frames(started().start())
    signature = challenge.pop("signature")
    assert challenge == {"type": "challenge", "gateway_id": GATEWAY_ID, "nonce": "fresh"}
    # The gateway proves that the name is its own, for this project and this connection.
    assert verify(GATEWAY_ID, bytes.fromhex(signature), CHALLENGE_TEXT)
    assert not verify(GATEWAY_ID, bytes.fromhex(signature), CHALLENGE_TEXT + b"x")


def test_a_sled_is_welcomed_with_what_is_held() -> None:
    session = started()
    session.receive(hello(41), 0)
    [welcome] = frames(session.admitted(37))
    assert welcome == {"type": "welcome", "last_seq": 37, "max_in_flight": limits.MAX_IN_FLIGHT}


def test_a_sled_is_admitted_once() -> None:
    session = opened()
    assert session.admitted(5) == []
    assert session.committed_seq == 0


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "00" * 64},
        {"nonce": "another"},
        {"gateway_id": "cd" * 32},
        {"sled_id": Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw().hex()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_that_does_not_hold_is_unauthorized(change: dict[str, str]) -> None:
    frame, code = refusal(started().receive(hello(**change), 0))
    assert (frame["code"], code) == ("unauthorized", 1008)


@pytest.mark.parametrize("field", ["project", "epoch"])
def test_a_signature_over_something_else_is_unauthorized(field: str) -> None:
    other = {"project": "web-shop", "epoch": "f" * 16}
    signed = json.loads(hello(**({"epoch": "e" * 16} if field == "epoch" else {"project": "web-shop2"})))
    signed[field] = other[field]
    frame, _ = refusal(started().receive(json.dumps(signed).encode(), 0))
    assert frame["code"] == "unauthorized"


def test_a_hello_of_another_project_is_unauthorized() -> None:
    frame, code = refusal(started().receive(hello(project="another"), 0))
    assert (frame["code"], code) == ("unauthorized", 1008)


@pytest.mark.parametrize(
    ("oldest", "last_seq", "held", "kind"),
    [
        (20, 41, 18, AskOthers),
        (20, 41, 19, Send),
        (1, 41, 0, Send),
        (42, 41, 40, AskOthers),
        (42, 41, 41, Send),
    ],
)
def test_a_log_that_lacks_what_its_sled_no_longer_holds_asks_the_others(
    oldest: int, last_seq: int, held: int, kind: type
) -> None:
    session = started()
    session.start()
    session.receive(hello(last_seq, oldest=oldest), 0)
    effects = session.admitted(held)
    assert [type(effect) for effect in effects] == [kind]


@pytest.mark.parametrize(
    ("held", "others", "said"),
    [
        (10, None, {"type": "welcome", "last_seq": 10, "max_in_flight": limits.MAX_IN_FLIGHT}),
        (
            10,
            Elsewhere(10, complete=True, asked=frozenset({"cd" * 32})),
            {
                "type": "welcome",
                "last_seq": 10,
                "max_in_flight": limits.MAX_IN_FLIGHT,
                "asked": sorted([GATEWAY_ID, "cd" * 32]),
            },
        ),
        # Meanwhile it came.
        (19, Elsewhere(41, complete=False), {"type": "welcome", "last_seq": 19, "max_in_flight": 5_000}),
    ],
)
def test_nobody_who_holds_more_welcomes_it(held: int, others: Elsewhere | None, said: dict[str, Any]) -> None:
    session = started()
    session.start()
    session.receive(hello(41, oldest=20), 0)
    session.admitted(10)
    assert frames(session.told(held, others)) == [said]
    assert session.told(held, others) == []
    assert session.committed_seq == held


@pytest.mark.parametrize(
    ("others", "why"),
    [
        (Elsewhere(11, complete=True), "another gateway holds more of this epoch, and has yet to send it"),
        (Elsewhere(11, complete=False), "another gateway holds more of this epoch, and has yet to send it"),
        (
            Elsewhere(0, complete=False),
            "another gateway may hold more of this epoch, and cannot be asked now",
        ),
    ],
)
def test_as_long_as_another_gateway_may_hold_more_the_sled_is_to_try_again(
    others: Elsewhere, why: str
) -> None:
    session = started()
    session.start()
    session.receive(hello(41, oldest=20), 0)
    session.admitted(10)
    frame, code = refusal(session.told(10, others))
    assert frame == {"type": "refused", "code": "gap", "expected": 11, "reason": why}
    assert code == 1008


def test_the_shell_may_refuse_a_sled_that_belongs_elsewhere() -> None:
    session = started()
    session.receive(hello(), 0)
    frame, code = refusal(session.unauthorized("this sled belongs to project other"))
    assert (frame["code"], code) == ("unauthorized", 1008)
    assert session.admitted(0) == []


# --- frames that are none, and frames out of turn ----------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"{",
        b'{"type":"hello"',
        b"\xff",
        b'{"type":"events","first_seq":1,"events":["\\ud800 "]}',
    ],
)
def test_what_is_no_json_is_closed_with_1007(data: bytes) -> None:
    frame, code = refusal(opened().receive(data, 0))
    assert (frame["code"], code) == ("invalid", 1007)
    assert "seq" not in frame


@pytest.mark.parametrize("data", [b"{}", b"[]", b"null", b'{"type":"ack","seq":1}', b'{"type":"events"}'])
def test_json_that_is_no_frame_is_closed_with_1008(data: bytes) -> None:
    frame, code = refusal(opened().receive(data, 0))
    assert (frame["code"], code) == ("invalid", 1008)
    assert frame["reason"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_invalid_event_is_named(place: int) -> None:
    events: list[object] = [EVENT] * 3
    events[place] = {**EVENT, "reason": 7}
    frame, code = refusal(opened(held=35).receive(batch(36, *events, {}), 0))
    assert (frame["code"], frame["seq"], code) == ("invalid", 36 + place, 1008)


@pytest.mark.parametrize(
    "change", [{"reason": "r" * 16_385}, {"story_name": "n" * 1_025}, {"story_id": "i" * 257}]
)
def test_a_long_text_is_invalid_on_v2(change: dict[str, str]) -> None:
    frame, _ = refusal(opened().receive(batch(1, {**EVENT, **change}), 0))
    assert (frame["code"], frame["seq"]) == ("invalid", 1)


def test_deeply_nested_json_is_refused() -> None:
    frame, _ = refusal(opened().receive(b'{"type":"events","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0))
    assert frame["code"] == "invalid"


def test_events_before_the_hello_are_out_of_turn() -> None:
    frame, code = refusal(started().receive(batch(1), 0))
    assert (frame["code"], code) == ("invalid", 1008)


def test_events_before_the_welcome_are_out_of_turn() -> None:
    session = started()
    session.receive(hello(), 0)
    frame, _ = refusal(session.receive(batch(1), 0))
    assert frame["code"] == "invalid"


def test_a_snapshot_before_the_welcome_is_out_of_turn() -> None:
    frame, _ = refusal(started().receive(b'{"type":"snapshot","seq":0,"stories":[]}', 0))
    assert frame["code"] == "invalid"


def test_a_second_hello_is_out_of_turn() -> None:
    frame, _ = refusal(opened().receive(hello(), 0))
    assert frame["code"] == "invalid"


def test_a_frame_above_a_mebibyte_is_closed_with_1009() -> None:
    data = batch(1)
    whole = data + b" " * (limits.FRAME_BYTES_MAX - len(data))
    assert [type(effect) for effect in opened().receive(whole, 0)] == [Append]
    [end] = opened().receive(whole + b" ", 0)
    assert isinstance(end, End)
    assert end.close_code == 1009


# --- acks and refusals -------------------------------------------------------------------------------


def test_events_are_handed_over_and_acknowledged_only_when_committed() -> None:
    session = opened()
    [append] = session.receive(batch(1, EVENT, EVENT), 0)
    assert isinstance(append, Append)
    assert (append.first_seq, len(append.events)) == (1, 2)
    assert frames(session.committed(2, 1)) == [{"type": "ack", "seq": 2}]


def test_contiguity_is_left_to_where_commits_are_serialised() -> None:
    assert [type(effect) for effect in opened().receive(batch(99), 0)] == [Append]


def test_a_gap_names_what_was_expected() -> None:
    session = opened(held=37)
    session.receive(batch(40), 0)
    frame, code = refusal(session.gap(38, 1))
    assert (frame["code"], frame["expected"], code) == ("gap", 38, 1008)


def test_a_conflict_is_preceded_by_an_ack_of_what_agrees() -> None:
    session = opened(held=9)
    session.receive(batch(5, EVENT, EVENT), 0)
    effects = session.conflict(6, 1)
    assert frames(effects)[0] == {"type": "ack", "seq": 5}
    frame, code = refusal(effects)
    assert (frame["code"], frame["seq"], code) == ("conflict", 6, 1008)


def test_a_conflict_at_the_first_event_acknowledges_nothing() -> None:
    session = opened(held=9)
    session.receive(batch(1), 0)
    assert [frame["type"] for frame in frames(session.conflict(1, 1))] == ["refused"]


def test_what_was_taken_before_is_acknowledged_before_the_refusal() -> None:
    session = opened()
    session.receive(batch(1, EVENT), 0)
    session.receive(batch(2, EVENT), 0)
    assert session.receive(batch(3, {}), 0) == []
    assert frames(session.committed(1, 1)) == [{"type": "ack", "seq": 1}]
    effects = session.committed(2, 1)
    assert [frame["type"] for frame in frames(effects)] == ["ack", "refused"]
    frame, _ = refusal(effects)
    assert frame["seq"] == 3


def test_batches_settled_together_count_together() -> None:
    session = opened()
    for seq in (1, 2, 3):
        session.receive(batch(seq), 0)
    session.draining()
    assert [frame["type"] for frame in frames(session.committed(3, 3))] == ["ack", "refused"]


def test_after_a_conflict_nothing_beyond_it_is_acknowledged() -> None:
    # An ack of what came after would drop, on the sled, the very events that are in conflict.
    session = opened(held=6)
    session.receive(batch(5, EVENT, EVENT), 0)
    session.receive(batch(7, EVENT, EVENT), 0)
    effects = [*session.conflict(5, 1), *session.committed(8, 1)]
    assert [frame["seq"] for frame in frames(effects) if frame["type"] == "ack"] == [4]


def test_after_a_gap_nothing_is_acknowledged() -> None:
    session = opened()
    session.receive(batch(9), 0)
    session.receive(batch(1), 0)
    effects = [*session.gap(1, 1), *session.committed(1, 1)]
    assert [frame["type"] for frame in frames(effects)] == ["refused"]


def test_a_second_conflict_and_one_of_a_superseded_session_acknowledge_nothing() -> None:
    session = opened(held=9)
    session.receive(batch(5, EVENT, EVENT), 0)
    session.receive(batch(7, EVENT, EVENT), 0)
    effects = [*session.conflict(6, 1), *session.conflict(8, 1)]
    assert [frame.get("seq") for frame in frames(effects) if frame["type"] == "ack"] == [5]
    superseded = opened(held=9)
    superseded.receive(batch(5, EVENT, EVENT), 0)
    superseded.superseded()
    assert superseded.conflict(6, 1) == []


@pytest.mark.parametrize("data", [batch(2), hello(), b'{"type":"snapshot","seq":0,"stories":[]}', b"x"])
def test_after_a_refusal_nothing_more_is_taken(data: bytes) -> None:
    waiting = opened()
    waiting.receive(batch(1), 0)
    waiting.draining()
    over = opened()
    over.draining()
    assert waiting.receive(data, 0) == over.receive(data, 0) == []


def test_only_the_first_refusal_is_sent() -> None:
    session = opened()
    session.receive(batch(9), 0)
    session.receive(batch(10), 0)
    assert session.gap(1, 1) == []
    frame, _ = refusal(session.gap(1, 1))
    assert frame["code"] == "gap"
    assert session.draining() == []
    assert session.superseded() == []


def test_a_superseded_session_ends_at_once_and_acknowledges_no_more() -> None:
    session = opened()
    session.receive(batch(1), 0)
    frame, code = refusal(session.superseded())
    assert (frame["code"], code) == ("superseded", 1008)
    assert session.committed(1, 1) == []


def test_draining_waits_for_what_was_taken_and_closes_with_1001() -> None:
    session = opened()
    session.receive(batch(1), 0)
    assert session.draining() == []
    effects = session.committed(1, 1)
    frame, code = refusal(effects)
    assert frames(effects)[0] == {"type": "ack", "seq": 1}
    assert (frame["code"], code) == ("draining", 1001)


@pytest.mark.parametrize("greeted", [False, True])
def test_draining_ends_a_greeting_too(greeted: bool) -> None:  # noqa: FBT001 - a case
    session = started()
    if greeted:
        session.receive(hello(), 0)
    frame, code = refusal(session.draining())
    assert (frame["code"], code) == ("draining", 1001)
    assert session.admitted(0) == []


def test_what_the_sled_had_recorded_before_it_came_is_replayed() -> None:
    assert opened(held=3, last_seq=41).replayed_through == 41


def test_how_far_the_sled_is_behind_is_known() -> None:
    session = opened(held=3, last_seq=5)
    assert (session.received_seq, session.committed_seq) == (3, 3)
    session.receive(batch(4, EVENT, EVENT, EVENT), 0)
    assert (session.received_seq, session.committed_seq) == (6, 3)
    session.committed(6, 1)
    assert (session.received_seq, session.committed_seq) == (6, 6)


def test_a_snapshot_is_passed_on() -> None:
    session = opened()
    [effect] = session.receive(
        b'{"type":"snapshot","seq":0,"stories":[{"story_id":"1_bug_x","stage":"3_qa"}]}', 0
    )
    assert isinstance(effect, ApplySnapshot)
    assert effect.snapshot.stories[0].stage == "3_qa"


# --- rule 8: time ------------------------------------------------------------------------------------


def test_a_ping_every_fifteen_seconds() -> None:
    session = opened()
    assert session.tick(14.9) == []
    assert session.tick(15) == [Ping()]
    assert session.tick(29.9) == []
    assert session.tick(30) == [Ping()]


def test_a_sled_that_says_no_hello_for_ten_seconds_is_ended() -> None:
    session = started()
    assert session.tick(10) == []
    session.heard(10)
    [end] = session.tick(10.1)
    assert isinstance(end, End)
    assert end.close_code == 1008


def test_a_sled_that_waits_to_be_admitted_is_not_ended_for_it() -> None:
    session = started()
    session.receive(hello(), 9)
    assert session.tick(12) == []


def test_silence_ends_the_session_after_45_seconds() -> None:
    session = opened()
    session.heard(1)
    assert session.tick(46) == [Ping()]
    [end] = session.tick(46.1)
    assert isinstance(end, End)
    assert session.tick(1_000) == []


def test_any_frame_breaks_the_silence() -> None:
    session = opened()
    session.receive(batch(1), 40)
    assert session.tick(85) == [Ping()]
    assert isinstance(session.tick(85.1)[0], End)


@pytest.mark.parametrize(("said", "copies"), [({}, 1), ({"copies": 3}, 3)])
def test_how_many_copies_a_sled_wants_is_known(said: dict[str, int], copies: int) -> None:
    session = started()
    assert session.copies == 1
    session.receive(hello(41, **said), 0)
    assert session.copies == copies
