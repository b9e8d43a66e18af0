"""Ed25519 signatures, as sleds and gateways check each other's."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def is_signed(public_key_hex: str, signature: bytes, text: bytes) -> bool:
    """Whether an Ed25519 signature of this key holds."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key_hex)).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
