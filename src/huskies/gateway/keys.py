"""The gateway's identity: an Ed25519 key in its directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huskies.errors import ConfigError
from huskies.storage.files import sync_directory

FILE_NAME: Final = "gateway.key"
_KEY_BYTES: Final = 32


def gateway_id(key: Ed25519PrivateKey) -> str:
    """The public key in hex."""
    return key.public_key().public_bytes_raw().hex()


def gateway_key(directory: Path) -> Ed25519PrivateKey:
    """The gateway's key; its public half in hex is the gateway_id. Made where the directory has none.

    Raises `ConfigError`.
    """
    path = directory / FILE_NAME
    try:
        secret = path.read_bytes() if path.exists() else _make(path)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be used: {error.strerror}") from None
    if len(secret) != _KEY_BYTES:
        raise ConfigError(
            str(path), f"expected {_KEY_BYTES} bytes, found {len(secret)}; restore it from a backup"
        )
    return Ed25519PrivateKey.from_private_bytes(secret)


def make_key(directory: Path) -> None:
    """Give the gateway a new key in the place of the one it has. Raises `ConfigError`."""
    path = directory / FILE_NAME
    try:
        _make(path)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from None


def _make(path: Path) -> bytes:
    secret = Ed25519PrivateKey.generate().private_bytes_raw()
    # Written aside and moved, so that a crash leaves either no key or a whole one.
    partial = path.with_suffix(".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_directory(path.parent)
    return secret
