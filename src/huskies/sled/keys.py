"""The sled's Ed25519 keys: one owner-only file each, named by the public key.

Which key is the current one is decided by the outbox, in the transaction that opens an epoch; a file is
written before that transaction and removed after it, so that a crash leaves at worst a file that nothing
refers to.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huskies.errors import ConfigError, StoreError
from huskies.storage.files import create_private_file, sync_directory

_SUFFIX: Final = ".key"


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """A key and the project it belongs to (SPEC 5, rule 6); `private_key` is 32 bytes in hex."""

    project: str
    place: str
    private_key: str


class Keyring:
    """The keys under `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, sled_id: str) -> Ed25519PrivateKey:
        """The private key of `sled_id`; raises `ConfigError` where there is none or it is damaged."""
        path = self._path(sled_id)
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(_read(path).private_key))
        if sled_id_of(key) != sled_id:
            raise ConfigError(str(path), "holds another key than its name says")
        return key

    def holds(self, sled_id: str) -> bool:
        """Whether the key of `sled_id` lies here."""
        return self._path(sled_id).exists()

    def create(self, project: str, place: str) -> str:
        """Make a key for the project at `place`, durably; returns its sled_id. Raises `StoreError`."""
        key = Ed25519PrivateKey.generate()
        sled_id = sled_id_of(key)
        content = _KeyFile(project=project, place=place, private_key=key.private_bytes_raw().hex())
        draft = self._directory / f"{secrets.token_hex(8)}.tmp"
        try:
            create_private_file(draft, msgspec.json.encode(content))
            draft.replace(self._path(sled_id))
            sync_directory(self._directory)
        except OSError as error:
            raise StoreError(f"{self._directory}: a new key cannot be written: {error.strerror}") from None
        return sled_id

    def find(self, project: str, place: str) -> str | None:
        """The sled_id of a key made for this project at this place, for an outbox that was lost."""
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            found = _read(path)
            if (found.project, found.place) == (project, place):
                return path.name.removesuffix(_SUFFIX)
        return None

    def keep_only(self, *sled_ids: str) -> None:
        """Remove what is not a key of these, as far as that can be done now."""
        keep = {self._path(sled_id) for sled_id in sled_ids}
        for path in self._directory.iterdir():
            if path not in keep:
                path.unlink(missing_ok=True)

    def _path(self, sled_id: str) -> Path:
        return self._directory / f"{sled_id}{_SUFFIX}"


def sled_id_of(key: Ed25519PrivateKey) -> str:
    """The public key in hex."""
    return key.public_key().public_bytes_raw().hex()


def _read(path: Path) -> _KeyFile:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_KeyFile)
    except OSError as error:
        raise ConfigError(
            str(path), f"the sled's key cannot be read: {os.strerror(error.errno or 0)}"
        ) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(str(path), f"is no key file: {error}") from None
