from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies.chat import replies
from huskies.chat.content import content_of
from huskies.chat.formatted import Bold, Code, Message, Reply, fitting, size_of
from huskies.limits import MESSAGE_BYTES_MAX
from huskies.readers.fleet import ProjectView, Received, StoryView

NOW = datetime(2026, 1, 31, 14, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1_000)
HOUR = 3_600_000
EVIL = "<img src=x onerror=alert(1)> & \"'</b> [x](y) **b** @room"
EVENT_MAX = 65_536


def view(**changes: Any) -> ProjectView:
    login = StoryView(
        "42_story_login", "Login", "3_qa", NOW_MS - 5 * HOUR, blocked="needs the API key",
        blocked_since_ms=NOW_MS - 3 * HOUR,
    )  # fmt: skip
    done = StoryView("1_story_core", "Core", "5_done", NOW_MS - 9 * HOUR)
    given: dict[str, Any] = {"name": "web-shop", "connected": True, "stories": [login, done], **changes}
    return ProjectView(**given)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: list[Any] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        self.text += "\n" if tag == "br" else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def tags_of(reply: Reply) -> _Tags:
    tags = _Tags()
    tags.feed(reply.html)
    tags.close()
    return tags


def test_what_needs_someone_is_said_first() -> None:
    text = replies.status([view(), view(name="a-quiet-one", stories=[])], NOW_MS).text.splitlines()
    assert text[0] == "Needs attention: 1"
    assert text[1] == "• web-shop 42 Login, in qa, for 3 h: blocked: needs the API key"
    assert text[2:] == ["• a-quiet-one: connected; no stories", "• web-shop: connected; qa 1, done 1"]


def test_one_project_shows_its_stories() -> None:
    text = replies.project_status(view(), NOW_MS).text
    assert "qa: 1 story" in text
    assert "• 42 Login: 5 h" in text
    assert text.endswith("1 finished")


def test_projects_and_blocked() -> None:
    silent = view(name="search", connected=False, last_seen_ms=NOW_MS - HOUR, outstanding=3, stories=[])
    text = replies.projects([view(), silent], NOW_MS).text
    assert "• search: silent for 1 h, 0 in flight, 3 unsent" in text
    assert "• web-shop: connected, 1 in flight, 1 held up" in text
    assert "needs the API key" in replies.blocked([view()], NOW_MS).text
    assert replies.blocked([silent], NOW_MS).text == "Nothing is blocked, and no merge has failed."
    assert replies.status([], NOW_MS).text == "No project has joined this gateway yet."


def received(number: int, reason: str = "stuck") -> Received:
    event = {
        "type": "story_blocked", "story_id": "42_story_login", "story_name": "Login", "reason": reason,
        "timestamp_ms": NOW_MS - number,
    }  # fmt: skip
    return Received("web-shop", event)


def test_a_long_life_is_shortened_and_says_so() -> None:
    told = replies.story("web-shop", view().stories[0], [received(number) for number in range(100)], NOW_MS)
    assert "BLOCKED for 3 h: needs the API key" in told.text
    assert "and 70 earlier events" in told.text


@pytest.mark.parametrize(
    "reply",
    [
        replies.status([view(name="x", stories=[StoryView("1_x", EVIL, EVIL, 0, blocked=EVIL)])], NOW_MS),
        replies.project_status(view(stories=[StoryView("1_x", EVIL, "3_qa", 0, blocked=EVIL)]), NOW_MS),
        replies.story("web-shop", StoryView(EVIL, EVIL, EVIL, 0, EVIL), [received(1, EVIL)], NOW_MS),
        replies.log([received(1, EVIL)], NOW),
        replies.not_made("x", EVIL, [EVIL], [EVIL]),
        replies.made(replies.Made("x", EVIL, EVIL, EVIL, EVIL), [EVIL]),
        replies.said(EVIL),
        replies.no_story(EVIL, None),
    ],
)
def test_what_others_wrote_is_never_markup(reply: Reply) -> None:
    tags = tags_of(reply)
    assert tags.seen <= {"b", "br", "code", "i"}
    assert tags.attributes == []
    assert tags.text == reply.text
    assert EVIL in reply.text


def test_nobody_is_called_by_a_text() -> None:
    assert content_of(replies.said("@room"), "a")["m.mentions"] == {}


def test_control_characters_are_shown_and_lines_stay_lines() -> None:
    reply = replies.said("a\nb\x1b[31m\u202e")
    assert reply.text == "a\\nb\\x1b[31m\\u202e"


def test_what_finds_no_room_is_counted() -> None:
    message = Message()
    for number in range(5_000):
        message.line(Bold(f"line {number}"), " ", Code("x"))
    reply = message.reply()
    assert size_of(reply.text, reply.html) <= MESSAGE_BYTES_MAX
    lines = reply.text.splitlines()
    assert lines[-1] == f"… and {5_000 - len(lines) + 1} more lines, which are too many for one message"


def test_one_long_part_is_cut_visibly_and_leaves_room_for_others() -> None:
    text = replies.blocked(
        [view(), view(name="b", stories=[StoryView("1_x", blocked="y" * 16_384)])], NOW_MS
    ).text
    assert "… (cut)" in text
    assert "needs the API key" in text


@given(st.text(max_size=30_000), st.sampled_from(["<", "é", "😀", "x", "\x00", "&"]))
def test_any_message_fits_an_event(text: str, filler: str) -> None:
    long = text + filler * 30_000
    cut = fitting(Reply(long, f"<b>{long}</b>"))
    assert cut.text.endswith("… (cut)")
    content = content_of(Reply(long, long), "a" * 32, edits="$" + "e" * 43, thread="$" + "t" * 43)
    # Encryption makes four bytes of three.
    assert len(json.dumps(content)) * 4 / 3 + 1_000 < EVENT_MAX


def test_short_messages_stay_as_they_are() -> None:
    reply = Reply("x", "<b>x</b>")
    assert fitting(reply) is reply
