"""`bot.toml` in the gateway's data directory: which account the bot is, where it is, and whom it obeys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from huskies.config import warn_if_others_can_read
from huskies.errors import ConfigError
from huskies.logs import register_secret
from huskies.toml_file import place, read, reason, refuse
from huskies.urls import is_base_url

BOT_FILE: Final = "bot.toml"
CHANNEL_NAME: Final = "matrix"
# Have no flags: the arguments of a process are there for every user of the machine to read.
PASSWORD_VARIABLE: Final = "HUSKIES_MATRIX_PASSWORD"  # noqa: S105 - a variable's name
ACCESS_TOKEN_VARIABLE: Final = "HUSKIES_MATRIX_ACCESS_TOKEN"  # noqa: S105 - a variable's name

_LOCAL_PART: Final = r"[a-z0-9._=/+-]+"
_USERNAME: Final = re.compile(rf"{_LOCAL_PART}|@{_LOCAL_PART}:[^\s:]+(?::\d+)?")
# The local parts of old accounts may hold anything.
_USER_ID: Final = re.compile(r"@[^\s:]+:\S+")
_ROOM_ID: Final = re.compile(r"![^\s]+")
_FINGERPRINT: Final = re.compile(r"[A-Za-z0-9+/]{43}")

_HOMESERVER_RULE: Final = "expected the homeserver's URL of http or https, such as https://matrix.example"
_USERNAME_RULE: Final = "expected the bot's account, such as huskies or @huskies:matrix.example"
_ROOM_RULE: Final = (
    "expected room ids, such as !abc:matrix.example (not aliases: the room's settings show its id)"
)
_USER_RULE: Final = "expected whole user ids, such as @ann:matrix.example"
_DEVICE_RULE: Final = "expected devices' ed25519 fingerprints: 43 letters and digits, as clients show them"
_NAME_RULE: Final = "expected a name of at most 64 characters on one line"
_NAME_MAX: Final = 64

EncryptTo = Literal["all", "listed"]


class BotFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's shape; None is "not said"."""

    homeserver: str | None = None
    username: str | None = None
    name: str | None = None
    password_file: str | None = None
    access_token_file: str | None = None
    room_ids: list[str] = []
    allowed_users: list[str] = []
    encrypt_to: EncryptTo = "all"
    devices: list[str] = []


class BotSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the bot is started with.

    Exactly one of `password` and `access_token` is set. `name`: what it is called beside its account's own
    names. `room_ids` are the rooms that are told things. Nobody outside
    `allowed_users` is answered. `encrypt_to`: whether every device of a room's members can read what it says
    in encrypted rooms, or only those whose fingerprints are in `devices`; then it also obeys only those.
    """

    homeserver: str
    username: str
    name: str | None = None
    password: str | None = None
    access_token: str | None = None
    room_ids: tuple[str, ...] = ()
    allowed_users: frozenset[str] = frozenset()
    encrypt_to: EncryptTo = "all"
    devices: frozenset[str] = frozenset()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What each of `room_ids` is called as a channel: `matrix`, then `matrix-2` and so on."""
        return tuple(
            CHANNEL_NAME if number == 1 else f"{CHANNEL_NAME}-{number}"
            for number in range(1, len(self.room_ids) + 1)
        )

    def __repr__(self) -> str:
        # The secrets are left out, and a repr ends up in logs.
        return f"BotSettings(homeserver={self.homeserver!r}, username={self.username!r})"


def load_bot(data_dir: Path, environ: Mapping[str, str]) -> BotSettings:
    """The settings of the bot of this gateway; raises `ConfigError` with the file, the key and the rule."""
    path = data_dir / BOT_FILE
    file = read(path, BotFile)
    if file.homeserver is None or not is_base_url(file.homeserver, ("http", "https")):
        refuse(path, "homeserver", _HOMESERVER_RULE)
    if file.username is None or not _USERNAME.fullmatch(file.username):
        refuse(path, "username", _USERNAME_RULE)
    if file.name is not None and not (0 < len(file.name.strip()) <= _NAME_MAX and file.name.isprintable()):
        refuse(path, "name", _NAME_RULE)
    _check_each(path, "room_ids", file.room_ids, _ROOM_ID, _ROOM_RULE)
    _check_each(path, "allowed_users", file.allowed_users, _USER_ID, _USER_RULE)
    # Clients show fingerprints in groups of four.
    devices = [device.replace(" ", "") for device in file.devices]
    _check_each(path, "devices", devices, _FINGERPRINT, _DEVICE_RULE)
    if file.encrypt_to == "listed" and not devices:
        refuse(
            path, "devices", f'with encrypt_to = "listed", {_DEVICE_RULE}; with none, nobody could read it'
        )
    password, access_token = _secrets(path, file, environ)
    return BotSettings(
        homeserver=file.homeserver.rstrip("/"),
        username=file.username,
        name=None if file.name is None else file.name.strip(),
        password=password,
        access_token=access_token,
        room_ids=tuple(dict.fromkeys(file.room_ids)),
        allowed_users=frozenset(file.allowed_users),
        encrypt_to=file.encrypt_to,
        devices=frozenset(devices),
    )


def _check_each(path: Path, key: str, values: list[str], pattern: re.Pattern[str], rule: str) -> None:
    for value in values:
        if not pattern.fullmatch(value):
            refuse(path, key, f"{rule}; got {value!r}")


def _secrets(path: Path, file: BotFile, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The password and the access token, one of which is None; raises `ConfigError`."""
    for variable, is_password in ((ACCESS_TOKEN_VARIABLE, False), (PASSWORD_VARIABLE, True)):
        if secret := environ.get(variable, "").strip():
            register_secret(secret)
            return (secret, None) if is_password else (None, _token(secret, variable))
    if file.password_file is not None and file.access_token_file is not None:
        refuse(path, "password_file", "expected this or access_token_file, got both; leave one out")
    if file.password_file is not None:
        return _secret_in(path, "password_file", file.password_file), None
    if file.access_token_file is not None:
        secret = _secret_in(path, "access_token_file", file.access_token_file)
        return None, _token(secret, place(path, "access_token_file"))
    raise ConfigError(
        place(path, "password_file"),
        f"expected this, access_token_file, {PASSWORD_VARIABLE} or {ACCESS_TOKEN_VARIABLE}: "
        "the bot must log in with something",
    )


def _token(secret: str, where: str) -> str:
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigError(where, "expected an access token: printable ASCII without spaces")
    return secret


def _secret_in(path: Path, key: str, name: str) -> str:
    where, secret_path = place(path, key), path.parent / name
    try:
        secret = secret_path.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        problem = f"cannot read {secret_path}: {reason(error)}; put the secret there, on one line"
        raise ConfigError(where, problem) from None
    if not secret or not secret.isprintable():
        raise ConfigError(where, f"expected {secret_path} to hold the secret, on one line")
    warn_if_others_can_read(secret_path)
    register_secret(secret)
    return secret
