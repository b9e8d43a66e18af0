from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies.chat.commands import (
    Answer,
    Blocked,
    Command,
    Help,
    Log,
    Mistake,
    Mute,
    NewProject,
    Ping,
    Projects,
    RemoveProject,
    Status,
    Story,
    Unmute,
    parse,
)

NAMES = ["Huskies Bot", "huskies", "@huskies:hs.test"]
HOUR = 3_600_000


def direct(text: str) -> Command | None:
    return parse(text, NAMES, is_direct=True)


def room(text: str) -> Command | None:
    return parse(text, NAMES, is_direct=False)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("help", Help()),
        ("PING", Ping()),
        ("  projects  ", Projects()),
        ("blocked", Blocked()),
        ("status", Status()),
        ("status web-shop", Status("web-shop")),
        ("story 42", Story("42")),
        ("story login page", Story("login page")),
        ("story 42 in web-shop", Story("42", "web-shop")),
        ("story what's up", Story("what's up")),
        ("log", Log()),
        ("log 5", Log(None, 5)),
        ("log web-shop", Log("web-shop")),
        ("log 7 7", Log("7", 7)),
        ("mute web-shop", Mute("web-shop")),
        ("mute web-shop for 2h", Mute("web-shop", 2 * HOUR)),
        ("mute web-shop 30 m", Mute("web-shop", HOUR // 2)),
        ("unmute web-shop", Unmute("web-shop")),
        ("unmute", Unmute()),
        ("new project demo", NewProject("demo")),
        (
            "new project demo --git https://git.example/x.git --stack python",
            NewProject("demo", "https://git.example/x.git", "python"),
        ),
        ("new project demo --stack=node", NewProject("demo", None, "node")),
        ("new project demo \u2014stack node", NewProject("demo", None, "node")),
        ("remove project demo", RemoveProject("demo")),
        ("yes", Answer(yes=True)),
        ("No", Answer(yes=False)),
        ("status\nand thank you", Status()),
        ("> <@bob:hs.test> something\n> more\n\nstatus", Status()),
    ],
)
def test_what_is_asked_in_a_direct_message(text: str, command: Command) -> None:
    assert direct(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "!status",
        "! status",
        "huskies: status",
        "Huskies, status",
        "huskies status",
        "@huskies status",
        "@huskies:hs.test: status",
        "Huskies Bot: status",
        "huskies bot status",
        "!huskies status",
    ],
)
def test_how_the_bot_is_addressed_in_a_room(text: str) -> None:
    assert room(text) == Status()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "!",
        "!!",
        "status",
        "the huskies: status",
        "huskiesstatus",
        "huskies-dev: status",
        "!weather tomorrow",
        "> huskies: status",
        "\n\n",
        "@room status",
    ],
)
def test_talk_among_people_is_no_command(text: str) -> None:
    assert room(text) is None


def test_a_name_alone_asks_for_help() -> None:
    assert room("huskies") == room("huskies:") == Help()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frobnicate", "“frobnicate” is no command"),
        ("status a b", "expected `status [PROJECT]`"),
        ("status ../x", "“../x” is not"),
        ("ping me", "“me” is too much"),
        ("story", "a story's id"),
        ("log 0", "N from 1 to 50"),
        ("log 51", "N from 1 to 50"),
        ("log 99999999999999999999", "N from 1 to 50"),
        ("log a b c", "one project"),
        ("mute", "which project?"),
        ("mute shop for ever", "“ever” is none"),
        ("mute shop for 0h", "“0h” is none"),
        ("mute shop for 999999999w", "at most a year"),
        ("mute shop for", "expected `mute PROJECT [for 2h]`"),
        ("new", "expected `new project NAME"),
        ("new project", "expected `new project NAME"),
        ("new project --privileged", "expected `new project NAME"),
        ("new project a;b", "“a;b” is not"),
        ("new project a --privileged", "“--privileged” is none of its options"),
        ("new project a --git", "--git once"),
        ("new project a --git --stack", "--git once"),
        ("new project a --git -x", "--git once"),
        ("new project a --stack x --stack y", "--stack once"),
        ("remove demo", "expected `remove project NAME`"),
        ("remove project", "expected `remove project NAME`"),
        ("x" * 3_000, "longer than any command"),
    ],
)
def test_what_is_not_understood_is_said(text: str, expected: str) -> None:
    found = direct(text)
    assert isinstance(found, Mistake)
    assert expected in found.problem
    assert len(found.problem) < 300


def test_a_known_word_behind_the_mark_is_meant_for_the_bot() -> None:
    assert isinstance(room("!log 0"), Mistake)
    assert isinstance(room("huskies: weather"), Mistake)


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_a_command_or_none(text: str, is_direct: bool) -> None:  # noqa: FBT001 - drawn
    for marked in (
        text,
        f"!{text}",
        f"huskies: {text}",
        f"new project {text}",
        f"mute {text}",
        f"log {text}",
    ):
        parse(marked, NAMES, is_direct=is_direct)
