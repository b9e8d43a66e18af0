"""The state machines of the wire: whole conversations, one frame a line, of sleds, gateways and peers."""

from __future__ import annotations

from typing import Final

import msgspec

from fuzz.samples import EPOCH, EVENTS, JSON, KEY, NONCE, OTHER_KEY, SIGNATURE, WORDS
from fuzz.target import Outcome, Target, always, refused, taken
from huskies import limits
from huskies.events import codec
from huskies.protocol import peer_wire, wire
from huskies.protocol.effects import Accepted, Admit, Append, ApplySnapshot, AskOthers, End, Send
from huskies.protocol.gateway import GatewaySession
from huskies.protocol.outbox_view import OutboxView
from huskies.protocol.peer import AllAnnounced, Announced, Greeted, PeerSession, TakeRuns
from huskies.protocol.sled import SledSession

# A byte that stands in a signature that does not hold.
_BAD: Final = 0
_Effects = list[object]


def _verify(key: str, signature: bytes, text: bytes) -> bool:
    return bool(key and text) and signature[0] != _BAD


def _sign(text: bytes) -> bytes:
    return text[:1] * 64


def _said(effects: _Effects, *beyond: type[object]) -> Outcome:
    """Which kinds of effects there were, and why it ended; taken where it came `beyond` the greeting."""
    kinds = " ".join(dict.fromkeys(type(effect).__name__ for effect in effects))
    ends = [effect for effect in effects if isinstance(effect, End)]
    assert len(ends) <= 1, "a session ended twice"
    assert not ends or isinstance(effects[-1], End), "something was done after the end"
    # What both sides close with must be a close code, and a reason that can be written.
    assert all(1000 <= end.close_code <= 1011 and end.reason.encode() for end in ends)
    why = f"{kinds} {ends[0].reason}" if ends else kinds
    return taken(why) if any(isinstance(effect, beyond) for effect in effects) else refused(why)


def gateway(data: bytes) -> Outcome:
    """What a sled sends to a gateway, whose log takes everything that goes on where it stood."""
    session = GatewaySession(
        project="web-shop", gateway_id=OTHER_KEY, nonce=NONCE, verify=_verify, sign=_sign, now=0.0
    )
    effects: _Effects = [*session.start()]
    for frame in data.split(b"\n"):
        came: _Effects = [*session.receive(frame, 1.0)]
        while came:
            effect = came.pop(0)
            effects.append(effect)
            came += _carry_out(session, effect)
    for effect in effects:
        if isinstance(effect, Send):
            wire.decode_from_gateway(effect.data)
    return _said(effects, Append, ApplySnapshot)


def _carry_out(session: GatewaySession, effect: object) -> _Effects:
    match effect:
        case Admit():
            return [*session.admitted(0)]
        case AskOthers():
            return [*session.told(0, None)]
        case Append(first_seq, events):
            expected = session.committed_seq + 1
            if first_seq > expected:
                return [*session.gap(expected, 1)]
            again = codec.encode_batch(events)
            assert codec.encode_batch(codec.decode_batch(again)) == again
            assert len(events) <= limits.BATCH_EVENTS_MAX
            return [*session.committed(max(session.committed_seq, first_seq + len(events) - 1), 1)]
    return []


def sled(data: bytes) -> Outcome:
    """What a gateway sends to a sled that holds twenty events, of which three are acknowledged."""
    view = OutboxView(project="web-shop", sled_id=KEY, epoch=EPOCH, last_seq=20, acked=3, oldest=2, copies=2)
    session = SledSession(view, _sign, 0.0)
    effects: _Effects = []
    for frame in data.split(b"\n"):
        effects += session.receive(frame, 1.0)
        while (want := session.wants()) is not None:
            assert 1 <= want.first_seq <= want.first_seq + want.count - 1 <= view.last_seq
            effects += session.fetched(want.first_seq, [JSON[0]] * want.count, 1.0)
        assert 0 <= session.in_flight <= view.last_seq
    for effect in effects:
        if isinstance(effect, Send):
            wire.decode_from_sled(effect.data)
    return _said(effects, Accepted)


def peer(data: bytes) -> Outcome:
    """What one gateway sends to another."""
    session = PeerSession(gateway_id=KEY, nonce=NONCE, sign=_sign, verify=_verify, now=0.0)
    effects: _Effects = [*session.start()]
    for frame in data.split(b"\n"):
        came: _Effects = [*session.receive(frame, 1.0)]
        for effect in came:
            effects.append(effect)
            if isinstance(effect, Greeted):
                effects += session.announce(())
                effects.append(session.send_runs([_RUN], JSON[0], 1.0))
            elif isinstance(effect, TakeRuns):
                again = codec.encode_batch(effect.runs.events)
                assert codec.encode_batch(codec.decode_batch(again)) == again
            elif isinstance(effect, Announced):
                assert all(sequence.number > 0 for sequence in effect.sequences)
        assert session.unacked_bytes >= 0
    for effect in effects:
        if isinstance(effect, Send):
            peer_wire.decode(effect.data)
    return _said(effects, AllAnnounced)


def _lines(*frames: wire.SledFrame | wire.GatewayFrame | peer_wire.Frame) -> bytes:
    return b"\n".join(msgspec.json.encode(frame) for frame in frames)


_HELLO: Final = wire.Hello(
    project="web-shop", sled_id=KEY, epoch=EPOCH, last_seq=41, signature=SIGNATURE, copies=2,
    previous=[wire.PreviousEpoch(epoch=EPOCH[::-1], last_seq=29)],
)  # fmt: skip
_STORY: Final = wire.SnapshotStory(story_id="1_bug_x", story_name="X", stage="3_qa", blocked="no")
_FROM_SLED: Final = (
    _lines(
        _HELLO,
        wire.Events(first_seq=1, events=list(EVENTS)),
        wire.Events(first_seq=6, events=list(EVENTS[:2])),
        wire.Snapshot(seq=7, stories=[_STORY]),
    ),
    _lines(_HELLO, wire.Snapshot(seq=0, stories=[])),
)
_CHALLENGE: Final = wire.Challenge(gateway_id=OTHER_KEY, nonce=NONCE, signature=SIGNATURE)
_FROM_GATEWAY: Final = (
    _lines(
        _CHALLENGE, wire.Welcome(last_seq=3, max_in_flight=5), wire.Ack(seq=8), wire.Ack(seq=8, held=4),
        wire.Ack(seq=20),
    ),
    _lines(_CHALLENGE, wire.Welcome(last_seq=20, max_in_flight=5_000, asked=[KEY])),
)  # fmt: skip
_REFUSALS: Final = tuple(
    msgspec.json.encode(wire.Refused(code=code, reason="why", expected=8, seq=5)) + b"\n"
    for code in ("gap", "conflict", "invalid", "superseded", "draining", "unauthorized")
)
_RUN: Final = peer_wire.SentRun(1, 1, 1, 5, 0, 0, 7)
_GREETING: Final = (
    peer_wire.Hello(gateway_id=OTHER_KEY, nonce=NONCE),
    peer_wire.Proof(signature=SIGNATURE),
    peer_wire.Sequences(sequences=[peer_wire.Sequence(1, KEY, EPOCH, "web-shop", 5, 77, 9)]),
    peer_wire.Ready(),
)
_FROM_PEER: Final = (
    _lines(
        *_GREETING,
        peer_wire.Base(number=1, seq=1, digest=3),
        peer_wire.Runs(
            frame=1,
            runs=[peer_wire.SentRun(1, 1, 5, 9, 0, 0, 77)],
            events=list(EVENTS),
        ),
        peer_wire.Ack(frame=1),
        peer_wire.Again(number=1),
    ),
    _lines(
        *_GREETING,
        peer_wire.Board(
            number=1, seq=5, received_ms=9,
            stories=[peer_wire.BoardStory(story_id="1_bug_x", stage="3_qa", blocked_since_ms=4)],
        ),
        peer_wire.Presence(gateway_id=KEY, version=3, present=[peer_wire.Present("web-shop", 4)]),
        peer_wire.Fetch(sled_id=KEY, epoch=EPOCH, first_seq=1, last_seq=9),
        peer_wire.Fetched(sled_id=KEY, epoch=EPOCH, first_seq=1, events=list(EVENTS)),
        peer_wire.Ask(number=1, sled_id=KEY, epoch=EPOCH, asked=[OTHER_KEY]),
        peer_wire.Answer(number=1, last_seq=5, complete=True, asked=[KEY]),
    ),
)  # fmt: skip

TARGETS: Final = (
    Target(name="frames-of-sleds", opened=always(gateway), seeds=_FROM_SLED, words=WORDS, inputs=100_000),
    Target(
        name="frames-of-gateways", opened=always(sled), seeds=_FROM_GATEWAY, words=_REFUSALS, inputs=100_000
    ),
    Target(name="frames-of-peers", opened=always(peer), seeds=_FROM_PEER, words=WORDS, inputs=100_000),
)
