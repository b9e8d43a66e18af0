"""The SSH key of who runs this: the public half, which may log in where nothing else is said."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from huskies.containers.errors import InvalidProjectError
from huskies.containers.wanted import is_ssh_key

# In the order in which ssh itself tries them.
_NAMES: Final = ("id_rsa.pub", "id_ecdsa.pub", "id_ecdsa_sk.pub", "id_ed25519.pub", "id_ed25519_sk.pub")
_BYTES_MAX: Final = 20_000


def own_ssh_key(home: Path) -> str | None:
    """The first public key in `home`'s `.ssh`; None where there is none."""
    for name in _NAMES:
        try:
            return read_ssh_key(home / ".ssh" / name)
        except InvalidProjectError:
            continue
    return None


def read_ssh_key(path: Path) -> str:
    """The public key in a file; raises `InvalidProjectError`, which shows none of it: it may be private."""
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX).decode().strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidProjectError(f"{path}: cannot be read: {reason}") from None
    if not is_ssh_key(text):
        raise InvalidProjectError(
            f"{path}: expected one OpenSSH public key, such as in ~/.ssh/id_ed25519.pub"
        )
    return text
