"""`huskies demo` under a real pseudo-terminal: real sleds, a real gateway, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from faults.processes import until

if TYPE_CHECKING:
    from tests.cli.conftest import Open, Run

QUICK = ("demo", "--projects", "2", "--port", "0", "--speed")


def asked(url: str, path: str) -> Any:
    request = urllib.request.Request(url + path, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def projects(url: str) -> list[Any]:
    found: list[Any] = asked(url, "/gateway/projects")["projects"]
    return found


def url_on(lines: list[str]) -> str:
    [line] = [line for line in lines if line.startswith("dashboard")]
    return line.split()[1]


def test_a_day_is_lived_and_nothing_is_left(terminal: Open, tmp_path: Path) -> None:
    screen = terminal(*QUICK, "4800", columns=200, rows=60, TMPDIR=str(tmp_path))
    url = url_on(screen.shows("DEMONSTRATION: 2 made-up projects", "huskies top", "Ctrl-C ends it"))
    lines = screen.shows("demo-web-shop is cut off", "demo-web-shop is back", "the day is over")
    assert f"export HUSKIES_GATEWAY_URL={url}" in "\n".join(lines)
    # The last of it may have come only just now.
    until(lambda: all(each["outstanding"] == 0 for each in projects(url)), "both delivered all of it")
    page = asked(url, "/gateway/events?limit=1000")
    assert {event["project"] for event in page["events"]} == {"demo-web-shop", "demo-billing"}
    assert {event["event"]["type"] for event in page["events"]} >= {"stage_transition"}
    # What was recorded while the sled was cut off is told as history, and nothing else.
    assert {event["project"] for event in page["events"] if event["replayed"]} == {"demo-web-shop"}
    assert [each["connected"] for each in projects(url)] == [True, True]
    screen.type("\x03")
    assert screen.end() == 0
    assert list(tmp_path.iterdir()) == []


def test_sigterm_in_the_middle_of_the_day_leaves_nothing(terminal: Open, tmp_path: Path) -> None:
    screen = terminal(*QUICK, "1", TMPDIR=str(tmp_path))
    screen.shows("Ctrl-C ends it")
    assert screen.end(signal.SIGTERM) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_by_one_that_was_killed_is_removed_by_the_next(terminal: Open, tmp_path: Path) -> None:
    killed = terminal(*QUICK, "1", TMPDIR=str(tmp_path))
    killed.shows("Ctrl-C ends it")
    killed.end(signal.SIGKILL)
    [left] = tmp_path.iterdir()
    os.utime(left, (0, 0))
    screen = terminal(*QUICK, "1", TMPDIR=str(tmp_path))
    screen.shows("Ctrl-C ends it")
    assert not left.exists()
    assert screen.end(signal.SIGINT) == 0


@pytest.mark.parametrize("arguments", [("--speed", "0"), ("--projects", "0"), ("--projects", "1000")])
def test_what_cannot_be_is_refused(huskies: Run, arguments: tuple[str, ...]) -> None:
    outcome = huskies("demo", *arguments)
    assert outcome.status == 2
    assert "is not in the range" in outcome.stderr
