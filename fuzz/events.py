"""Events of older sleds, of v2, of POST /api/events and of the spool; an enrolment, an invitation."""

from __future__ import annotations

from typing import Final

import msgspec

from fuzz.samples import EPOCH, EVENTS, JSON, KEY, SIGNATURE, WORDS
from fuzz.target import Outcome, Target, always, refused, taken
from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.events.model import event_type
from huskies.events.words import problem_in_words
from huskies.protocol import enrolment
from huskies.protocol.enrolment import Enrolled, Enrolment
from huskies.sled.intake import entry_from, entry_of, parsed

_enrolment: Final = msgspec.json.Decoder(Enrolment)
_enrolled: Final = msgspec.json.Decoder(Enrolled)


def v1(data: bytes) -> Outcome:
    """A frame of an older sled; what is taken has a form that stays the same."""
    try:
        event = codec.decode_v1(data)
    except InvalidEventError as error:
        return refused(error.problem)
    again = codec.encode_relayed(event)
    assert codec.decode_v1(again) == event
    assert codec.encode_relayed(codec.decode_relayed(again)) == again
    return taken(event_type(event))


def batch(data: bytes) -> Outcome:
    """A list of events as v2 carries them; its form settles at once: the log compares by it."""
    try:
        events = codec.decode_batch(data)
    except InvalidEventError as error:
        return refused(f"{min(error.index, 1)} {error.problem}")
    again = codec.encode_batch(events)
    assert codec.encode_batch(codec.decode_batch(again)) == again
    return taken(" ".join(sorted({event_type(event) for event in events})))


def status(data: bytes) -> Outcome:
    """What POST /api/events takes; all of it can be recorded and relayed."""
    try:
        entry = entry_of(parsed(data), 1)
    except InvalidEventError as error:
        return refused(error.problem)
    assert codec.encode_relayed(codec.decode_relayed(entry.json)) == entry.json
    return taken(event_type(entry.event))


def spooled(data: bytes) -> Outcome:
    """A file that `emit` left."""
    try:
        entry = entry_from(data)
    except InvalidEventError as error:
        return refused(error.problem)
    codec.decode_relayed(entry.json)
    return taken(event_type(entry.event))


def enrol(data: bytes) -> Outcome:
    """What a sled sends to be enrolled, what a gateway answers, and an invitation that someone types."""
    code = enrolment.parse_code(data.decode("utf-8", "replace"))
    found: list[str] = [] if code is None else ["code"]
    problem = ""
    for decoder in (_enrolment, _enrolled):
        try:
            frame = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            problem += f"{problem_in_words(error)}; "
            continue
        assert type(frame) is type(decoder.decode(msgspec.json.encode(frame)))
        found.append(type(frame).__name__)
        if isinstance(frame, Enrolment):
            enrolment.sled_text(frame.invite, frame.project, frame.sled_id, frame.nonce)
            bytes.fromhex(frame.signature)
    return taken(" ".join(found)) if found else refused(problem)


_ENROLMENTS: Final = (
    msgspec.json.encode(
        Enrolment(
            invite="12ab34cd", project="web-shop", sled_id=KEY, nonce="0" * 64, proof="1" * 64,
            signature=SIGNATURE,
        )
    ),
    msgspec.json.encode(Enrolled(gateway_id=KEY, project="web-shop", state="active", proof="1" * 64)),
    enrolment.code("12ab34cd", "A" * 32).encode(),
)  # fmt: skip
_PLACES: Final = tuple(one[:-1] + b',"place":"/home/ann/shop"}' for one in JSON)

ENROLMENT: Final = _ENROLMENTS[0]

TARGETS: Final = (
    Target(name="event-v1", opened=always(v1), seeds=JSON[:3], words=WORDS),
    Target(
        name="event-batch",
        opened=always(batch),
        seeds=(codec.encode_batch(EVENTS), *(b"[%b]" % one for one in JSON)),
        words=WORDS,
    ),
    Target(name="event-posted", opened=always(status), seeds=JSON, words=WORDS),
    Target(name="event-spooled", opened=always(spooled), seeds=_PLACES, words=WORDS),
    Target(
        name="enrolment", opened=always(enrol), seeds=_ENROLMENTS, words=(EPOCH.encode(), b"husky-invite-")
    ),
)
