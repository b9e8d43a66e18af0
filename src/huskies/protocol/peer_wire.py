"""The frames of `huskies.peer.v1`, in which gateways send each other what is missing.

Both sides speak alike; who dialed makes no difference once the connection stands. A sequence is one
`(sled_id, epoch)`; each side gives those it speaks of numbers of its own, for this connection.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from huskies import limits
from huskies.events.model import RelayedEvent, TimestampMs
from huskies.protocol.wire import Epoch, FirstSeq, KeyHex, ProjectName, Seq, SignatureHex, SnapshotStory

SUBPROTOCOL: Final = "huskies.peer.v1"
PEERS_PATH: Final = "/gateway/peers"

DUPLICATE: Final = "duplicate"

Digest: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**31)]
# Far beyond what a sled can record, and far from where adding to it overflows.
_SEQ_MAX: Final = 2**53
_Seq: TypeAlias = Annotated[int, Meta(ge=1, le=_SEQ_MAX)]
_Ms: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    pass


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """The first frame of either side; the other proves its identity over `nonce`."""

    gateway_id: KeyHex
    nonce: Annotated[str, Meta(min_length=16, max_length=256)]


class Proof(_Frame, frozen=True, kw_only=True, tag="proof"):
    """An Ed25519 signature over `signed_text`."""

    signature: SignatureHex


class Sequence(msgspec.Struct, frozen=True, array_like=True):
    """One sequence as its sender holds it: how far, and the digest there.

    `closed_seq` is the last that its sled did not carry over to a newer epoch; where two branches of it have
    met, it is `contested`.
    """

    number: Number
    sled_id: KeyHex
    epoch: Epoch
    project: ProjectName
    last_seq: Seq
    digest: Digest
    closed_seq: Seq | None = None
    contested: bool = False


class Sequences(_Frame, frozen=True, kw_only=True, tag="sequences"):
    """Sequences that the sender holds, or is about to send of."""

    sequences: list[Sequence]


class Ready(_Frame, frozen=True, kw_only=True, tag="ready"):
    """The sender has named everything that it held when the connection began."""


class Base(_Frame, frozen=True, kw_only=True, tag="base"):
    """Nothing up to `seq` is retained here; the digest up to there is this."""

    number: Number
    seq: _Seq
    digest: Digest


class SentRun(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive events of one sequence; `before` and `after` are its digests around them.

    `received_ms` is when the first gateway received them; those up to `replayed_through` were replayed then.
    """

    number: Number
    first_seq: _Seq
    count: Annotated[int, Meta(ge=1, le=100_000)]
    received_ms: _Ms
    replayed_through: Seq
    before: Digest
    after: Digest


class Runs(_Frame, frozen=True, kw_only=True, tag="runs"):
    """Events of some sequences, one run after the other; frames are numbered from 1."""

    frame: FirstSeq
    runs: list[SentRun]
    events: list[RelayedEvent]


class Ack(_Frame, frozen=True, kw_only=True, tag="ack"):
    """Everything up to this frame is committed and fsynced, or known not to be wanted."""

    frame: FirstSeq


class Again(_Frame, frozen=True, kw_only=True, tag="again"):
    """Another branch of this sequence is held here: send all that is retained of it."""

    number: Number


class Fetch(_Frame, frozen=True, kw_only=True, tag="fetch"):
    """These events are damaged at the sender of this: send them back in a `fetched`."""

    sled_id: KeyHex
    epoch: Epoch
    first_seq: FirstSeq
    last_seq: FirstSeq


class Fetched(_Frame, frozen=True, kw_only=True, tag="fetched"):
    """What was asked for; no events where not all of it is held."""

    sled_id: KeyHex
    epoch: Epoch
    first_seq: FirstSeq
    events: list[RelayedEvent]


class Ask(_Frame, frozen=True, kw_only=True, tag="ask"):
    """A sled has come back to the sender of this: end its session, and say how far its epoch is held.

    Those in `asked` are asked by others; whoever else may hold something of it is to be asked in turn.
    """

    number: Number
    sled_id: KeyHex
    epoch: Epoch
    asked: Annotated[list[KeyHex], Meta(max_length=limits.ASKED_MAX)]


class Answer(_Frame, frozen=True, kw_only=True, tag="answer"):
    """How far the question's epoch is held there, or by whom it asked; `complete` if all of them said so.

    `asked`: who did, the sender among them.
    """

    number: Number
    last_seq: Seq
    complete: bool
    asked: Annotated[list[KeyHex], Meta(max_length=limits.ASKED_MAX)] = []


class BoardStory(SnapshotStory, frozen=True, kw_only=True, omit_defaults=True):
    """A story as the gateway that a sled told it to passes it on: with all that it knows since when."""

    blocked_since_ms: TimestampMs | None = None
    merge_failure_since_ms: TimestampMs | None = None


class Board(_Frame, frozen=True, kw_only=True, tag="board"):
    """Where all of a project's stories stood as of `seq`, by a snapshot that came at `received_ms`."""

    number: Number
    seq: Seq
    received_ms: _Ms
    stories: list[BoardStory]


class Present(msgspec.Struct, frozen=True, array_like=True):
    """A project whose sled is connected; `outstanding` is what it has recorded and the gateway lacks."""

    project: ProjectName
    outstanding: Seq | None


class Presence(_Frame, frozen=True, kw_only=True, tag="presence"):
    """The sleds that are connected to a gateway; passed on to others, of two the greater `version` counts."""

    gateway_id: KeyHex
    version: Seq
    present: list[Present]


class Refused(_Frame, frozen=True, kw_only=True, tag="refused"):
    """The sender ends the connection; a `duplicate` is one of two between the same gateways."""

    code: str
    reason: str = ""


Frame: TypeAlias = (
    Hello
    | Proof
    | Sequences
    | Ready
    | Base
    | Runs
    | Ack
    | Again
    | Board
    | Presence
    | Fetch
    | Fetched
    | Ask
    | Answer
    | Refused
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """The frame as UTF-8 JSON."""
    return _encoder.encode(frame)


def encode_runs(frame: int, runs: list[SentRun], events_json: bytes) -> bytes:
    """A `runs` frame out of events that are JSON already, separated by commas."""
    return b'{"type":"runs","frame":%d,"runs":%b,"events":[%b]}' % (frame, _encoder.encode(runs), events_json)


def decode(data: bytes | str) -> Frame:
    """A frame; raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return _decoder.decode(data)


def signed_text(*, prover: str, verifier: str, nonce: str) -> bytes:
    """What `proof.signature` signs: the gateway_ids of both, and the nonce of the one who verifies."""
    return f"{SUBPROTOCOL}\n{prover}\n{verifier}\n{nonce}".encode()
