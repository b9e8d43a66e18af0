"""Who the bot is at its homeserver: its device, which it keeps, and the keys of its store."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Final

import msgspec

from huskies.chat.settings import BotSettings
from huskies.errors import ConfigError
from huskies.logs import register_secret
from huskies.storage.files import create_private_file, ensure_private_directory, sync_directory
from huskies.toml_file import reason

DIRECTORY: Final = "matrix"
_FILE: Final = "account.json"
_DEVICE_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One login, kept across restarts.

    The device is named before the first login, so that a process which ends during it does not leave a second
    one behind. `store_key` encrypts the keys in the store, which lies beside this file: whoever has one but
    not the other has nothing.
    """

    homeserver: str
    username: str
    device_id: str
    store_key: str
    user_id: str | None = None
    access_token: str | None = None

    def __repr__(self) -> str:
        # The secrets are left out, and a repr ends up in logs.
        return f"Account(user_id={self.user_id!r}, device_id={self.device_id!r})"


def directory_of(data_dir: Path) -> Path:
    """Where the bot keeps what is its own, made where it is missing; raises `ConfigError`."""
    directory = data_dir / DIRECTORY
    try:
        ensure_private_directory(directory, parents=True)
    except OSError as error:
        raise ConfigError(str(directory), f"cannot be used: {reason(error)}; make it a directory") from None
    return directory


def load(directory: Path, settings: BotSettings) -> Account:
    """The account that was kept for these settings, or a new one; raises `ConfigError`."""
    path = directory / _FILE
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Account)
    except FileNotFoundError:
        return _new(settings)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {reason(error)}; make it a readable file") from None
    except (msgspec.DecodeError, UnicodeError):
        problem = "expected what the bot wrote there; remove the file, and it logs in as a new device"
        raise ConfigError(str(path), problem) from None
    register_secret(kept.store_key)
    if kept.access_token is not None:
        register_secret(kept.access_token)
    same = (kept.homeserver, kept.username) == (settings.homeserver, settings.username)
    return kept if same else _new(settings)


def save(directory: Path, account: Account) -> None:
    """Keep it, durably and owner-only; raises `OSError`."""
    path = directory / _FILE
    new = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    create_private_file(new, msgspec.json.encode(account))
    new.replace(path)
    sync_directory(directory)


def _new(settings: BotSettings) -> Account:
    device = "".join(secrets.choice(_DEVICE_LETTERS) for _ in range(8))
    key = secrets.token_hex(32)
    register_secret(key)
    return Account(
        homeserver=settings.homeserver,
        username=settings.username,
        device_id=f"HUSKIES{device}",
        store_key=key,
    )
