"""`huskies status --watch` under a real pseudo-terminal, against a real gateway."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.support.gateway_process import Gateway, blocked

if TYPE_CHECKING:
    from tests.cli.conftest import Open, Run


def test_it_is_drawn_again_as_things_happen_and_across_a_restart(gateway: Gateway, terminal: Open) -> None:
    screen = terminal("status", "--watch", "--gateway-url", gateway.url)
    screen.shows("LIVE", "no event yet", "No project has joined")
    gateway.push(blocked(1))
    # Drawn in its place: what was there before is gone.
    screen.shows("LIVE", "last event", "needs attention", "reason 1", without=["No project has joined"])
    gateway.process.end()
    screen.shows("STALE since ", "trying again", "reason 1")
    gateway.start_again()
    gateway.push(blocked(2))
    screen.shows("LIVE", "reason 1", "reason 2")
    screen.type("\x03")
    assert screen.end() == 0
    # The terminal gets back what stood on it before.
    assert screen.written.count(b"\x1b[?1049h") == screen.written.count(b"\x1b[?1049l") == 1


def test_what_does_not_fit_is_said_and_a_larger_window_shows_it(gateway: Gateway, terminal: Open) -> None:
    gateway.push(*(blocked(number) for number in range(1, 31)))
    screen = terminal("status", "--watch", "--gateway-url", gateway.url)
    assert "more lines" in screen.shows("LIVE", "more lines; `huskies top` scrolls")[-1]
    screen.resize(200, 50)
    screen.shows("reason 1", "reason 30", "archived", without=["more lines"])
    assert screen.end(signal.SIGTERM) == 0


def test_names_and_reasons_drive_nothing(gateway: Gateway, terminal: Open) -> None:
    gateway.push({**blocked(1), "story_name": "[bold]x[/bold]\x1b[2J", "reason": "\x1b]0;title\x07[red]y"})
    screen = terminal("status", "--watch", "--gateway-url", gateway.url, columns=200)
    screen.shows("[bold]x[/bold]\\x1b[2J", "\\x1b]0;title\\x07[red]y")
    assert b"\x1b]0;" not in screen.written


def test_without_colour_nothing_is_coloured(gateway: Gateway, terminal: Open) -> None:
    gateway.push(blocked(1))
    screen = terminal("status", "--watch", "--gateway-url", gateway.url, NO_COLOR="1")
    screen.shows("LIVE", "reason 1")
    assert b"\x1b[31" not in screen.written
    assert b";31" not in screen.written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--watch",), "draws on a terminal, and stdout is none; take `huskies status` now and then"),
        (("--watch", "--json"), "take `huskies tail --json`"),
    ],
)
def test_where_there_is_no_terminal_it_says_what_to_do(
    huskies: Run, arguments: tuple[str, ...], said: str
) -> None:
    outcome = huskies("status", *arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert said in outcome.stderr


def test_without_a_gateway_it_ends_at_once(terminal: Open, unused_tcp_port: int) -> None:
    screen = terminal(
        "status", "--watch", "--gateway-url", f"http://127.0.0.1:{unused_tcp_port}", columns=200
    )
    screen.shows("no gateway answers", "start one with `huskies up`")
    assert screen.end() == 1
