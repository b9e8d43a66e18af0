from __future__ import annotations

import logging
from pathlib import Path

import pytest

from huskies import logs
from huskies.chat.settings import load_bot
from huskies.errors import ConfigError

BASE = 'homeserver = "https://matrix.example/"\nusername = "huskies"\n'
SECRET = "correct horse battery staple"


def write(directory: Path, text: str, secret: str | None = SECRET) -> Path:
    (directory / "bot.toml").write_text(text)
    if secret is not None:
        path = directory / "secret"
        path.write_text(f"{secret}\n")
        path.chmod(0o600)
    return directory


def test_everything_that_can_be_set(tmp_path: Path) -> None:
    text = BASE + (
        'password_file = "secret"\nname = "Hus"\nroom_ids = ["!a:x", "!b", "!a:x"]\n'
        'allowed_users = ["@ann:matrix.example", "@Bob/1:[::1]:8448"]\nencrypt_to = "listed"\n'
        'devices = ["' + " ".join(["abcd"] * 10) + ' xyz"]\n'
    )
    settings = load_bot(write(tmp_path, text), {})
    assert settings.homeserver == "https://matrix.example"
    assert (settings.password, settings.access_token) == (SECRET, None)
    assert settings.room_ids == ("!a:x", "!b")
    assert settings.devices == {"abcd" * 10 + "xyz"}
    assert SECRET not in repr(settings)
    assert logs.redact(f"a {SECRET}") == "a ***"


def test_the_environment_wins_over_files(tmp_path: Path) -> None:
    write(tmp_path, BASE + 'password_file = "missing"\n', None)
    token = load_bot(tmp_path, {"HUSKIES_MATRIX_ACCESS_TOKEN": " syt_abc \n"})
    assert (token.password, token.access_token) == (None, "syt_abc")
    password = load_bot(tmp_path, {"HUSKIES_MATRIX_PASSWORD": "p"})
    assert (password.password, password.access_token) == ("p", None)


def test_an_access_token_comes_from_a_file(tmp_path: Path) -> None:
    write(tmp_path, BASE + 'access_token_file = "secret"\n', "syt_abc")
    settings = load_bot(tmp_path, {})
    assert (settings.password, settings.access_token) == (None, "syt_abc")


def test_a_secret_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, BASE + 'password_file = "secret"\n')
    (tmp_path / "secret").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        load_bot(tmp_path, {})
    assert "others can read it" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('username = "x"', "homeserver", "URL of http or https"),
        ('homeserver = "ftp://x"\nusername = "x"', "homeserver", "URL of http or https"),
        ('homeserver = "https://x"', "username", "expected the bot's account"),
        ('homeserver = "https://x"\nusername = "a b"', "username", "expected the bot's account"),
        (BASE + 'room_ids = ["#alias:x"]', "room_ids", "not aliases"),
        (BASE + "room_ids = [1]", "room_ids", "a text"),
        (BASE + 'allowed_users = ["ann"]', "allowed_users", "whole user ids"),
        (BASE + 'allowed_users = "@ann:x"', "allowed_users", "a list"),
        (BASE + 'encrypt_to = "nobody"', "encrypt_to", "nobody"),
        (BASE + 'encrypt_to = "listed"', "devices", "nobody could read it"),
        (BASE + 'devices = ["abc"]', "devices", "fingerprints"),
        (BASE + 'name = ""', "name", "on one line"),
        (BASE + 'password = "x"', "password", "unknown key"),
        (BASE, "password_file", "HUSKIES_MATRIX_PASSWORD"),
        (BASE + 'password_file = "nowhere"', "password_file", "cannot read"),
        (BASE + 'password_file = "secret"\naccess_token_file = "secret"', "password_file", "got both"),
        (BASE + 'access_token_file = "secret"', "access_token_file", "without spaces"),
        ("homeserver = ", "bot.toml", "expected TOML"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_key(
    tmp_path: Path, text: str, key: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_bot(write(tmp_path, text), {})
    assert str(tmp_path / "bot.toml") in error.value.where
    assert error.value.where.endswith(key)
    assert expected in error.value.problem


def test_an_empty_secret_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="to hold the secret"):
        load_bot(write(tmp_path, BASE + 'password_file = "secret"\n', ""), {})
