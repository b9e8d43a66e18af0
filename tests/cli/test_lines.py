from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from huskies.cli.lines import LinePrinter, Received, describe

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
