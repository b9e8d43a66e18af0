"""Quiet hours and muting where they meet: nothing is told in them, and nothing is lost by them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.told import (
    HELD_UP,
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Teller,
    blocked,
    board,
    limited,
    moved,
    subjects,
    unmerged,
)

from huskies.chat.mutes import FOR_EVER_MS
from huskies.events.model import RelayedEvent
from huskies.notify.model import Gap
from huskies.notify.quiet import parse_quiet
from huskies.notify.rules import Escalation, Rule
from huskies.notify.state import Draft

# It begins in an hour, and lasts for three.
QUIET = parse_quiet("13:00-16:00", UTC)
QUIET_MS = NOON + HOUR
AWAKE_MS = NOON + 4 * HOUR
STEPS = (Escalation(30 * MINUTE, "phone"),)
LIMITED = frozenset({"rate_limit_hard_block"})


def quiet_rule(**more: object) -> Rule:
    return Rule(events=HELD_UP, channels=("chat",), quiet=QUIET, **more)  # type: ignore[arg-type] # of tests


def until(teller: Teller, at_ms: int) -> list[str]:
    return subjects(teller.after(at_ms - teller.now_ms))


# --- quiet hours -------------------------------------------------------------------------------------


def test_a_repeat_that_comes_due_in_quiet_hours_is_told_after() -> None:
    teller = Teller(quiet_rule(every_ms=HOUR))
    teller.now_ms = QUIET_MS - 30 * MINUTE
    assert len(teller.take(blocked(reason="1", at_ms=teller.now_ms))) == 1
    teller.after(10 * MINUTE)
    assert teller.take(blocked(reason="2", at_ms=teller.now_ms)) == []
    assert until(teller, AWAKE_MS - SECOND) == []
    assert until(teller, AWAKE_MS + MINUTE) == ["chat: shop: 42 Login is blocked"]


def test_a_digest_that_comes_due_in_quiet_hours_is_told_after() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), quiet=QUIET, digest_ms=HOUR))
    teller.now_ms = QUIET_MS - 30 * MINUTE
    teller.take(blocked(at_ms=teller.now_ms))
    assert until(teller, AWAKE_MS - SECOND) == []
    assert until(teller, AWAKE_MS + MINUTE) == ["chat: shop: 42 Login is blocked"]


def test_a_replay_and_a_gap_are_told_after_quiet_hours() -> None:
    teller = Teller(quiet_rule())
    teller.now_ms = QUIET_MS
    teller.take(blocked("1_bug_a", at_ms=NOON), replayed=True)
    teller.core.missed(Gap(3, 40), teller.now_ms)
    teller.core.compare(board(("web", "2_bug_b", "why")), QUIET_MS, QUIET_MS)
    assert until(teller, AWAKE_MS - SECOND) == []
    assert sorted(until(teller, AWAKE_MS + MINUTE)) == [
        "chat: events were missed",
        "chat: shop: 1 Login is blocked",
        "chat: web: 2 Login is blocked",
    ]


def test_what_is_urgent_waits_for_no_quiet_hours_and_takes_the_rest_along() -> None:
    urgent = Rule(events=LIMITED, channels=("chat",), quiet=QUIET, urgent=True, digest_ms=HOUR)
    teller = Teller(quiet_rule(digest_ms=HOUR), urgent)
    teller.now_ms = QUIET_MS - 30 * MINUTE
    teller.take(blocked(at_ms=teller.now_ms))
    teller.take(limited(at_ms=teller.now_ms))
    assert until(teller, QUIET_MS + HOUR) == ["chat: 2 events; 1 story is held up"]


def test_who_was_told_by_an_escalation_is_not_woken_by_its_end() -> None:
    for replayed in (False, True):
        teller = Teller(quiet_rule(escalate=STEPS))
        teller.take(blocked())
        assert len(teller.after(QUIET_MS - NOON - SECOND)) == 1
        teller.now_ms = QUIET_MS
        assert teller.take(moved(at_ms=QUIET_MS), replayed=replayed) == []
        assert until(teller, AWAKE_MS - SECOND) == []
        assert [subject.partition(":")[0] for subject in until(teller, AWAKE_MS + MINUTE)] == [
            "chat",
            "phone",
        ]


# --- muting, and quiet hours in it -------------------------------------------------------------------


@pytest.mark.parametrize("until_ms", [FOR_EVER_MS, NOON + 3 * HOUR])
def test_who_unmutes_early_is_told_at_once(until_ms: int) -> None:
    teller = Teller(quiet_rule(escalate=STEPS))
    teller.core.mute("shop", until_ms)
    assert [draft.state for draft in teller.take(blocked())] == ["muted"]
    assert teller.after(35 * MINUTE) == []
    assert teller.core.escalates_ms(teller.now_ms) is None
    teller.core.unmute("shop")
    assert subjects(teller.after(SECOND)) == [
        "chat: shop: 42 Login is blocked",
        "phone: shop: 42 Login is still blocked after 35 min 1 s",
    ]


def test_a_mute_that_ends_in_quiet_hours_is_told_of_after_them() -> None:
    teller = Teller(quiet_rule(escalate=STEPS))
    teller.core.mute("shop", FOR_EVER_MS)
    teller.take(blocked())
    teller.now_ms = QUIET_MS
    teller.core.unmute("shop")
    assert until(teller, AWAKE_MS - SECOND) == []
    assert teller.core.escalates_ms(teller.now_ms) == AWAKE_MS
    assert until(teller, AWAKE_MS + MINUTE) == [
        "chat: shop: 42 Login is blocked",
        "phone: shop: 42 Login is still blocked after 4 h",
    ]


def test_a_repeat_that_comes_due_while_its_project_is_muted_is_named_after() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), every_ms=5 * MINUTE))
    teller.take(blocked(reason="1"))
    teller.take(blocked(reason="2", at_ms=NOON + 1))
    teller.core.mute("shop", NOON + HOUR)
    assert [draft.state for draft in teller.after(10 * MINUTE)] == ["muted"]
    teller.restart()
    [told] = teller.after(HOUR)
    assert (told.kind, told.text) == ("mute", "shop: 42 Login is blocked\n2")


@pytest.mark.parametrize("how", [{"quiet": QUIET}, {"digest_ms": HOUR}])
def test_what_was_collected_of_a_project_is_not_told_while_it_is_muted(how: dict[str, object]) -> None:
    rule = Rule(events=HELD_UP, channels=("chat",), **how)  # type: ignore[arg-type] # two of its fields
    teller = Teller(rule)
    teller.now_ms = QUIET_MS
    teller.take(blocked("1_bug_a", at_ms=QUIET_MS))
    teller.take(unmerged("2_bug_b", reason="why", at_ms=QUIET_MS), project="web")
    teller.take(blocked("3_bug_c", at_ms=QUIET_MS))
    teller.take(moved("3_bug_c", at_ms=QUIET_MS + 1))
    teller.core.mute("shop", NOON + 10 * HOUR)
    teller.restart()
    silent, told = teller.after(AWAKE_MS + MINUTE - teller.now_ms)
    assert (silent.state, silent.project) == ("muted", "shop")
    assert silent.text.splitlines()[2:] == [
        "• shop: 1 Login is blocked",
        "• shop: 3 Login is blocked",
        "held up now:",
        "• 1 Login: blocked: needs a key",
    ]
    assert (told.state, told.text) == ("queued", "web: 2 Login could not be merged\nwhy")
    assert until(teller, NOON + 10 * HOUR + MINUTE) == ["chat: shop: 1 Login is blocked"]


def test_what_a_gap_or_a_start_finds_of_a_muted_project_is_named_after() -> None:
    for begins in (True, False):
        teller = Teller()
        teller.core.mute("shop", NOON + HOUR)
        shown = board(("shop", "1_bug_a", "why"), ("web", "2_bug_b", "so"))
        if begins:
            teller.core.begin(shown, NOON)
        else:
            teller.core.reset(NOON)
            teller.core.compare(shown, NOON, NOON)
        [told] = teller.after(MINUTE)
        assert "2 Login" in told.text
        assert "1 Login" not in told.text
        assert subjects(teller.after(HOUR)) == ["chat: shop: 1 Login is blocked"]


def test_projects_that_are_collected_together_are_told_together() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), digest_ms=HOUR))
    teller.take(blocked("1_bug_a"))
    teller.after(20 * MINUTE)
    teller.take(blocked("2_bug_b", at_ms=teller.now_ms), project="web")
    teller.take(moved("2_bug_b", at_ms=teller.now_ms + 1), project="web")
    teller.take(limited(at_ms=teller.now_ms), project="web")
    [told] = teller.after(HOUR)
    assert told.text.splitlines() == [
        "2 events; 1 story is held up",
        "from 12:00 to 12:20: 2 blocks",
        "• shop: 1 Login is blocked",
        "• web: 2 Login is blocked",
        "held up now:",
        "• shop: 1 Login: blocked: needs a key",
    ]
    assert (told.project, len(told.about)) == ("", 2)


# --- whatever comes when -----------------------------------------------------------------------------

RULES = (
    quiet_rule(every_ms=5 * MINUTE, escalate=STEPS),
    Rule(events=HELD_UP, channels=("digest",), quiet=QUIET, digest_ms=HOUR),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["blocked", "unmerged", "moved", "mute", "mute for good", "unmute", "board"]),
        st.sampled_from(["1_bug_a", "2_bug_b"]),
        st.sampled_from(["shop", "web"]),
        st.booleans(),
        st.sampled_from([SECOND, 3 * MINUTE, 20 * MINUTE, 90 * MINUTE]),
    ),
    max_size=25,
)


def passes(teller: Teller, ms: int) -> list[Draft]:
    teller.now_ms += ms
    teller.core.tick(teller.now_ms, at_rest=True)
    return teller.drafts()


def happen(teller: Teller, kind: str, story: str, project: str, *, replayed: bool) -> list[Draft]:
    now_ms = teller.now_ms
    if kind in EVENTS:
        return teller.take(EVENTS[kind](story, at_ms=now_ms), project=project, replayed=replayed)
    if kind == "unmute":
        teller.core.unmute(project)
    elif kind == "board":
        held = teller.core.state.problems.rows()
        shown = [(one.project, one.story_id, one.reason) for one in held if one.kind == "story_blocked"]
        teller.core.reset(now_ms)
        teller.core.compare(board(*shown, (project, story, "of the board")), now_ms, now_ms)
    else:
        teller.core.mute(project, FOR_EVER_MS if kind == "mute for good" else now_ms + HOUR)
    return teller.drafts()


EVENTS: dict[str, Callable[..., RelayedEvent]] = {"blocked": blocked, "unmerged": unmerged, "moved": moved}


@settings(max_examples=200, deadline=None)
@given(steps)
def test_nothing_is_told_in_quiet_hours_or_of_what_is_muted_and_in_the_end_all_that_is_held_up(
    made: list[tuple[str, str, str, bool, int]],
) -> None:
    teller = Teller(*RULES)
    teller.now_ms = QUIET_MS - HOUR
    drafts: list[Draft] = []
    for kind, story, project, replayed, wait_ms in made:
        for number in range(9):
            if number:
                found = passes(teller, wait_ms // 8)
            else:
                found = happen(teller, kind, story, project, replayed=replayed)
            muted = {name for name in ("shop", "web") if teller.core.state.muted_until(name, teller.now_ms)}
            for draft in found:
                if draft.state == "queued":
                    assert QUIET.ends_ms(teller.now_ms) is None
                    assert not [name for name in muted if f"{name}: " in draft.text]
            drafts += found
    for project in ("shop", "web"):
        teller.core.unmute(project)
    for _ in range(26):
        drafts += passes(teller, HOUR)
    told = {draft.delivery_id for draft in drafts if draft.state == "queued"}
    for problem in teller.core.state.problems.rows():
        assert set(problem.told) == {"chat", "digest", "phone"}
        assert not problem.waits
        assert {one.delivery_id for one in problem.told.values()} <= told
    assert len(teller.core.state.collections) == 0
