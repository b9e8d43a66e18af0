from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from huskies import logs

SECRET = 'hush"hush'


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    logging.getLogger("aiohttp.access").disabled = False


def fail(text: str) -> None:
    raise ValueError(text)


def logged(*, as_json: bool, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(level=level, as_json=as_json, stream=stream)
    return stream


def test_a_line_for_people() -> None:
    stream = logged(as_json=False)
    logging.getLogger("huskies.gateway").info(
        "admitted %s", "web-shop", extra={"project": "web-shop", "seq": 3}
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO    huskies\.gateway: admitted web-shop "
        r"\(project=web-shop, seq=3\)\n",
        stream.getvalue(),
    )


def test_a_line_of_json() -> None:
    stream = logged(as_json=True)
    logging.getLogger("huskies.gateway").warning(
        "refused", extra={"project": "web-shop", "seq": 3, "why": None}
    )
    entry = json.loads(stream.getvalue())
    assert entry.pop("ts").endswith("+00:00")
    assert entry == {
        "level": "warning",
        "logger": "huskies.gateway",
        "message": "refused",
        "project": "web-shop",
        "seq": 3,
        "why": None,
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_below_the_level_is_left_out(*, as_json: bool) -> None:
    stream = logged(as_json=as_json, level="error")
    logging.getLogger("huskies").warning("not shown")
    assert stream.getvalue() == ""


def test_access_lines_are_off() -> None:
    stream = logged(as_json=False, level="debug")
    logging.getLogger("aiohttp.access").error("GET /gateway/events/push?token=x")
    assert stream.getvalue() == ""


def test_python_warnings_are_logged() -> None:
    stream = logged(as_json=False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("careful", stacklevel=1)
    assert "careful" in stream.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_never_appear(*, as_json: bool) -> None:
    stream = logged(as_json=as_json)
    logs.register_secret(SECRET)
    log = logging.getLogger("huskies")
    log.info("token %s", SECRET, extra={"header": f"Bearer {SECRET}"})
    try:
        fail(f"cannot use {SECRET}")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "hush" not in text
    assert "cannot use ***" in text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': '***'}"),
        ("(b'authorization', b'Bearer abc')", "(b'authorization', b'***')"),
        ("sent bearer abc-_~+/= to it", "sent bearer *** to it"),
        (
            "GET /gateway/events/push?token=abc&project=web-shop",
            "GET /gateway/events/push?token=***&project=web-shop",
        ),
        ('{"token":"abc","expires_in":60}', '{"token":"***","expires_in":60}'),
        ("http://me:password@gateway/", "http://***@gateway/"),
        ("a token: unknown, used or expired", "a token: unknown, used or expired"),
        ("http://gateway/path@2", "http://gateway/path@2"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, redacted: str) -> None:
    assert logs.redact(text) == redacted


def test_a_secret_that_contains_another_goes_whole() -> None:
    logs.register_secret("abcdefgh")
    logs.register_secret("abcdefghijk")
    assert logs.redact("abcdefghijk abcdefgh") == "*** ***"


def test_what_is_too_short_to_be_secret_garbles_nothing() -> None:
    logs.register_secret("x")
    assert logs.redact("an x in the text") == "an x in the text"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße 🐕 → ok", "Grüße 🐕 → ok"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("one\ntwo\r\tthree\x00", "one\\ntwo\\r\\tthree\\x00"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("turned \u202eback", "turned \\u202eback"),
        ("lone \udce9", "lone \\udce9"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert logs.printable(text) == shown


def test_a_log_line_cannot_forge_another() -> None:
    stream = logged(as_json=False)
    logging.getLogger("huskies").info("name %s", "x\n2026-01-01 INFO forged", extra={"story": "\x1b[2J"})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_keeps_its_lines() -> None:
    stream = logged(as_json=False)
    try:
        fail("boom")
    except ValueError:
        logging.getLogger("huskies").exception("failed")
    assert stream.getvalue().splitlines()[1] == "Traceback (most recent call last):"
    assert stream.getvalue().splitlines()[-1] == "ValueError: boom"
