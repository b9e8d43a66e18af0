from __future__ import annotations

import base64
from datetime import time
from pathlib import Path

import pytest

from huskies import logs
from huskies.errors import ConfigError
from huskies.notify.rules import Escalation
from huskies.notify.settings import NotifySettings, load_settings

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()


@pytest.fixture(autouse=True)
def _nothing_left_from_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_registered", set())


def load(directory: Path, text: str, *default_channels: str) -> NotifySettings:
    (directory / "notify.toml").write_text(text)
    (directory / "ops.secret").write_text(f"{SECRET}\n{OLD}\n")
    (directory / "phone.url").write_text("json://user:in-the-url@127.0.0.1/\n")
    return load_settings(directory, {"PHONE": "json://127.0.0.1/env"}, default_channels=default_channels)


OPS = '[channels.ops]\nwebhook = "https://hooks.example/in-the-url"\nsecret_file = "ops.secret"\n'


def test_without_a_file_the_bot_s_channel_is_told_of_what_needs_someone(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {}, default_channels=("matrix",))
    held_up, limited = settings.rules
    assert held_up.events == {"story_blocked", "merge_failure"}
    assert limited.events == {"rate_limit_hard_block"}
    assert limited.urgent
    assert held_up.channels == limited.channels == ("matrix",)
    assert settings.channels == ()


def test_without_rules_all_channels_are_told_or_the_bot_s_where_there_is_one(tmp_path: Path) -> None:
    phone = '[channels.phone]\napprise_env = "PHONE"\n'
    assert load(tmp_path, OPS + phone).rules[0].channels == ("ops", "phone")
    assert load(tmp_path, OPS + phone, "matrix").rules[0].channels == ("matrix",)


def test_everything_said(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f"""
time_zone = "Europe/Berlin"
quiet = "22:00-07:00"

{OPS}
doubtful = "leave"

[channels.phone]
apprise_file = "phone.url"

[[rules]]
projects = ["web-*", "!web-demo"]
channels = ["ops"]
every = "10m"
escalate = [{{ after = "30m", to = "phone" }}]
doubtful = "resend"

[[rules]]
events = ["stage_transition"]
digest = "1h"
quiet = ""
resolved = false
urgent = true
""",
    )
    ops, phone = settings.channels
    assert (ops.secrets, ops.doubtful) == ((b"k" * 32, b"o" * 32), "leave")
    assert phone.apprise == "json://user:in-the-url@127.0.0.1/"
    assert "in-the-url" not in repr(settings)
    # What is secret does not appear in what is logged.
    assert logs.redact(f"{SECRET} https://hooks.example/in-the-url") == "*** ***"
    first, second = settings.rules
    assert first.is_of("web-shop")
    assert not first.is_of("web-demo")
    assert first.quiet is not None
    assert (first.quiet.start, first.quiet.end) == (time(22), time(7))
    assert (first.every_ms, first.doubtful) == (600_000, "resend")
    assert first.escalate == (Escalation(1_800_000, "phone"),)
    assert (second.channels, second.digest_ms, second.quiet) == (("ops", "phone"), 3_600_000, None)
    assert (second.resolved, second.urgent) == (False, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("channels = 1", "channels: expected a table, got a whole number"),
        ("[chanels.x]", "chanels: unknown key; expected one of time_zone, quiet, channels, rules"),
        ("[channels.x]\nurl = 1", "channels.x.url: unknown key; expected one of webhook, secret_file"),
        ("[channels.x]", "channels.x: expected one of webhook, apprise_file, apprise_env"),
        ('[channels."a b"]', 'channels."a b": expected a name without spaces and slashes'),
        ('[channels.x]\nwebhook = "http://x"', "channels.x.secret_file: is missing"),
        (
            '[channels.x]\nwebhook = "in-the-url"\nsecret_file = "a"',
            "channels.x.webhook: expected an http or",
        ),
        ('[channels.x]\nwebhook = "http://x"\nsecret_file = "none"', "channels.x.secret_file: cannot read"),
        (
            '[channels.x]\nwebhook = "http://x"\nsecret_file = "phone.url"',
            "channels.x.secret_file: expected whsec_",
        ),
        (
            '[channels.x]\napprise_env = "NONE"',
            "channels.x.apprise_env: the environment variable NONE is not",
        ),
        (
            '[channels.x]\napprise_file = "ops.secret"',
            "channels.x: expected one URL that Apprise understands",
        ),
        (
            '[channels.x]\napprise_env = "PHONE"\nsecret_file = "a"',
            "channels.x.secret_file: goes with webhook",
        ),
        ('[channels.matrix]\napprise_env = "PHONE"', "channels.matrix: expected another name"),
        ('time_zone = "Mars/Olympus"', "time_zone: expected a time zone such as Europe/Berlin; got"),
        ('time_zone = "../../etc/passwd"', "time_zone: expected a time zone such as Europe/Berlin; got"),
        ('quiet = "22:00-07:00"', "time_zone: expected a time zone such as Europe/Berlin beside quiet hours"),
        ('time_zone = "UTC"\nquiet = "22-7"', "quiet: expected quiet hours such as 22:00-07:00; got '22-7'"),
        ('[[rules]]\nevents = ["blocked"]', "rules[1].events: expected some of stage_transition, "),
        (
            '[[rules]]\nchannels = ["x"]',
            "rules[1].channels: expected channels that are defined (matrix); got 'x'",
        ),
        (
            '[[rules]]\n[[rules]]\nevery = "soon"',
            "rules[2].every: expected a duration such as 30s, 10m or 2h",
        ),
        ('[[rules]]\nevery = "2d"', "rules[1].every: expected a day at most; got '2d'"),
        ('[[rules]]\ndoubtful = "perhaps"', "rules[1].doubtful: expected resend or leave; got 'perhaps'"),
        ("[[rules]]\nescalate = [{ after = '1h' }]", "rules.escalate"),
        (
            "[[rules]]\nescalate = [{ after = '1h', to = 'x' }]",
            "rules[1].channels: expected channels that are",
        ),
        ("[[rules]]\nescalate = [{ after = '1h', on = 'x', to = 'x' }]", "rules.escalate.on: unknown key"),
        (
            "[[rules]]\nevents = ['stage_transition']\nescalate = [{ after = '1h', to = 'matrix' }]",
            "rules[1].escalate: goes with story_blocked and merge_failure alone",
        ),
        ("rules = [", "expected TOML"),
    ],
)
def test_what_cannot_be_used_is_said_with_file_key_and_what_was_expected(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, "matrix")
    assert str(caught.value).startswith(f"{tmp_path / 'notify.toml'}: {problem}")
    assert "in-the-url" not in str(caught.value)
    assert "\n" not in str(caught.value)
