from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from huskies.cli import client
from huskies.cli.board import show
from huskies.cli.client import GatewayRefusedError
from huskies.cli.lines import LinePrinter
from huskies.cli.status import projects_in
from huskies.errors import HuskiesError
from huskies.readers.fleet import Received
from huskies.readers.happening import describe

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
CLOCK = AT.astimezone().strftime("%H:%M:%S")
MS = int(AT.timestamp() * 1_000)


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"type": "stage_transition", "from_stage": "2_current", "to_stage": "3_qa"}, "2_current → 3_qa"),
        ({"type": "stage_transition", "from_stage": "3_qa", "to_stage": "3_qa"}, "goes on in 3_qa"),
        ({"type": "story_blocked", "reason": "no key"}, "BLOCKED: no key"),
        ({"type": "merge_failure", "reason": "a\nb"}, "MERGE FAILED: a\\nb"),
        ({"type": "rate_limit_warning", "agent_name": "coder"}, "coder is close to its rate limit"),
        (
            {"type": "rate_limit_hard_block", "agent_name": "coder", "reset_at": "2026-01-31T12:00:00Z"},
            f"coder is rate limited until {CLOCK}",
        ),
        (
            {"type": "rate_limit_hard_block", "agent_name": "coder", "reset_at": "?"},
            "coder is rate limited until ?",
        ),
        ({"type": "from_the_future", "x": 1}, "from_the_future"),
        ({"type": "stage_transition", "from_stage": "2_current"}, "stage_transition"),
    ],
)
def test_every_kind_is_shown(event: dict[str, Any], shown: str) -> None:
    received = Received("web-shop", {"story_id": "42_story_login", "timestamp_ms": MS, **event})
    assert describe(received, AT) == f"{CLOCK}  web-shop  42_story_login  {shown}"


def test_the_storys_name_and_a_replay_are_shown() -> None:
    event = {
        "type": "story_blocked",
        "story_id": "42",
        "story_name": "Log\x1b[1min",
        "reason": "x",
        "timestamp_ms": MS,
    }
    line = describe(Received("web-shop", event, replayed=True), AT)
    assert line == f'{CLOCK}  web-shop  42  BLOCKED: x  "Log\\x1b[1min"  (replayed)'


def test_an_event_that_cannot_be_read_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    LinePrinter(as_json=False).event(b"{")
    assert "an event that cannot be shown" in capsys.readouterr().err


def test_json_is_passed_on_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    data = '{"cursor":"x", "event":{"type":"new"},"extra":"Grüße"}'
    LinePrinter(as_json=True).event(data.encode())
    assert capsys.readouterr().out == data + "\n"


@pytest.mark.parametrize("mark", ["\x1b[2J", "\x9b2J", "\x7f", "\u202e"])
def test_json_drives_no_terminal_and_means_the_same(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    event = {"story_name": f"a{mark}b"}
    # As a gateway writes it: what is above ASCII as it is.
    LinePrinter(as_json=True).event(msgspec.json.encode(event))
    out = capsys.readouterr().out
    assert mark[0] not in out
    assert json.loads(out) == event


def test_what_is_no_json_drives_no_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    LinePrinter(as_json=True).event(b"\x1b[2J\xff\n{}")
    assert capsys.readouterr().out == "\\u001b[2J\\xff {}\n"


@pytest.mark.parametrize("data", [b"[" * 5_000, b'{"event":' * 5_000])
def test_what_is_nested_without_end_is_no_end(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    LinePrinter(as_json=False).event(data)
    assert "an event that cannot be shown" in capsys.readouterr().err
    assert client._problem_in(data, "Bad Gateway").endswith("Check --gateway-url")
    with pytest.raises(GatewayRefusedError):
        projects_in(data, "http://gateway.example")


def test_a_board_that_cannot_be_shown_is_said_in_one_line() -> None:
    with pytest.raises(HuskiesError, match="unknown here"):
        show([b'{"name":1}'], "http://gateway.example", 0)
