"""A connection between two gateways, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.protocol import peer_wire as wire
from huskies.protocol.effects import End, Ping, Send
from huskies.protocol.peer import (
    Acknowledged,
    AdoptBase,
    AllAnnounced,
    Announced,
    Greeted,
    PeerEffect,
    PeerSession,
    SendAgain,
    TakeBoard,
    TakeRuns,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
OWN_ID, OTHER_ID = (key.public_key().public_bytes_raw().hex() for key in (KEY, OTHER))
NONCE, OTHER_NONCE = "own-nonce-own-nonce", "other-nonce-other-nonce"
EVENT = {"type": "story_blocked", "story_id": "1_bug_x", "reason": "r", "timestamp_ms": 1}
NO_FRAME = "a frame is not one of this protocol"
SEQUENCE = [7, "aa" * 32, "e1" * 8, "shop", 5, 99]


def verify(key: str, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def frame(kind: str, /, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def session() -> PeerSession:
    made = PeerSession(gateway_id=OWN_ID, nonce=NONCE, sign=KEY.sign, verify=verify, now=0)
    made.start()
    return made


def proof(nonce: str = NONCE, verifier: str = OWN_ID) -> bytes:
    text = f"huskies.peer.v1\n{OTHER_ID}\n{verifier}\n{nonce}".encode()
    return frame("proof", signature=OTHER.sign(text).hex())


def greeted() -> PeerSession:
    made = session()
    made.receive(frame("hello", gateway_id=OTHER_ID, nonce=OTHER_NONCE), 0)
    assert made.receive(proof(), 0) == [Greeted(OTHER_ID)]
    return made


def opened() -> PeerSession:
    made = greeted()
    list(made.announce([]))
    [announced] = made.receive(frame("sequences", sequences=[SEQUENCE]), 0)
    assert isinstance(announced, Announced)
    assert made.receive(frame("ready"), 0) == [AllAnnounced()]
    return made


def runs(number: int = 1, *, run: Sequence[int] = (7, 6, 1, 1_000, 0, 99, 5), events: int = 1) -> bytes:
    return frame("runs", frame=number, runs=[run], events=[EVENT] * events)


def said(effects: Sequence[PeerEffect]) -> list[dict[str, Any]]:
    return [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]


def refused(effects: Sequence[PeerEffect]) -> tuple[str, str]:
    [said_last] = said(effects)
    assert isinstance(effects[-1], End)
    return said_last["code"], said_last["reason"]


def test_either_side_greets_proves_and_verifies() -> None:
    made = PeerSession(gateway_id=OWN_ID, nonce=NONCE, sign=KEY.sign, verify=verify, now=0)
    assert said(made.start()) == [{"type": "hello", "gateway_id": OWN_ID, "nonce": NONCE}]
    [answer] = said(made.receive(frame("hello", gateway_id=OTHER_ID, nonce=OTHER_NONCE), 0))
    text = f"huskies.peer.v1\n{OWN_ID}\n{OTHER_ID}\n{OTHER_NONCE}".encode()
    assert verify(OWN_ID, bytes.fromhex(answer["signature"]), text)
    assert made.receive(proof(), 0) == [Greeted(OTHER_ID)]
    assert made.peer_id == OTHER_ID


@pytest.mark.parametrize("wrong", [proof(nonce="another"), proof(verifier=OTHER_ID)])
def test_a_proof_of_something_else_proves_nothing(wrong: bytes) -> None:
    made = session()
    made.receive(frame("hello", gateway_id=OTHER_ID, nonce=OTHER_NONCE), 0)
    code, _ = refused(made.receive(wrong, 0))
    assert code == "unauthorized"
    assert made.receive(proof(), 0) == []


def test_a_gateway_does_not_talk_to_itself() -> None:
    code, reason = refused(session().receive(frame("hello", gateway_id=OWN_ID, nonce=OTHER_NONCE), 0))
    assert code == "unauthorized"
    assert "own identity" in reason


def test_what_is_held_is_named_in_frames_of_bounded_size() -> None:
    sequences = [wire.Sequence(n, "aa" * 32, f"{n:016x}", "shop", 1, 1) for n in range(1, 2_502)]
    frames = said(list(greeted().announce(sequences)))
    assert [len(one.get("sequences", [])) for one in frames] == [1_000, 1_000, 501, 0]
    assert frames[-1] == {"type": "ready"}


def test_what_comes_is_handed_on() -> None:
    made = opened()
    [take] = made.receive(runs(), 0)
    assert isinstance(take, TakeRuns)
    [base] = made.receive(frame("base", number=7, seq=3, digest=1), 0)
    assert isinstance(base, AdoptBase)
    assert made.receive(frame("again", number=4), 0) == [SendAgain(4)]
    [board] = made.receive(frame("board", number=7, seq=3, received_ms=1, stories=[]), 0)
    assert isinstance(board, TakeBoard)
    [more] = made.receive(frame("sequences", sequences=[SEQUENCE]), 0)
    assert isinstance(more, Announced)
    assert said(made.settled(1)) == [{"type": "ack", "frame": 1}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff", NO_FRAME),
        (frame("nothing"), NO_FRAME),
        (frame("hello", gateway_id=OTHER_ID, nonce=OTHER_NONCE), "a frame came out of turn"),
        (frame("ready"), "a frame came out of turn"),
        (runs(2), "frame 1 was expected next"),
        (runs(events=2), "the runs of a frame do not add up to its events"),
        (frame("runs", frame=1, runs=[], events=[]), "the runs of a frame do not add up to its events"),
        (runs(run=(8, 6, 1, 1_000, 0, 99, 5)), "a run is of a sequence that was not named"),
        (runs(run=(7, 0, 1, 1_000, 0, 99, 5)), NO_FRAME),
        (runs(run=(7, 6, -1, 1_000, 0, 99, 5)), NO_FRAME),
        (frame("base", number=8, seq=3, digest=1), "a frame came out of turn"),
        (frame("board", number=8, seq=3, received_ms=1, stories=[]), "a frame came out of turn"),
        (frame("ack", frame=1), "a frame was acknowledged that was not sent"),
        (
            frame("sequences", sequences=[[7, "aa", "e1", "shop", 5, 99]]),
            NO_FRAME,
        ),
        (
            frame("sequences", sequences=[[7, "aa" * 32, "e1" * 8, "shop", 2**63, 99]]),
            NO_FRAME,
        ),
    ],
)
def test_what_makes_no_sense_ends_the_connection(data: bytes, reason: str) -> None:
    made = opened()
    code, said_reason = refused(made.receive(data, 0))
    assert code == "invalid"
    assert said_reason.startswith(reason)
    assert made.receive(runs(), 0) == []
    assert made.settled(1) == made.refuse("x", "y") == made.tick(1e9) == []


@pytest.mark.parametrize("data", [frame("ready"), runs(), frame("again", number=1), proof()])
def test_nothing_is_taken_before_identities_are_proven(data: bytes) -> None:
    assert refused(session().receive(data, 0)) == ("invalid", "a frame came out of turn")


def test_events_before_everything_was_named_are_out_of_turn() -> None:
    assert refused(greeted().receive(runs(), 0)) == ("invalid", "a frame came out of turn")


def test_a_refusal_by_the_other_side_ends_it() -> None:
    [end] = opened().receive(frame("refused", code="draining", reason="it stops"), 0)
    assert isinstance(end, End)
    assert end.reason == "the other gateway refused: draining: it stops"


def test_what_is_in_flight_is_bounded_by_acks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_IN_FLIGHT_BYTES", 300)
    made = opened()
    assert made.may_send
    run = [wire.SentRun(1, 1, 1, 1, 0, 0, 1)]
    events = b",".join([json.dumps(EVENT).encode()] * 2)
    sent = said([made.send_runs(run, events, 0) for _ in range(2)])
    assert [(one["frame"], len(one["events"])) for one in sent] == [(1, 2), (2, 2)]
    room = [made.may_send]
    assert made.receive(frame("ack", frame=1), 0) == [Acknowledged(1)]
    room.append(made.may_send)
    assert room == [False, True]
    made.receive(frame("ack", frame=2), 0)
    assert made.unacked_bytes == 0


def test_no_one_may_send_before_everything_was_named() -> None:
    assert not greeted().may_send


def test_a_silent_gateway_is_noticed() -> None:
    made = session()
    [end] = made.tick(limits.GREETING_LIMIT + 0.1)
    assert isinstance(end, End)
    made = opened()
    assert made.tick(limits.PING_INTERVAL) == [Ping()]
    made.heard(20)
    assert made.tick(20 + limits.SILENCE_LIMIT - 1) == [Ping()]
    [end] = made.tick(20 + limits.SILENCE_LIMIT + 1)
    assert isinstance(end, End)


def test_one_that_acknowledges_nothing_is_noticed() -> None:
    made = opened()
    made.send_runs([wire.SentRun(1, 1, 1, 1, 0, 0, 1)], b"", 10)
    made.heard(39)
    made.tick(39)
    [end] = made.tick(10 + limits.ACK_LIMIT + 1)
    assert isinstance(end, End)
    assert end.reason == "the other gateway acknowledges nothing"
    assert made.was_too_much


@given(st.lists(st.binary(max_size=60), max_size=5), st.sampled_from([session, greeted, opened]))
def test_no_bytes_whatever_raise_an_error(frames: list[bytes], make: Any) -> None:
    made = make()
    for data in frames:
        made.receive(data, 0)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**65) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.sampled_from(["sequences", "base", "runs", "ack", "again", "board", "refused", "hello", "proof"]),
    st.dictionaries(
        st.sampled_from(["number", "frame", "runs", "events", "seq", "digest", "sequences", "stories"]),
        _json,
    ),
)
def test_no_frame_whatever_raises_an_error(kind: str, fields: dict[str, Any]) -> None:
    opened().receive(frame(kind, **fields), 0)
