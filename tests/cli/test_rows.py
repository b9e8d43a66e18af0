from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huskies.cli.full_screen.rows import (
    EventRow,
    LineRow,
    NeedRow,
    ProjectRow,
    Row,
    StoryRow,
    board_heading,
    name_width,
)
from huskies.cli.full_screen.selecting import Selecting
from huskies.readers.fleet import Need, ProjectView, Received, StoryView
from huskies.readers.life_lines import Line

NOW = 1_800_000_000_000
ROWS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["\x1b[2J", "[bold]x[/]", "a\nb\n\nc", "家" * 90, "x" * 300, "", "\u202eabc", "\t"]
)


def story(text: str) -> StoryView:
    return StoryView(text, text, "3_qa", NOW, blocked=text, blocked_since_ms=NOW - 5_000)


def rows(text: str) -> list[Row]:
    event = {"type": "story_blocked", "story_id": text, "story_name": text, "reason": text}
    view = ProjectView(text, stories=[story(text), StoryView(text, stage=text)], last_seen_ms=NOW)
    return [
        NeedRow(Need("blocked", text, "web-shop", story(text), NOW - 5_000), NOW),
        NeedRow(Need("silent", text, "web-shop"), NOW),
        ProjectRow(view, 3, 12, NOW),
        EventRow(Received("web-shop", event)),
        StoryRow(story(text)),
        LineRow(1, Line(text)),
    ]


@settings(max_examples=40)
@given(text=ROWS, width=st.sampled_from([20, 80, 200]))
def test_rows_are_as_high_and_no_wider_than_they_say_and_drive_nothing(text: str, width: int) -> None:
    for row in rows(text):
        lines = row.lines(width)
        assert len(lines) == row.height(width)
        for line in lines:
            assert line.cell_len <= width
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", line.plain)


def test_what_needs_someone_says_for_how_long_what_where_and_why_in_full() -> None:
    need = Need(
        "blocked", "word " * 40, "web-shop", StoryView("42_bug_login", "Log in", "3_qa"), NOW - 7_200_000
    )
    head, *why = NeedRow(need, NOW).lines(80)
    assert head.plain == "   2 h  BLOCKED in qa  web-shop  42 Log in"
    assert " ".join(line.plain.strip() for line in why) == ("word " * 40).strip()


def test_a_board_of_80_columns_has_every_column() -> None:
    stories = [StoryView("1_bug_a", stage="4_merge"), StoryView("2_bug_b", "B", "2_current")]
    view = ProjectView("web-shop", connected=True, outstanding=7, stories=stories)
    width = name_width(["web-shop"], 80)
    heading = "    project  sled         backlog current qa merge done archived unsent"
    assert board_heading(width, 80).plain == heading
    [line] = ProjectRow(view, 2, width, NOW).lines(80)
    assert line.plain == "!2  web-shop connected          ·       1  ·     1    ·        ·      7"
    [wide] = ProjectRow(view, 2, width, NOW).lines(200)
    assert wide.plain.endswith("  merge: 1 bug_a · current: 2 B")


@pytest.mark.parametrize(
    ("project", "text", "shown"),
    [(None, "", True), ("billing", "", False), ("web-shop", "LOGIN", True), (None, "nothing", False)],
)
def test_what_is_shown_is_what_was_chosen(project: str | None, text: str, shown: bool) -> None:  # noqa: FBT001 - a case
    chosen = Selecting()
    chosen.project, chosen.text = project, text
    of = StoryView("42_bug_login", "Log in")
    assert chosen.has_need(Need("blocked", "why", "web-shop", of)) is shown
    assert chosen.has_project(ProjectView("web-shop", stories=[of])) is shown
    assert chosen.has_event(Received("web-shop", {"story_id": "42_bug_login"})) is shown
    assert bool(chosen.told) is (bool(project) or bool(text))
