"""Names of deliveries: the same for the same events and channel, at each attempt and after each restart."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

_DIGITS: Final = 32


def delivery_id(channel: str, what: str, *identities: str) -> str:
    """Lower-case hex, 32 digits: what is told of these events, in this channel."""
    return sha256("\n".join((channel, what, *identities)).encode()).hexdigest()[:_DIGITS]


def digest_with(digest: str, identity: str) -> str:
    """The digest of some identities, with one more."""
    return sha256(f"{digest}\n{identity}".encode()).hexdigest()
