"""The frames of `huskies.relay.v2`, and the names that both sides of the wire share (SPEC 4 and 5)."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from huskies import limits
from huskies.events.model import RelayedEvent, Stage, StoredName, StoredReason, StoryId, TimestampMs

SUBPROTOCOL: Final = "huskies.relay.v2"
TOKENS_PATH: Final = "/gateway/tokens"
PUSH_PATH: Final = "/gateway/events/push"
EVENTS_PATH: Final = "/gateway/events"
PROJECTS_PATH: Final = "/gateway/projects"
READY_PATH: Final = "/readyz"

CLOSE_GOING_AWAY: Final = 1001
CLOSE_UNSUPPORTED: Final = 1003
CLOSE_NOT_JSON: Final = 1007
CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009

GAP: Final = "gap"
CONFLICT: Final = "conflict"
INVALID: Final = "invalid"
SUPERSEDED: Final = "superseded"
UNAUTHORIZED: Final = "unauthorized"
DRAINING: Final = "draining"

# SQLite's and every client's integers are at least this wide.
_INT_MAX: Final = 2**63 - 1
Seq: TypeAlias = Annotated[int, Meta(ge=0, le=_INT_MAX)]
FirstSeq: TypeAlias = Annotated[int, Meta(ge=1, le=_INT_MAX)]
KeyHex: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}\Z")]
SignatureHex: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{128}\Z")]
Epoch: TypeAlias = Annotated[
    str, Meta(pattern=rf"^[0-9a-fA-F]{{{limits.EPOCH_HEX_MIN},{limits.EPOCH_HEX_MAX}}}\Z")
]
ProjectName: TypeAlias = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._-]{{1,{limits.PROJECT_NAME_MAX}}}\Z")]


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    pass


class Challenge(_Frame, frozen=True, kw_only=True, tag="challenge"):
    """The gateway's first frame; `nonce` is fresh for each connection.

    `signature` (Huskies' own, optional): by the gateway's key, over `challenge_text`.
    """

    gateway_id: KeyHex
    nonce: Annotated[str, Meta(min_length=1, max_length=256)]
    signature: SignatureHex | None = None


class PreviousEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """An older epoch of the same sled, and the last seq of it that was not carried over."""

    epoch: Epoch
    last_seq: Seq


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """The sled's answer to the challenge; `last_seq` is the newest it has recorded in this epoch.

    `copies` (Huskies' own, optional): the sled keeps events until so many gateways hold them. `oldest`
    (likewise): what comes before it the sled no longer holds.
    """

    project: ProjectName
    sled_id: KeyHex
    epoch: Epoch
    last_seq: Seq
    signature: SignatureHex
    previous: Annotated[list[PreviousEpoch], Meta(max_length=limits.PREVIOUS_EPOCHS_MAX)] = []
    copies: Annotated[int, Meta(ge=1, le=limits.COPIES_MAX)] = 1
    oldest: FirstSeq = 1


class Welcome(_Frame, frozen=True, kw_only=True, tag="welcome"):
    """The gateway admits the sled; `last_seq` is the newest it holds of this epoch.

    `asked` (Huskies' own, optional): nor do these gateways hold more, by their own word; it is one of them.
    """

    last_seq: Seq
    max_in_flight: Annotated[int, Meta(ge=1, le=_INT_MAX)]
    asked: Annotated[list[KeyHex], Meta(max_length=limits.ASKED_MAX)] = []


class Events(_Frame, frozen=True, kw_only=True, tag="events"):
    """A batch of consecutive events, the first numbered `first_seq`."""

    first_seq: FirstSeq
    events: Annotated[list[RelayedEvent], Meta(min_length=1, max_length=limits.BATCH_EVENTS_MAX)]


class Ack(_Frame, frozen=True, kw_only=True, tag="ack"):
    """Everything up to `seq` is committed and fsynced in the gateway's log.

    `held` (Huskies' own, optional): at least `hello.copies` gateways hold everything up to it. It comes with
    an ack of the same `seq` again when it alone has advanced.
    """

    seq: Seq
    held: Seq | None = None


class SnapshotStory(msgspec.Struct, frozen=True, kw_only=True):
    """Where one story stands; `since_ms` (Huskies' own, optional) is when it entered its stage."""

    story_id: StoryId
    story_name: StoredName = ""
    stage: Stage
    blocked: StoredReason | None = None
    merge_failure: StoredReason | None = None
    since_ms: TimestampMs | None = None


class Snapshot(_Frame, frozen=True, kw_only=True, tag="snapshot"):
    """Where all of the project's stories stand as of `seq`."""

    seq: Seq
    stories: list[SnapshotStory]


class Refused(_Frame, frozen=True, kw_only=True, tag="refused"):
    """The gateway ends the session; `expected` comes with `gap`, `seq` with `conflict` and `invalid`."""

    code: str
    reason: str = ""
    expected: Seq | None = None
    seq: Seq | None = None


SledFrame: TypeAlias = Hello | Events | Snapshot
GatewayFrame: TypeAlias = Challenge | Welcome | Ack | Refused

_encoder = msgspec.json.Encoder()
_from_sled: msgspec.json.Decoder[SledFrame] = msgspec.json.Decoder(SledFrame)
_from_gateway: msgspec.json.Decoder[GatewayFrame] = msgspec.json.Decoder(GatewayFrame)


def encode(frame: SledFrame | GatewayFrame) -> bytes:
    """The frame as UTF-8 JSON."""
    return _encoder.encode(frame)


def encode_events(first_seq: int, events: list[bytes]) -> bytes:
    """An `events` frame out of events that are JSON already, as an outbox holds them."""
    return b'{"type":"events","first_seq":%d,"events":[%b]}' % (first_seq, b",".join(events))


def decode_from_sled(data: bytes) -> SledFrame:
    """A frame that a gateway receives; raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return _from_sled.decode(data)


def decode_from_gateway(data: bytes | str) -> GatewayFrame:
    """A frame that a sled receives; raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return _from_gateway.decode(data)


def signed_text(*, gateway_id: str, nonce: str, project: str, sled_id: str, epoch: str) -> bytes:
    """What `hello.signature` signs (SPEC 5)."""
    return f"{SUBPROTOCOL}\n{gateway_id}\n{nonce}\n{project}\n{sled_id}\n{epoch}".encode()


def challenge_text(*, gateway_id: str, nonce: str, project: str) -> bytes:
    """What `challenge.signature` signs: so nobody else can say that gateway's name."""
    return f"{SUBPROTOCOL} challenge\n{gateway_id}\n{nonce}\n{project}".encode()
