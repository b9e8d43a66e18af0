"""The sled's side of SPEC 5, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.protocol import wire
from huskies.protocol.effects import (
    Accepted,
    Acked,
    End,
    Held,
    OpenEpoch,
    Ping,
    Send,
    SetBarrier,
    SledEffect,
    TakeSnapshot,
)
from huskies.protocol.outbox_view import OutboxView
from huskies.protocol.pinned import Pinned
from huskies.protocol.sled import SledSession, Want
from huskies.signing import is_signed

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SLED_ID = KEY.public_key().public_bytes_raw().hex()
GATEWAY_ID = "ab" * 32
EPOCH = "0123456789abcdef"
CHALLENGE = wire.encode(wire.Challenge(gateway_id=GATEWAY_ID, nonce="fresh"))
EVENT = b'{"type":"story_blocked","story_id":"1_bug_x","reason":"r","timestamp_ms":1}'


def view(last_seq: int = 0, acked: int = 0, **changes: Any) -> OutboxView:
    whole = OutboxView(
        project="web-shop", sled_id=SLED_ID, epoch=EPOCH, last_seq=last_seq, acked=acked, oldest=1
    )
    return msgspec.structs.replace(whole, **changes)


def started(outbox: OutboxView, elsewhere: int | None = None) -> SledSession:
    return SledSession(outbox, KEY.sign, now=0, elsewhere=elsewhere)


def welcome(
    session: SledSession, last_seq: int, window: int = 5_000, now: float = 0, *, asked: Sequence[str] = ()
) -> list[SledEffect]:
    session.receive(CHALLENGE, now)
    frame = wire.Welcome(last_seq=last_seq, max_in_flight=window, asked=list(asked))
    return session.receive(wire.encode(frame), now)


def opened(
    outbox: OutboxView, last_seq: int | None = None, window: int = 5_000, elsewhere: int | None = None
) -> SledSession:
    session = started(outbox, elsewhere)
    welcome(session, outbox.acked if last_seq is None else last_seq, window)
    assert session.accepted
    return session


def pump(session: SledSession, now: float = 0) -> list[SledEffect]:
    """Send all that may be sent."""
    effects: list[SledEffect] = []
    while (want := session.wants()) is not None:
        effects += session.fetched(want.first_seq, [EVENT] * want.count, now)
    return effects


def ack(session: SledSession, seq: int, now: float = 0) -> list[SledEffect]:
    return session.receive(wire.encode(wire.Ack(seq=seq)), now)


def refuse(session: SledSession, code: str, **fields: int) -> list[SledEffect]:
    return session.receive(wire.encode(wire.Refused(code=code, reason="why", **fields)), 0)


def ends(effects: Sequence[SledEffect]) -> bool:
    return isinstance(effects[-1], End)


def frames(effects: Sequence[SledEffect]) -> list[dict[str, Any]]:
    return [json.loads(effect.data) for effect in effects if isinstance(effect, Send)]


# --- the greeting ------------------------------------------------------------------------------------


def test_the_hello_is_signed_as_the_specification_says() -> None:
    session = started(view(41, 30))
    [hello] = frames(session.receive(CHALLENGE, 0))
    text = f"huskies.relay.v2\n{GATEWAY_ID}\nfresh\nweb-shop\n{SLED_ID}\n{EPOCH}"
    KEY.public_key().verify(bytes.fromhex(hello.pop("signature")), text.encode())
    assert hello == {
        "type": "hello", "project": "web-shop", "sled_id": SLED_ID, "epoch": EPOCH, "last_seq": 41,
    }  # fmt: skip
    assert session.gateway_id == GATEWAY_ID


def test_the_hello_names_what_was_recorded_up_to_the_challenge() -> None:
    session = started(view(3))
    session.recorded(5)
    [hello] = frames(session.receive(CHALLENGE, 0))
    assert hello["last_seq"] == 5


def test_a_hello_after_a_change_of_epoch_names_the_older_ones() -> None:
    session = started(view(previous=(wire.PreviousEpoch(epoch="f" * 16, last_seq=29),)))
    [hello] = frames(session.receive(CHALLENGE, 0))
    assert hello["previous"] == [{"epoch": "f" * 16, "last_seq": 29}]


def test_nothing_is_wanted_before_the_welcome() -> None:
    session = started(view(5))
    assert session.wants() is None
    session.receive(CHALLENGE, 0)
    assert session.wants() is None
    assert session.fetched(1, [EVENT], 0) == []
    assert not session.accepted


def test_a_welcome_is_told_first() -> None:
    assert welcome(started(view(5)), 0) == [Accepted()]


@pytest.mark.parametrize(
    "frame",
    [
        wire.Welcome(last_seq=0, max_in_flight=1),
        wire.Ack(seq=1),
    ],
)
def test_before_the_challenge_another_frame_is_out_of_turn(frame: wire.GatewayFrame) -> None:
    assert ends(started(view()).receive(wire.encode(frame), 0))


@pytest.mark.parametrize(
    "frame",
    [
        wire.Challenge(gateway_id=GATEWAY_ID, nonce="again"),
        wire.Welcome(last_seq=0, max_in_flight=1),
    ],
)
def test_after_the_welcome_the_greeting_is_out_of_turn(frame: wire.GatewayFrame) -> None:
    assert ends(opened(view()).receive(wire.encode(frame), 0))


@pytest.mark.parametrize("data", [b"", b"hello", b"{}", b"\xff", b'{"type":"ack","seq":-1}', b"[" * 100_000])
def test_a_frame_that_is_none_ends_the_session(data: bytes) -> None:
    session = opened(view(3))
    assert isinstance(session.receive(data, 0)[0], End)
    assert session.receive(wire.encode(wire.Ack(seq=1)), 0) == []
    assert session.wants() is None
    assert session.tick(1_000) == []


def test_a_refusal_instead_of_a_welcome_ends_the_session_and_is_remembered() -> None:
    session = started(view(3))
    session.receive(CHALLENGE, 0)
    [end] = refuse(session, wire.UNAUTHORIZED)
    assert isinstance(end, End)
    assert "unauthorized: why" in end.reason
    assert (session.refused_code, session.accepted) == ("unauthorized", False)


# --- rule 1: only an ack is an ack -------------------------------------------------------------------


def test_a_welcome_acknowledges_nothing() -> None:
    session = started(view(41, 35))
    assert not any(isinstance(effect, Acked) for effect in welcome(session, 37))
    assert session.wants() == Want(36, 6)


def test_what_was_acknowledged_and_the_gateway_lost_is_sent_again() -> None:
    assert opened(view(41, 35), last_seq=20).wants() == Want(21, 21)


def test_an_ack_is_passed_on_once() -> None:
    session = opened(view(5))
    pump(session)
    assert ack(session, 3) == [Acked(3)]
    assert ack(session, 3) == []
    assert ack(session, 2) == []
    assert session.in_flight == 2


def test_an_ack_beyond_what_was_sent_counts_only_for_what_was_sent() -> None:
    session = opened(view(5), window=2)
    pump(session)
    assert ack(session, 4) == [Acked(2)]
    assert session.wants() == Want(3, 2)


def test_an_ack_before_anything_was_sent_counts_for_nothing() -> None:
    session = opened(view(5))
    assert ack(session, 5) == []
    assert session.wants() == Want(1, 5)


@given(st.lists(st.integers(0, 40)), st.integers(1, 12))
def test_whatever_a_gateway_acknowledges_nothing_unsent_is_dropped(acks: list[int], window: int) -> None:
    session = opened(view(20), window=window)
    sent = acked = 0
    for seq in acks:
        want = session.wants()
        if want is not None:
            assert want.first_seq == sent + 1
            session.fetched(want.first_seq, [EVENT] * want.count, 0)
            sent += want.count
        assert session.in_flight == sent - acked <= window
        for effect in ack(session, seq):
            if isinstance(effect, Acked):
                assert acked < effect.seq <= sent
                acked = effect.seq


# --- rule 4: batches, the window ---------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 7, 1_000, 2_500])
def test_no_more_is_in_flight_than_the_gateway_allows(window: int) -> None:
    session = opened(view(9_000), window=window)
    pump(session)
    assert session.in_flight == window
    ack(session, window - 1)
    pump(session)
    assert session.in_flight == window


def test_a_batch_holds_at_most_a_thousand_events() -> None:
    session = opened(view(2_500))
    sent = frames(pump(session))
    assert [len(frame["events"]) for frame in sent] == [1_000, 1_000, 500]
    assert [frame["first_seq"] for frame in sent] == [1, 1_001, 2_001]


def test_a_batch_holds_at_most_a_mebibyte() -> None:
    session = opened(view(1_000))
    large = EVENT.replace(b'"r"', b'"%b"' % (b"r" * 16_000))
    want = session.wants()
    assert want == Want(1, 1_000)
    [effect] = session.fetched(1, [large] * 1_000, 0)
    assert isinstance(effect, Send)
    assert limits.FRAME_BYTES_MAX - 2 * len(large) < len(effect.data) <= limits.FRAME_BYTES_MAX
    assert session.wants() == Want(session.in_flight + 1, 1_000 - session.in_flight)


def test_what_was_fetched_from_elsewhere_is_not_sent() -> None:
    session = opened(view(5))
    assert session.fetched(2, [EVENT], 0) == []
    assert session.fetched(1, [], 0) == []
    assert session.wants() == Want(1, 5)


def test_what_is_recorded_meanwhile_is_sent() -> None:
    session = opened(view(0))
    assert session.wants() is None
    session.recorded(2)
    assert session.wants() == Want(1, 2)
    session.recorded(1)
    assert session.wants() == Want(1, 2)


# --- rules 2 and 5: epochs ---------------------------------------------------------------------------


def test_a_conflict_is_no_ack_of_what_came_before_it() -> None:
    # Those may be in the log or not: they are delivered under this epoch first, and the rest then.
    session = opened(view(10))
    pump(session)
    effects = refuse(session, wire.CONFLICT, seq=5)
    assert isinstance(effects[0], SetBarrier)
    assert (effects[0].seq, effects[0].set_aside) == (5, False)
    assert not [effect for effect in effects if isinstance(effect, Acked | OpenEpoch)]
    assert ends(effects)


def test_a_conflict_after_all_before_it_was_acknowledged_opens_the_epoch_at_once() -> None:
    session = opened(view(10))
    pump(session)
    session.receive(wire.encode(wire.Ack(seq=4)), 0)
    effects = refuse(session, wire.CONFLICT, seq=5)
    assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [5]


def test_a_conflict_at_the_first_event_carries_over_everything() -> None:
    session = opened(view(10))
    pump(session)
    effects = refuse(session, wire.CONFLICT, seq=1)
    assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [1]


@pytest.mark.parametrize("seq", [None, 0, 3, 8, 99])
@pytest.mark.parametrize("code", [wire.CONFLICT, wire.INVALID])
def test_a_conflict_or_invalid_about_what_is_not_in_flight_changes_nothing(
    code: str, seq: int | None
) -> None:
    session = opened(view(10), window=7)
    pump(session)
    ack(session, 3)
    effects = refuse(session, code, **({} if seq is None else {"seq": seq}))
    assert len(effects) == 1
    assert ends(effects)


@pytest.mark.parametrize("code", [wire.GAP, wire.SUPERSEDED, wire.DRAINING, wire.UNAUTHORIZED, "new-code"])
def test_every_other_refusal_only_ends_the_session(code: str) -> None:
    session = opened(view(10))
    pump(session)
    effects = refuse(session, code, expected=1, seq=1)
    assert [type(effect) for effect in effects] == [End]
    assert session.refused_code == code


def test_an_invalid_event_next_in_turn_is_set_aside_at_once() -> None:
    session = opened(view(10))
    pump(session)
    ack(session, 4)
    effects = refuse(session, wire.INVALID, seq=5)
    assert isinstance(effects[0], SetBarrier)
    assert (effects[0].seq, effects[0].set_aside) == (5, True)
    assert isinstance(effects[1], OpenEpoch)
    assert effects[1].carry_from == 6


def test_before_an_invalid_event_is_set_aside_what_precedes_it_is_delivered() -> None:
    session = opened(view(10))
    pump(session)
    ack(session, 2)
    effects = refuse(session, wire.INVALID, seq=5)
    assert [type(effect) for effect in effects] == [SetBarrier, End]
    again = opened(view(10, 2, barrier=5, barrier_set_aside=True))
    assert again.wants() == Want(3, 2)
    pump(again)
    assert again.in_flight == 2
    effects = ack(again, 4)
    assert effects[0] == Acked(4)
    assert isinstance(effects[1], OpenEpoch)
    assert effects[1].carry_from == 6


def test_a_barrier_with_nothing_left_before_it_opens_the_epoch_at_the_welcome() -> None:
    effects = welcome(started(view(10, 4, barrier=5)), 4)
    assert isinstance(effects[0], Accepted)
    assert isinstance(effects[1], OpenEpoch)
    assert effects[1].carry_from == 5


def test_a_barrier_stays_where_it_is_whatever_the_gateway_holds() -> None:
    session = started(view(10, 2, barrier=5, barrier_set_aside=True))
    assert welcome(session, 12) == [Accepted()]
    assert session.wants() == Want(3, 2)


def test_no_epoch_is_opened_before_the_welcome() -> None:
    session = started(view(10, 4, barrier=5))
    assert session.stories_changed() == []
    assert isinstance(welcome(session, 4)[1], OpenEpoch)


def test_a_gateway_that_holds_more_than_the_outbox_sets_a_barrier() -> None:
    session = started(view(10, 8))
    effects = welcome(session, 12)
    assert effects[0] == Accepted()
    assert isinstance(effects[1], SetBarrier)
    assert (effects[1].seq, effects[1].set_aside) == (11, False)
    # What was never acknowledged is still compared, what is recorded now is not part of that history.
    session.recorded(15)
    assert session.wants() == Want(9, 2)
    pump(session)
    effects = ack(session, 10)
    assert effects[0] == Acked(10)
    assert isinstance(effects[1], OpenEpoch)
    assert effects[1].carry_from == 11


def test_an_older_copy_that_had_everything_acknowledged_opens_an_epoch_at_once() -> None:
    effects = welcome(started(view(10, 10)), 12)
    assert [type(effect) for effect in effects] == [Accepted, SetBarrier, OpenEpoch, End]


def test_a_gateway_that_asks_for_what_is_no_longer_held_gets_a_new_epoch() -> None:
    effects = welcome(started(view(41, 35, oldest=20)), 10)
    assert isinstance(effects[1], OpenEpoch)
    assert effects[1].carry_from == 20
    assert ends(effects)


def test_a_gateway_that_holds_all_but_what_is_held_gets_no_new_epoch() -> None:
    assert opened(view(41, 35, oldest=20), last_seq=19).wants() == Want(20, 22)
    assert opened(view(41, 41, oldest=42), last_seq=41).wants() is None


def test_after_an_epoch_was_opened_the_session_is_over() -> None:
    session = opened(view(10))
    pump(session)
    refuse(session, wire.CONFLICT, seq=5)
    assert ack(session, 10) == []
    assert session.wants() is None
    assert session.stories_changed() == []
    assert session.snapshot_taken(10, []) == []


# --- rule 8: time ------------------------------------------------------------------------------------


def test_a_ping_every_fifteen_seconds() -> None:
    session = opened(view())
    assert session.tick(14.9) == []
    assert session.tick(15) == [Ping()]
    assert session.tick(29.9) == []
    assert session.tick(30) == [Ping()]


def test_silence_ends_the_session_after_45_seconds() -> None:
    session = opened(view())
    session.tick(15)
    session.heard(1)
    assert not ends([Ping(), *session.tick(46)])
    assert ends(session.tick(46.1))


def test_any_frame_breaks_the_silence() -> None:
    session = opened(view(1))
    ack(session, 0, now=40)
    assert session.tick(85) == [Ping()]
    assert ends(session.tick(85.1))


@pytest.mark.parametrize("challenged", [False, True])
def test_each_step_of_the_greeting_may_take_ten_seconds(challenged: bool) -> None:  # noqa: FBT001 - a case
    session = started(view())
    start = 0
    if challenged:
        start = 9
        session.receive(CHALLENGE, start)
    assert not any(isinstance(effect, End) for effect in session.tick(start + 10))
    session.heard(start + 10)
    [end] = session.tick(start + 10.1)
    assert isinstance(end, End)
    assert "greeting" in end.reason


def test_thirty_seconds_without_an_ack_end_the_session() -> None:
    session = opened(view(5))
    pump(session, now=10)
    session.heard(40)
    assert session.tick(40) == [Ping()]
    [end] = session.tick(40.1)
    assert isinstance(end, End)
    assert "acknowledges nothing" in end.reason


def frame_sizes(effects: Sequence[SledEffect]) -> list[int]:
    frames = [wire.decode_from_sled(effect.data) for effect in effects if isinstance(effect, Send)]
    return [len(frame.events) for frame in frames if isinstance(frame, wire.Events)]


def test_what_was_not_acknowledged_in_time_is_sent_in_smaller_batches_until_acks_come() -> None:
    batch_events, sizes = 1_000, []
    for _ in range(5):
        session = SledSession(view(4_000), KEY.sign, now=0, batch_events=batch_events)
        welcome(session, 0)
        sizes.append(frame_sizes(pump(session))[0])
        assert ends(session.tick(30.1))
        batch_events = session.batch_events
    assert sizes == [1_000, 125, 15, 1, 1]
    session = opened(view(40))
    pump(session)
    session.tick(30.1)
    assert session.batch_events == 5
    session = SledSession(view(4_000), KEY.sign, now=0, batch_events=15)
    welcome(session, 0, window=15)
    assert frame_sizes(pump(session)) == [15]
    grown = []
    for acked in (15, 45, 105, 225, 465, 945, 1_905):
        session.receive(wire.encode(wire.Ack(seq=acked)), 1)
        grown.append(session.batch_events)
        session = SledSession(view(4_000, acked), KEY.sign, now=0, batch_events=session.batch_events)
        welcome(session, acked)
        pump(session)
    assert grown == [30, 60, 120, 240, 480, 960, 1_000]


def test_a_smaller_batch_has_fewer_bytes_too_and_one_event_always_goes() -> None:
    session = SledSession(view(50), KEY.sign, now=0, batch_events=10)
    welcome(session, 0)
    large = b'{"type":"story_blocked","story_id":"1_bug_x","reason":"%b","timestamp_ms":1}' % (b"r" * 4_000)
    assert frame_sizes(session.fetched(1, [large] * 10, 0)) == [2]
    session = SledSession(view(50), KEY.sign, now=0, batch_events=1)
    welcome(session, 0)
    assert frame_sizes(session.fetched(1, [large], 0)) == [1]


def test_an_ack_of_some_starts_the_thirty_seconds_again() -> None:
    session = opened(view(5))
    pump(session, now=10)
    ack(session, 2, now=39)
    session.heard(69)
    assert session.tick(69) == [Ping()]
    assert ends(session.tick(69.1))


def test_a_repeated_ack_is_no_progress() -> None:
    session = opened(view(5))
    pump(session, now=0)
    ack(session, 2, now=1)
    ack(session, 2, now=30)
    assert ends(session.tick(31.1))


def test_with_nothing_in_flight_no_ack_is_awaited() -> None:
    session = opened(view())
    session.heard(200)
    assert session.tick(200) == [Ping()]
    session.recorded(1)
    pump(session, now=200)
    session.heard(230)
    assert session.tick(230) == [Ping()]


# --- rule 9: snapshots -------------------------------------------------------------------------------

STORY = wire.SnapshotStory(story_id="1_bug_x", stage="3_qa")


def test_a_snapshot_is_due_once_everything_is_acknowledged() -> None:
    session = opened(view(3))
    pump(session)
    assert ack(session, 2) == [Acked(2)]
    assert ack(session, 3) == [Acked(3), TakeSnapshot()]
    [frame] = frames(session.snapshot_taken(3, [STORY]))
    assert (frame["type"], frame["seq"], frame["stories"][0]["story_id"]) == ("snapshot", 3, "1_bug_x")


def test_with_nothing_to_send_the_snapshot_is_due_at_the_welcome() -> None:
    assert welcome(started(view(3, 3)), 3) == [Accepted(), TakeSnapshot()]


def test_a_snapshot_is_sent_once() -> None:
    session = opened(view(3, 3))
    session.snapshot_taken(3, [])
    session.recorded(4)
    pump(session)
    assert ack(session, 4) == [Acked(4)]


def test_a_snapshot_is_due_again_when_stories_change_without_an_event() -> None:
    session = opened(view(3, 3))
    session.snapshot_taken(3, [])
    assert session.stories_changed() == [TakeSnapshot()]
    session.snapshot_taken(3, [STORY])
    session.recorded(4)
    assert session.stories_changed() == []
    pump(session)
    assert ack(session, 4) == [Acked(4), TakeSnapshot()]


def test_a_snapshot_that_something_overtook_waits_for_its_ack() -> None:
    session = opened(view(3, 3))
    assert session.snapshot_taken(4, [STORY]) == []
    pump(session)
    assert ack(session, 4) == [Acked(4), TakeSnapshot()]
    assert len(frames(session.snapshot_taken(4, [STORY]))) == 1


def test_no_snapshot_is_sent_before_the_welcome_or_with_a_barrier() -> None:
    assert started(view()).stories_changed() == []
    session = opened(view(5, 2, barrier=5))
    pump(session)
    ack(session, 3)
    assert session.stories_changed() == []
    assert session.snapshot_taken(5, []) == []


# --- several gateways --------------------------------------------------------------------------------


def kinds(effects: Sequence[SledEffect]) -> list[type]:
    return [type(effect) for effect in effects]


def test_what_another_gateway_acknowledged_is_sent_to_one_that_lacks_it() -> None:
    assert opened(view(41, 35), last_seq=20, elsewhere=35).wants() == Want(21, 21)


def test_a_gateway_that_lacks_what_is_no_longer_held_gets_only_what_no_other_one_has() -> None:
    effects = welcome(started(view(41, 35, oldest=20), elsewhere=33), 10)
    assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [36]


OTHER_ID, THIRD_ID = "cd" * 32, "ef" * 32


def beside(*others: str) -> SledSession:
    """One of several gateways; the others may hold up to event 38."""
    return SledSession(view(41, 35, oldest=20), KEY.sign, now=0, elsewhere=38, others=others)


def test_a_gateway_that_asked_the_others_gets_all_that_is_held() -> None:
    for asked in ([GATEWAY_ID, OTHER_ID], [GATEWAY_ID, OTHER_ID.upper(), THIRD_ID]):
        effects = welcome(beside(OTHER_ID), 10, asked=asked)
        assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [20]


@pytest.mark.parametrize("others", [[THIRD_ID], [OTHER_ID, THIRD_ID], [OTHER_ID, ""]])
def test_who_was_not_asked_or_is_not_known_is_to_be_asked_first(others: list[str]) -> None:
    effects = welcome(beside(*others), 10, asked=[GATEWAY_ID, OTHER_ID])
    assert kinds(effects) == [End]
    assert isinstance(effects[0], End)
    assert "another one of the list has to be asked first" in effects[0].reason


def test_the_only_gateway_gets_all_that_is_held_whoever_was_asked() -> None:
    effects = welcome(started(view(41, 35, oldest=20)), 10, asked=[GATEWAY_ID])
    assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [20]


@pytest.mark.parametrize(("oldest", "said"), [(1, None), (20, 20)])
def test_the_hello_says_from_where_on_events_are_held(oldest: int, said: int | None) -> None:
    [hello] = started(view(41, 35, oldest=oldest)).receive(CHALLENGE, 0)
    assert isinstance(hello, Send)
    assert json.loads(hello.data).get("oldest") == said


def test_as_long_as_another_one_may_hold_what_waits_no_epoch_begins() -> None:
    session = started(view(41, 35, oldest=20), elsewhere=38)
    effects = welcome(session, 10)
    # Nothing comes of it: the next gateway is tried, and one that fails for long less and less often.
    assert kinds(effects) == [End]
    assert isinstance(effects[0], End)
    assert "another one may hold event 38, and has to be asked first" in effects[0].reason
    assert not session.accepted
    assert session.may_be_held == 35


def test_what_one_gateway_refuses_and_another_may_hold_is_neither_set_aside_nor_renumbered() -> None:
    session = opened(view(10, 2), elsewhere=7)
    pump(session)
    ack(session, 4)
    effects = refuse(session, wire.INVALID, seq=5)
    assert effects[0] == SetBarrier(8, set_aside=False, reason="the gateway refused: invalid: why")
    assert kinds(effects) == [SetBarrier, End]
    # Said once: the next time the barrier stands already.
    again = opened(view(10, 4, barrier=8), elsewhere=7)
    pump(again)
    assert kinds(refuse(again, wire.INVALID, seq=5)) == [End]
    # The other one has acknowledged it meanwhile: nothing keeps the epoch open.
    again = opened(view(10, 7, barrier=8), last_seq=4, elsewhere=7)
    pump(again)
    effects = refuse(again, wire.INVALID, seq=5)
    assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [8]


def test_what_one_gateway_alone_refuses_is_set_aside_as_ever() -> None:
    session = opened(view(10, 4), elsewhere=2)
    pump(session)
    effects = refuse(session, wire.INVALID, seq=5)
    assert kinds(effects) == [SetBarrier, OpenEpoch, End]
    assert [effect.carry_from for effect in effects if isinstance(effect, OpenEpoch)] == [6]


def test_what_a_gateway_may_hold_is_what_it_said_and_what_it_was_sent() -> None:
    session = opened(view(10, 4), last_seq=6, window=1)
    assert session.may_be_held == 6
    for seq in range(5, 10):
        pump(session)
        ack(session, seq)
    assert session.may_be_held == 9


@pytest.mark.parametrize("code", [wire.CONFLICT, wire.INVALID])
def test_a_gateway_that_refuses_an_event_holds_nothing_from_it_on(code: str) -> None:
    session = opened(view(10, 4))
    pump(session)
    refuse(session, code, seq=7)
    assert session.may_be_held == 6


@pytest.mark.parametrize(
    ("last_seq", "acked_now", "code", "fruitful"),
    [
        (0, 0, "", True),
        (5, 0, "", False),
        (5, 1, "", True),
        (5, 1, wire.DRAINING, False),
        (5, 1, wire.CONFLICT, True),
        (5, 0, wire.CONFLICT, False),
    ],
)
def test_a_session_is_fruitful_where_something_was_taken_or_nothing_waited(
    last_seq: int, acked_now: int, code: str, *, fruitful: bool
) -> None:
    session = opened(view(last_seq))
    pump(session)
    ack(session, acked_now)
    if code:
        refuse(session, code)
    assert session.fruitful is fruitful
    assert not started(view(last_seq)).fruitful


def test_a_session_that_is_left_sends_nothing_more_and_ends_when_all_that_was_sent_is_acknowledged() -> None:
    session = opened(view(10), window=4)
    pump(session)
    assert session.leave(0) == []
    ack(session, 2)
    assert session.wants() is None
    effects = ack(session, 4)
    assert effects == [Acked(4), End(1001, "an earlier gateway answers again")]
    assert session.fruitful


def test_a_session_with_nothing_in_flight_is_left_at_once() -> None:
    assert kinds(opened(view(3, 3)).leave(0)) == [End]


def test_a_session_that_is_left_waits_for_acks_only_so_long() -> None:
    session = opened(view(10))
    pump(session)
    session.leave(0)
    assert session.tick(limits.LEAVE_LIMIT) == []
    assert kinds(session.tick(limits.LEAVE_LIMIT + 0.1)) == [End]


def test_a_session_that_is_left_during_the_greeting_ends_with_it() -> None:
    session = started(view(3))
    assert session.leave(0) == []
    assert kinds(welcome(session, 3)) == [Accepted, End]


# --- copies ------------------------------------------------------------------------------------------


def held(session: SledSession, seq: int, held: int) -> list[SledEffect]:
    return session.receive(wire.encode(wire.Ack(seq=seq, held=held)), 0)


@pytest.mark.parametrize(("copies", "said"), [(1, {}), (2, {"copies": 2})])
def test_the_hello_says_how_many_copies_are_wanted(copies: int, said: dict[str, int]) -> None:
    [hello] = frames(started(view(copies=copies)).receive(CHALLENGE, 0))
    assert {key: hello[key] for key in hello if key == "copies"} == said


def test_how_far_enough_gateways_hold_is_passed_on_once_and_never_goes_back() -> None:
    session = opened(view(5, held=1, copies=2))
    pump(session)
    assert held(session, 3, 1) == [Acked(3)]
    assert held(session, 3, 2) == [Held(2)]
    assert held(session, 3, 2) == held(session, 2, 1) == []
    assert held(session, 4, 3) == [Acked(4), Held(3)]
    assert held(session, 5, 5)[:2] == [Acked(5), Held(5)]


def test_nothing_counts_as_held_that_was_not_acknowledged() -> None:
    session = opened(view(5, copies=2))
    assert held(session, 5, 5) == []
    pump(session)
    assert held(session, 3, 5) == [Acked(3), Held(3)]


def test_who_wants_one_copy_hears_of_none() -> None:
    session = opened(view(5))
    pump(session)
    assert held(session, 3, 3) == [Acked(3)]


# --- the gateway that the sled was enrolled with -----------------------------------------------------

GATEWAY_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PINNED_ID = GATEWAY_KEY.public_key().public_bytes_raw().hex()


def challenge_of(
    gateway_id: str, *, project: str = "web-shop", nonce: str = "fresh", signed: bool = True
) -> bytes:
    text = wire.challenge_text(gateway_id=gateway_id, nonce=nonce, project=project)
    signature = GATEWAY_KEY.sign(text).hex() if signed else None
    return wire.encode(wire.Challenge(gateway_id=gateway_id, nonce="fresh", signature=signature))


def pinned_to(gateway_id: str | None) -> SledSession:
    return SledSession(view(), KEY.sign, now=0, pinned=Pinned(gateway_id, frozenset({PINNED_ID}), is_signed))


def test_the_gateway_that_was_pinned_is_greeted() -> None:
    [hello] = pinned_to(PINNED_ID).receive(challenge_of(PINNED_ID), 0)
    assert isinstance(hello, Send)


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        # A hostile gateway passes on the challenge of another one: the sled dialed the hostile one.
        (challenge_of("cd" * 32), "this is another gateway (cdcdcdcdcdcdcdcd) than the one"),
        (challenge_of(PINNED_ID, signed=False), "the gateway does not prove that it is the one"),
        (challenge_of(PINNED_ID, nonce="another"), "the gateway does not prove that it is the one"),
        (challenge_of(PINNED_ID, project="blog"), "the gateway does not prove that it is the one"),
    ],
)
def test_nobody_else_is(challenge: bytes, why: str) -> None:
    [end] = pinned_to(PINNED_ID).receive(challenge, 0)
    assert isinstance(end, End)
    assert why in end.reason


def test_where_another_url_is_pinned_a_gateway_passes_no_challenge_of_it_on() -> None:
    [end] = pinned_to(None).receive(challenge_of(PINNED_ID), 0)
    assert isinstance(end, End)
    assert end.reason == "the sled was enrolled with this gateway at another URL"
    [hello] = pinned_to(None).receive(challenge_of("cd" * 32, signed=False), 0)
    assert isinstance(hello, Send)


def test_where_nothing_is_pinned_any_gateway_is_greeted() -> None:
    [hello] = started(view()).receive(challenge_of("cd" * 32, signed=False), 0)
    assert isinstance(hello, Send)
