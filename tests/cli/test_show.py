"""`huskies show` against a real gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.gateway_process import EVENT_MS, Gateway, blocked

if TYPE_CHECKING:
    from tests.cli.conftest import Open, Run, Start


def moved(number: int, after: str, minute: int) -> dict[str, object]:
    return {
        "type": "stage_transition",
        "story_id": f"{number}_story_x",
        "story_name": "",
        "from_stage": "1_backlog",
        "to_stage": after,
        "timestamp_ms": EVENT_MS + minute * 60_000,
    }


def settled(start: Start, gateway: Gateway, last: str) -> None:
    """Wait until the gateway shows what was pushed: an older sled is told nothing of what was stored."""
    start("tail", "--gateway-url", gateway.url, "--after", "0").line(last)


def test_show_prints_a_life(start: Start, huskies: Run, gateway: Gateway) -> None:
    gateway.push(moved(1, "2_current", 0), blocked(1, EVENT_MS + 60_000), moved(1, "3_qa", 61))
    settled(start, gateway, "3_qa")
    shown = huskies("show", "1", "--gateway-url", gateway.url)
    assert (shown.status, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == "1_story_x  Story 1"
    assert "Blocked once, 1 h in all" in lines
    assert "  2_current  1 h 1 min" in lines
    assert "\x1b" not in shown.stdout
    told = json.loads(huskies("show", "1", "--json", "--gateway-url", gateway.url).stdout)
    assert (told["project"], told["story"]["stage"], told["blocked_ms"]) == ("web-shop", "3_qa", 3_600_000)
    assert [event["event"]["type"] for event in told["events"]] == [
        "stage_transition", "story_blocked", "stage_transition",
    ]  # fmt: skip


def test_show_says_what_to_type_where_several_are_meant(start: Start, huskies: Run, gateway: Gateway) -> None:
    gateway.push(blocked(1), blocked(2))
    settled(start, gateway, "2_story_x")
    outcome = huskies("show", "story", "--gateway-url", gateway.url)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "type one of `huskies show 1_story_x`, `huskies show 2_story_x`" in outcome.stderr
    assert huskies("show", "9_story_gone", "--gateway-url", gateway.url).status == 2


def test_on_a_terminal_it_is_coloured_and_names_drive_nothing(
    gateway: Gateway, terminal: Open, start: Start
) -> None:
    gateway.push({**blocked(1), "story_name": "\x1b[2J[bold]"})
    settled(start, gateway, "1_story_x")
    screen = terminal("show", "1", "--gateway-url", gateway.url)
    screen.shows("\\x1b[2J[bold]", "BLOCKED for", "Events: 1")
    assert screen.end() == 0
    assert b"\x1b[1m" in screen.written
    assert b"\x1b[2J" not in screen.written
