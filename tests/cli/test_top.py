"""`huskies top` under a real pseudo-terminal, against a real gateway."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from tests.support.gateway_process import Gateway, blocked

if TYPE_CHECKING:
    from tests.cli.conftest import Open, Run


def test_it_is_live_says_when_it_is_not_and_goes_on_by_itself(gateway: Gateway, terminal: Open) -> None:
    screen = terminal("top", "--gateway-url", gateway.url)
    screen.shows("LIVE  0 need someone, 0 in flight, no event yet", "Nothing needs you.", "No project yet")
    gateway.push(blocked(1))
    lines = screen.shows("BLOCKED in ?", "reason 1", "1_story_x  BLOCKED: reason 1")
    assert any(line.startswith("!") and "web-shop" in line for line in lines)
    gateway.process.end()
    screen.shows("STALE since ", "trying again", "reason 1")
    gateway.start_again()
    gateway.push(blocked(2))
    screen.shows("LIVE", "reason 1", "reason 2")
    screen.type("q")
    assert screen.end() == 0
    assert screen.written.count(b"\x1b[?1049l") == 1


def test_every_key_does_what_the_help_says(gateway: Gateway, terminal: Open) -> None:
    gateway.push(blocked(1), blocked(2), project="billing")
    gateway.push(blocked(3))
    screen = terminal("top", "--gateway-url", gateway.url, columns=100, rows=40)
    screen.shows("LIVE", "reason 3")
    screen.type("?")
    screen.shows("the whole life of the story", "STALE since")
    screen.type("\x1b")
    # The board has the keys: its second project is web-shop.
    screen.shows("Board: 2")
    screen.type("jf")
    screen.shows("only web-shop; Esc shows everything", "Board: 1", without=["billing"])
    screen.type("\r")
    screen.shows("web-shop: Enter opens a story", "BLOCKED  3_story_x  Story 3")
    screen.type("\r")
    screen.shows("3_story_x: Esc goes back", "Blocked once", "Events: 1")
    screen.type("\x1b")
    screen.shows("web-shop: Enter opens a story")
    screen.type("\x1b")
    screen.shows("Board: 1", "reason 3")
    screen.type("f")
    screen.shows("reason 1", "reason 3", "Board: 2")
    screen.type("/")
    # What is typed is for the line that asks, once that is there.
    screen.shows("only what contains …")
    screen.type("story 2\r")
    screen.shows("only what contains 'story 2'; Esc shows everything", "Board: 1", without=["reason 3"])
    screen.type("\x1b")
    screen.shows("reason 1", "reason 3", "Board: 2")
    screen.type("\t\t\r")
    screen.shows("Esc goes back", "Events: 1")
    screen.type("\x03")
    assert screen.end() == 0


def test_names_and_reasons_drive_nothing(gateway: Gateway, terminal: Open) -> None:
    gateway.push({**blocked(1), "story_name": "[bold]x[/bold]\x1b[2J", "reason": "\x1b]0;title\x07[red]y"})
    screen = terminal("top", "--gateway-url", gateway.url, columns=120)
    screen.shows("[bold]x[/bold]\\x1b[2J", "\\x1b]0;title\\x07[red]y", "Board: 1")
    screen.type("\r")
    screen.shows("Enter opens a story", "[bold]x[/bold]\\x1b[2J")
    screen.type("\r")
    screen.shows("Events: 1", "[red]y")
    assert b"\x1b]0;" not in screen.written


def test_without_colour_nothing_is_coloured(gateway: Gateway, terminal: Open) -> None:
    gateway.push(blocked(1))
    screen = terminal("top", "--gateway-url", gateway.url, NO_COLOR="1")
    screen.shows("LIVE", "BLOCKED", "Board: 1")
    for style in re.findall(rb"\x1b\[([0-9;]*)m", screen.written):
        assert not re.search(rb"(^|;)(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;|$)", style), style


def test_another_size_is_another_layout_and_sigterm_ends_it(gateway: Gateway, terminal: Open) -> None:
    gateway.push(blocked(1))
    screen = terminal("top", "--gateway-url", gateway.url)
    screen.shows("LIVE", "Board: 1", "q quit")
    screen.resize(200, 50)
    lines = screen.shown(lambda text: text.rstrip().rpartition("\n")[2].startswith("q quit"), "the last line")
    assert len(lines) == 50
    assert screen.end(signal.SIGTERM) == 0
    assert screen.written.count(b"\x1b[?1049l") == 1


def test_where_there_is_no_terminal_it_says_what_to_do(huskies: Run) -> None:
    outcome = huskies("top")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "stdout is none; take `huskies status` or `huskies tail`" in outcome.stderr


def test_without_a_gateway_it_says_what_to_do(terminal: Open, unused_tcp_port: int) -> None:
    screen = terminal("top", "--gateway-url", f"http://127.0.0.1:{unused_tcp_port}", columns=200)
    screen.shows("no gateway answers", "start one with `huskies up`")
    assert screen.end() == 1
