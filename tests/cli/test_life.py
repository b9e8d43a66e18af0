from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies.readers.finding import NotFoundError, find, forgotten
from huskies.readers.fleet import ProjectView, Received, StoryView
from huskies.readers.life import Spell, life, time_of
from huskies.readers.life_lines import life_lines

MINUTE = 60_000
START = 1_800_000_000_000


def moved(before: str, after: str, minute: int) -> Received:
    event = {"type": "stage_transition", "story_id": "1_bug_a", "from_stage": before, "to_stage": after}
    return _received(event, minute)


def stuck(kind: str, reason: str, minute: int) -> Received:
    return _received({"type": kind, "story_id": "1_bug_a", "reason": reason}, minute)


def _received(event: dict[str, Any], minute: int) -> Received:
    at_ms = START + minute * MINUTE
    return Received("web-shop", event | {"timestamp_ms": at_ms}, received_ms=at_ms + 5)


LIFE = [
    moved("1_backlog", "2_current", 0),
    stuck("story_blocked", "no key", 10),
    moved("2_current", "2_current", 30),
    moved("2_current", "3_qa", 60),
    moved("3_qa", "2_current", 70),
    moved("2_current", "4_merge", 100),
    stuck("merge_failure", "conflict", 101),
    stuck("merge_failure", "tests fail", 103),
]


def at(minute: int) -> int:
    return START + minute * MINUTE


def test_a_life_has_the_time_in_each_stage_and_what_held_it_up() -> None:
    lived = life(LIFE)
    assert lived.stages == [
        Spell("1_backlog", None, at(0)),
        Spell("2_current", at(0), at(60)),
        Spell("3_qa", at(60), at(70)),
        Spell("2_current", at(70), at(100)),
        Spell("4_merge", at(100), None),
    ]
    assert lived.time_in_stages(at(110)) == [
        ("1_backlog", None),
        ("2_current", 90 * MINUTE),
        ("3_qa", 10 * MINUTE),
        ("4_merge", 10 * MINUTE),
    ]
    assert lived.blocked == [Spell("no key", at(10), at(30))]
    assert lived.merge_failures == [Spell("conflict", at(101), at(103)), Spell("tests fail", at(103), None)]
    assert time_of(lived.merge_failures, at(110)) == 9 * MINUTE


def test_what_was_delivered_late_stands_where_it_happened() -> None:
    assert life([*LIFE[4:], *LIFE[:4]]) == life(LIFE)


def test_what_is_not_known_here_changes_nothing() -> None:
    odd = [_received({"type": "new", "x": 1}, 5), Received("web-shop", {"type": "story_blocked"})]
    assert life([*LIFE, *odd]).stages == life(LIFE).stages
    assert len(life(odd).events) == 2
    assert life([]).time_in_stages(START) == []


STAGES = st.sampled_from(["1_backlog", "2_current", "3_qa"])
EVENTS = st.lists(
    st.one_of(
        st.builds(moved, STAGES, STAGES, st.integers(0, 99)),
        st.builds(stuck, st.sampled_from(["story_blocked", "merge_failure"]), st.text(), st.integers(0, 99)),
    ),
    max_size=12,
)


@given(received=EVENTS)
def test_the_times_in_stages_are_all_the_time_since_the_first_move(received: list[Received]) -> None:
    lived, now = life(received), at(100)
    known = [spell for spell in lived.stages if spell.from_ms is not None]
    assert sum(lasted or 0 for _, lasted in lived.time_in_stages(now)) == (
        now - (known[0].from_ms or 0) if known else 0
    )
    for one, other in pairwise(known):
        assert one.to_ms == other.from_ms
        assert one.what != other.what
    for spells in (lived.blocked, lived.merge_failures):
        assert all(spell.to_ms is not None for spell in spells[:-1])


def test_a_life_is_shown_line_by_line() -> None:
    story = StoryView(
        "1_bug_a", "A\x1b[2J", "4_merge", at(100), merge_failure="x\ny", merge_failure_since_ms=at(103)
    )
    lines = [line.text for line in life_lines("web-shop", story, life(LIFE), at(110))]
    assert lines[0] == "1_bug_a  A\\x1b[2J"
    assert lines[1].startswith("web-shop  in 4_merge for 10 min, since ")
    assert lines[2] == "MERGE FAILED for 7 min: x\\ny"
    assert "  1_backlog  no one knows how long" in lines
    assert "  2_current  1 h 30 min" in lines
    assert "Blocked once, 20 min in all" in lines
    assert "Merge failed 2 times, 9 min in all" in lines
    assert "Events: 8" in lines


def test_a_story_of_which_nothing_is_known_is_shown_too() -> None:
    lines = [line.text for line in life_lines("web-shop", StoryView("1_bug_a"), life([]), at(0))]
    assert lines == [
        "1_bug_a",
        "web-shop  no one knows in which stage",
        *("", "Blocked: never"),
        *("", "Merge failed: never"),
        *("", "Events: none yet"),
    ]


SHOP = ProjectView(
    "web-shop",
    stories=[StoryView("42_story_login", "Login"), StoryView("420_bug_log", ""), StoryView("7_bug_x", "")],
)
BILLING = ProjectView("billing", stories=[StoryView("42_story_invoices", "Log"), StoryView("7_bug_x", "")])


@pytest.mark.parametrize(
    ("text", "project", "story_id"),
    [
        ("42_story_login", None, "42_story_login"),
        ("42", "web-shop", "42_story_login"),
        ("420", None, "420_bug_log"),
        ("INVOICES", None, "42_story_invoices"),
        ("login", None, "42_story_login"),
        ("7", "billing", "7_bug_x"),
    ],
)
def test_a_story_is_found_by_its_id_its_number_or_a_part(
    text: str, project: str | None, story_id: str
) -> None:
    assert find(text, [SHOP, BILLING], project).story.story_id == story_id


def said(text: str, project: str | None = None) -> str:
    with pytest.raises(NotFoundError) as raised:
        find(text, [SHOP, BILLING], project)
    assert raised.value.exit_status == 2
    return str(raised.value)


def test_where_several_are_meant_it_says_what_to_type() -> None:
    assert said("42") == (
        "2 stories are '42'; type one of `huskies show 42_story_login`, `huskies show 42_story_invoices`"
    )
    assert said("7_bug_x") == (
        "2 stories are '7_bug_x'; type one of `huskies show 7_bug_x --project web-shop`, "
        "`huskies show 7_bug_x --project billing`"
    )


def test_where_none_is_meant_it_says_what_to_do() -> None:
    assert said("nothing").startswith("no project has a story 'nothing'; `huskies status --json`")
    assert said("login", "billing").startswith("billing does not have a story 'login'")
    assert said("login", "nowhere").startswith("no project nowhere; `huskies status`")


def test_a_story_that_stands_on_no_board_is_found_by_its_events() -> None:
    error = NotFoundError("1_bug_a", [], "none")
    named = [_received({"story_name": "A"}, 1), moved("3_qa", "4_merge", 2)]
    assert forgotten("1_bug_a", named, error).story == StoryView("1_bug_a", "A")
    with pytest.raises(NotFoundError, match="none"):
        forgotten("1_bug_a", [], error)
    with pytest.raises(NotFoundError, match="--project billing"):
        forgotten("1_bug_a", [*named, Received("billing", {})], error)
