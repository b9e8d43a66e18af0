from __future__ import annotations

import json

import pytest

from huskies.cli.board import show

NOW = 1_800_000_000_000
HOUR = 3_600_000


def shown(capsys: pytest.CaptureFixture[str], *projects: dict[str, object]) -> list[str]:
    show([json.dumps(project).encode() for project in projects], "http://gateway:3000", NOW)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_an_empty_fleet_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == [
        "No project has joined http://gateway:3000 yet; start a sled with `huskies sled PROJECT_DIR`"
    ]


def test_what_is_stuck_comes_first_and_the_oldest_of_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    stuck = {"story_id": "2_bug_b", "stage": "3_qa", "blocked": "no [key]\n", "blocked_since_ms": NOW - HOUR}
    older = {
        "story_id": "1_bug_a",
        "story_name": "A",
        "stage": None,
        "since_ms": 0,
        "merge_failure_since_ms": NOW - 2 * HOUR,
        "merge_failure": "x",
    }
    fine = {"story_id": "3_bug_c", "stage": "3_qa", "since_ms": 0}
    lines = shown(
        capsys,
        {"name": "web-shop", "connected": True, "outstanding": 0, "stories": [stuck, fine]},
        {"name": "billing", "last_seen_ms": NOW - 5 * HOUR, "outstanding": None, "stories": [older]},
        {"name": "new"},
    )
    assert lines == [
        "needs attention story in for why",
        "billing 5 h silent: its sled is not connected; what happens there shows once it is back",
        "billing 1_bug_a A ? 2 h merge failed: x",
        "web-shop 2_bug_b qa 1 h blocked: no [key]\\n",
        "project sled unsent backlog current qa merge done archived other",
        "billing silent 5 h ? · · · · · · 1",
        "new never seen ? · · · · · · ·",
        "web-shop connected 0 · · 2 · · · ·",
    ]


def test_a_sled_in_trouble_needs_attention(capsys: pytest.CaptureFixture[str]) -> None:
    missing = [{"sled_id": "x", "epoch": "y", "first_seq": 3, "last_seq": 5}, {"first_seq": 9, "last_seq": 9}]
    lines = shown(
        capsys, {"name": "web-shop", "identity_used_twice": True, "missing": missing, "quarantined": missing}
    )
    assert lines[1:4] == [
        "web-shop identity used twice: two sleds run with one state directory; give one its own",
        "web-shop events lost: 4 that its sled recorded and no one holds any more",
        "web-shop in quarantine: 4 events of two sleds with one identity; give each its own",
    ]


def test_a_terminal_of_80_columns_shows_every_column_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    lines = shown(capsys, {"name": "a-project", "last_seen_ms": NOW - 59_000, "outstanding": 5_000})
    assert "project sled unsent backlog current qa merge done archived" in lines
    assert "a-project silent 59 s 5000 · · · · · ·" in lines
