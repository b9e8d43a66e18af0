"""Enrolling a sled with an invitation: both sides prove that they know its secret, which is never sent. Pure.

An invitation's code is `husky-invite-ID-SECRET`. What both derive from the secret keys an HMAC over what they
then know of each other: the sled's public key, and the gateway's, which the sled pins. So neither a gateway
that was never asked nor someone who listens or stands between them can take part.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from huskies.protocol.wire import KeyHex, ProjectName, SignatureHex

ENROL_PATH: Final = "/gateway/sleds"

_LABEL: Final = "huskies.enrol.v1"
_CODE: Final = re.compile(r"husky-invite-([0-9a-f]{8})-([A-Za-z0-9_-]{22,64})")

InviteId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
ProofHex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
SledState = Literal["active", "pending", "revoked"]


class Invitation(NamedTuple):
    """An invitation's id, which is no secret, and the key that its secret makes (32 bytes)."""

    id: str
    key: bytes


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a sled sends: that it knows the invitation (`proof`) and has the key (`signature`)."""

    invite: InviteId
    project: ProjectName
    sled_id: KeyHex
    nonce: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    proof: ProofHex
    signature: SignatureHex


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway answers: who it is, for which project, and that it knows the invitation, too.

    A `pending` sled waits for an operator's word: the project has another sled already.
    """

    gateway_id: KeyHex
    project: ProjectName
    state: SledState
    proof: ProofHex


def code(invite_id: str, secret: str) -> str:
    """An invitation as an operator passes it on."""
    return f"husky-invite-{invite_id}-{secret}"


def parse_code(text: str) -> Invitation | None:
    """The invitation that a code stands for; None where it is none."""
    found = _CODE.fullmatch(text.strip())
    return None if found is None else Invitation(found[1], key_of(found[2]))


def key_of(secret: str) -> bytes:
    """What both sides derive from the secret, and the gateway keeps of it."""
    return hashlib.sha256(secret.encode()).digest()


def sled_text(invite_id: str, project: str, sled_id: str, nonce: str) -> bytes:
    """What the sled proves and signs."""
    return f"{_LABEL}\nsled\n{invite_id}\n{project}\n{sled_id.lower()}\n{nonce}".encode()


def gateway_text(enrolment: Enrolment, gateway_id: str, project: str, state: str) -> bytes:
    """What the gateway proves."""
    own = (gateway_id.lower(), project, state)
    sleds = (enrolment.invite, enrolment.sled_id.lower(), enrolment.nonce)
    return "\n".join((_LABEL, "gateway", *sleds, *own)).encode()


def prove(key: bytes, text: bytes) -> str:
    """The proof that one knows the invitation: 64 hex digits."""
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def is_proof(key: bytes, text: bytes, proof: str) -> bool:
    """Whether it is that proof, compared in constant time."""
    return hmac.compare_digest(prove(key, text), proof)
