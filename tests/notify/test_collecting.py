"""What is told together: replays, quiet hours, digests; and what holds of any order of events."""

from __future__ import annotations

from collections import Counter
from zoneinfo import ZoneInfo

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
    limited,
    moved,
    subjects,
    unmerged,
)

from huskies.events.model import EVENT_TYPES
from huskies.notify.collecting import FLOOD_MAX, FLOOD_MS
from huskies.notify.core import BEHIND_MS, STALE_MS
from huskies.notify.quiet import parse_quiet
from huskies.notify.rules import Escalation, Rule
from huskies.notify.state import ABOUT_MAX, Draft

BERLIN = ZoneInfo("Europe/Berlin")
# Noon in UTC is 13:00 there.
QUIET = parse_quiet("12:00-15:00", BERLIN)


# --- replays -----------------------------------------------------------------------------------------


def test_what_was_replayed_becomes_one_summary_that_names_what_is_held_up() -> None:
    teller = Teller()
    for number in range(1, 41):
        at_ms = NOON - 5 * HOUR + number * MINUTE
        teller.take(moved(f"{number}_bug_x", at_ms=at_ms), replayed=True)
    teller.take(blocked("1_bug_x", at_ms=NOON - HOUR), replayed=True)
    teller.take(blocked("2_bug_x", reason="why", at_ms=NOON - HOUR), replayed=True)
    teller.take(moved("1_bug_x", to="4_merge", at_ms=NOON - MINUTE), replayed=True)
    assert teller.after(9 * SECOND) == []
    [summary] = teller.after(5 * SECOND)
    assert summary.text.splitlines() == [
        "shop: 43 events came late; 1 story is held up",
        "from 07:01 to 11:59: 41 moves, 2 blocks",
        "held up now:",
        "• 2 Login: blocked: why",
    ]
    assert len(summary.about) == 43
    assert teller.after(HOUR) == []


def test_replayed_moves_alone_are_told_nobody_who_asked_for_none() -> None:
    teller = Teller()
    for number in range(1, 41):
        teller.take(moved(f"{number}_bug_x"), replayed=True)
    assert teller.after(HOUR) == []


def test_what_is_over_is_told_as_over() -> None:
    teller = Teller()
    teller.take(blocked(at_ms=NOON - HOUR), replayed=True)
    teller.take(moved(at_ms=NOON - MINUTE), replayed=True)
    [summary] = teller.after(MINUTE)
    assert summary.text.splitlines() == [
        "shop: 2 events came late",
        "from 11:00 to 11:59: 1 move, 1 block",
        "nothing of it is held up now",
    ]


def test_one_replayed_block_is_told_as_itself() -> None:
    teller = Teller()
    teller.take(blocked(at_ms=NOON - HOUR), replayed=True)
    [told] = teller.after(MINUTE)
    assert told.subject == "shop: 42 Login is blocked"
    [end] = teller.take(moved(at_ms=NOON + MINUTE))
    assert end.edits == told.delivery_id


def test_a_live_event_of_the_sled_ends_its_replay() -> None:
    teller = Teller()
    teller.take(blocked(at_ms=NOON - HOUR), replayed=True)
    teller.take(unmerged(at_ms=NOON - HOUR), replayed=True)
    assert subjects(teller.take(moved("9_bug_z", at_ms=NOON))) == []
    assert subjects(teller.after(SECOND)) == ["chat: shop: 2 events came late; 2 stories are held up"]


def test_a_long_replay_is_told_before_it_ends_and_silence_counts_only_while_connected() -> None:
    teller = Teller()
    teller.take(blocked(at_ms=NOON - HOUR), replayed=True)
    assert teller.after(5 * MINUTE, at_rest=False) == []
    teller.core.came_back(teller.now_ms)
    assert teller.after(9 * SECOND) == []
    teller.take(blocked("1_bug_x", at_ms=NOON - HOUR), replayed=True)
    assert subjects(teller.after(11 * SECOND)) == ["chat: shop: 2 events came late; 2 stories are held up"]
    found: list[Draft] = []
    for number in range(200):
        teller.take(blocked(f"{number}_bug_y", at_ms=NOON - HOUR), replayed=True)
        found += teller.after(5 * SECOND)
    assert len(found) == 1


def test_what_is_held_up_after_a_replay_escalates_as_if_it_were_live() -> None:
    rule = Rule(events=HELD_UP, channels=("chat",), escalate=(Escalation(30 * MINUTE, "phone"),))
    teller = Teller(rule)
    teller.take(blocked(at_ms=NOON - 5 * HOUR), replayed=True)
    teller.take(unmerged(at_ms=NOON - 5 * HOUR), replayed=True)
    assert len(teller.after(29 * MINUTE)) == 1
    assert subjects(teller.after(2 * MINUTE)) == [
        "phone: shop: 42 Login is still blocked after 5 h 30 min",
        "phone: shop: 42 Login is still not merged after 5 h 30 min",
    ]


def test_what_the_notifier_itself_comes_late_for_is_history_too() -> None:
    teller = Teller()
    events = [teller.received(blocked(f"{number}_bug_x")) for number in range(1, 11)]
    teller.now_ms += STALE_MS + 1
    for received in events:
        teller.core.take(received, teller.now_ms)
    assert teller.drafts() == []
    assert subjects(teller.after(MINUTE)) == ["chat: shop: 10 events came late; 10 stories are held up"]


def test_what_an_older_sled_sends_of_the_time_before_is_history_too() -> None:
    teller = Teller()
    for number in range(1, 4):
        assert teller.take(blocked(f"{number}_bug_x", at_ms=NOON - BEHIND_MS - 1)) == []
    assert subjects(teller.after(MINUTE)) == ["chat: shop: 3 events came late; 3 stories are held up"]


def test_a_replayed_end_changes_messages_where_that_disturbs_nobody_and_is_named_elsewhere() -> None:
    rule = Rule(events=HELD_UP, channels=("room", "hook"))
    teller = Teller(rule, editing=("room",))
    room, _ = teller.take(blocked())
    [end] = teller.take(moved(at_ms=NOON + 5 * MINUTE), replayed=True)
    assert (end.channel, end.edits) == ("room", room.delivery_id)
    [summary] = teller.after(MINUTE)
    assert summary.channel == "hook"
    assert summary.text.splitlines()[0] == "shop: 1 event came late"
    assert "• shop: 42 Login goes on in qa, after 5 min" in summary.text


def test_a_summary_of_a_project_that_was_muted_meanwhile_waits_for_the_end_of_that() -> None:
    teller = Teller()
    teller.take(blocked(at_ms=NOON - HOUR), replayed=True)
    teller.core.mute("shop", NOON + HOUR)
    assert [draft.state for draft in teller.after(MINUTE)] == ["muted"]
    assert subjects(teller.after(HOUR)) == ["chat: shop: 42 Login is blocked"]


# --- quiet hours and digests -------------------------------------------------------------------------


def test_quiet_hours_end_with_one_message() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), quiet=QUIET), zone=BERLIN)
    teller.take(blocked("1_bug_x", reason="why"))
    teller.take(unmerged("2_bug_x"))
    teller.take(moved("2_bug_x", at_ms=NOON + 1))
    assert teller.after(2 * HOUR - SECOND) == []
    teller.restart()
    [told] = teller.after(MINUTE)
    assert told.text.splitlines() == [
        "2 events in quiet hours; 1 story is held up",
        "at 13:00: 1 block, 1 merge failure",
        "• shop: 1 Login is blocked",
        "• shop: 2 Login could not be merged",
        "held up now:",
        "• shop: 1 Login: blocked: why",
    ]
    assert subjects(teller.take(blocked("3_bug_x", at_ms=NOON + 3 * HOUR))) != []


def test_what_is_urgent_is_told_in_quiet_hours() -> None:
    rule = Rule(events=frozenset(EVENT_TYPES), channels=("chat",), quiet=QUIET, urgent=True)
    assert len(Teller(rule).take(limited())) == 1


def test_nobody_is_woken_by_an_escalation_before_quiet_hours_end() -> None:
    steps = (Escalation(30 * MINUTE, "phone"),)
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), quiet=QUIET, escalate=steps))
    teller.take(blocked())
    assert teller.after(2 * HOUR - SECOND) == []
    assert subjects(teller.after(29 * MINUTE)) == ["chat: shop: 42 Login is blocked"]
    assert subjects(teller.after(2 * MINUTE)) == ["phone: shop: 42 Login is still blocked after 2 h 30 min"]


def test_a_message_from_before_quiet_hours_is_changed_where_that_disturbs_nobody() -> None:
    for editing in ((), ("chat",)):
        teller = Teller(Rule(events=HELD_UP, channels=("chat",), quiet=QUIET), editing=editing)
        teller.now_ms = NOON - 2 * HOUR
        [told] = teller.take(blocked(at_ms=teller.now_ms))
        teller.now_ms = NOON
        ends = teller.take(moved())
        assert [end.edits for end in ends] == [told.delivery_id] * len(editing)
        assert len(teller.after(3 * HOUR)) == 1 - len(editing)


def test_a_digest_collects_and_says_how_much_there_was() -> None:
    rule = Rule(events=frozenset({"stage_transition"}), channels=("chat",), digest_ms=HOUR)
    teller = Teller(rule)
    for number in range(1, 31):
        assert teller.take(moved(f"{number}_bug_x", at_ms=NOON + number)) == []
    [digest] = teller.after(HOUR)
    lines = digest.text.splitlines()
    assert lines[:3] == ["30 events", "at 12:00: 30 moves", "• shop: 1 Login: current → qa"]
    assert lines[-1] == "… and 10 more"
    assert teller.after(2 * HOUR) == []
    teller.take(moved("1_bug_x", to="4_merge", at_ms=teller.now_ms))
    assert len(teller.after(HOUR)) == 1


def test_a_flood_of_one_project_becomes_one_message_and_lets_others_be_heard() -> None:
    teller = Teller()
    told = [teller.take(blocked(f"{number}_bug_x")) for number in range(1, FLOOD_MAX + 51)]
    assert [len(drafts) for drafts in told] == [1] * FLOOD_MAX + [0] * 50
    assert len(teller.take(blocked(), project="web")) == 1
    teller.restart()
    [flood] = teller.after(FLOOD_MS)
    assert flood.subject == "shop: 50 more in a minute; 50 stories are held up"
    assert len(teller.take(blocked("999_bug_x", at_ms=teller.now_ms))) == 1
    [end] = teller.take(moved(f"{FLOOD_MAX + 1}_bug_x", at_ms=teller.now_ms))
    assert end.thread == flood.delivery_id
    # So it is with what ends, and with what is escalated.
    ends = [teller.take(moved(f"{number}_bug_x", at_ms=teller.now_ms)) for number in range(1, FLOOD_MAX + 50)]
    assert sum(map(len, ends)) == FLOOD_MAX - 2
    [more] = teller.after(FLOOD_MS)
    assert more.subject == "shop: 50 more in a minute"


def test_a_flood_of_escalations_is_one_message() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), escalate=(Escalation(MINUTE, "phone"),)))
    for number in range(FLOOD_MAX + 50):
        teller.take(blocked(f"{number}_bug_x"))
    found = [draft for draft in teller.after(3 * MINUTE) if draft.channel == "phone"]
    assert len(found) == FLOOD_MAX + 1
    assert found[-1].subject == "shop: 50 more in a minute; 50 stories are held up"
    assert not teller.after(HOUR)


def test_a_summary_names_some_of_its_events_and_its_name_stands_for_all() -> None:
    ids = set()
    for last in (0, 1):
        teller = Teller()
        for number in range(ABOUT_MAX + 50):
            sled = "bb" if last and number == ABOUT_MAX + 49 else "aa"
            teller.take(blocked(f"{number}_bug_x"), replayed=True, sled=sled)
        [summary] = teller.after(MINUTE)
        assert len(summary.about) == ABOUT_MAX
        ids.add(summary.delivery_id)
    assert len(ids) == 2


# --- whatever the order ------------------------------------------------------------------------------

STORIES = ("1_bug_a", "2_bug_b")
steps = st.lists(
    st.tuples(
        st.sampled_from(["blocked", "unmerged", "moved", "limited"]),
        st.sampled_from(STORIES),
        st.sampled_from(["aa", "bb"]),
        st.booleans(),
    ),
    max_size=25,
)


def events_of(teller: Teller, made: list[tuple[str, str, str, bool]]) -> list[object]:
    found: list[object] = []
    for number, (kind, story, sled, replayed) in enumerate(made):
        at_ms = NOON + number
        event = {
            "blocked": lambda s=story, a=at_ms: blocked(s, at_ms=a),
            "unmerged": lambda s=story, a=at_ms: unmerged(s, at_ms=a),
            "moved": lambda s=story, a=at_ms: moved(s, at_ms=a),
            "limited": lambda s=story, a=at_ms: limited(a, s),
        }[kind]()
        found.append(teller.received(event, sled=sled, replayed=replayed))
    return found


RULES = (
    Rule(events=HELD_UP, channels=("room", "hook"), escalate=(Escalation(MINUTE, "phone"),)),
    Rule(events=frozenset(EVENT_TYPES), channels=("room",), every_ms=0),
)


@settings(max_examples=200)
@given(steps, st.randoms(use_true_random=False))
def test_doubled_and_reordered_events_are_decided_once_each(
    made: list[tuple[str, str, str, bool]], chance: object
) -> None:
    teller = Teller(*RULES, editing=("room",))
    events = events_of(teller, made)
    mixed = events * 3
    chance.shuffle(mixed)  # type: ignore[attr-defined] # hypothesis' Random
    drafts: list[Draft] = []
    for received in mixed:
        teller.core.take(received, teller.now_ms)  # type: ignore[arg-type] # made above
        drafts += teller.drafts()
    drafts += teller.after(2 * HOUR)
    # No message has another's name.
    assert not [name for name, count in Counter(draft.delivery_id for draft in drafts).items() if count > 1]
    # Of each event that is told by itself there is one message a channel.
    kinds = set(EVENT_TYPES)
    alone = Counter((draft.channel, name) for draft in drafts if draft.kind in kinds for name in draft.about)
    assert all(count == 1 for count in alone.values())
    # An edit follows what it changes.
    known: set[str] = set()
    for draft in drafts:
        assert draft.edits is None or draft.edits in known
        assert draft.thread is None or draft.thread in known
        known.add(draft.delivery_id)
    # Everything comes to rest.
    assert teller.after(26 * HOUR) == []
    assert len(teller.core.state.collections) == 0
    assert len(teller.core.state.recents) == 0


@settings(max_examples=200)
@given(steps)
def test_in_order_what_is_held_up_in_the_end_is_what_nobody_ended(
    made: list[tuple[str, str, str, bool]],
) -> None:
    teller = Teller(*RULES)
    held: dict[tuple[str, str], int] = {}
    for number, received in enumerate(events_of(teller, made)):
        teller.core.take(received, teller.now_ms)  # type: ignore[arg-type] # made above
        kind, story = made[number][:2]
        if kind == "moved":
            for one in ("blocked", "unmerged"):
                held.pop((story, one), None)
        elif kind != "limited":
            held[story, kind] = number
    names = {"story_blocked": "blocked", "merge_failure": "unmerged"}
    problems = teller.core.state.problems.rows()
    assert {(p.story_id, names[p.kind]) for p in problems} == set(held)
    drafts = teller.drafts() + teller.after(2 * HOUR)
    # Whoever is told of what was held up is told of each that is so still, by its newest event, or by a
    # message that names it.
    for problem in problems:
        now = teller.core.state.problems.get(problem.key)
        assert now is not None
        assert set(now.told) == {"room", "hook", "phone"}
        assert not now.waits
        told = {draft.delivery_id for draft in drafts if draft.state == "queued"}
        assert {one.delivery_id for one in now.told.values()} <= told


@settings(max_examples=100)
@given(steps, st.integers(0, 24))
def test_a_restart_between_any_two_events_changes_nothing(
    made: list[tuple[str, str, str, bool]], cut: int
) -> None:
    outcomes = []
    for restarts in (False, True):
        teller = Teller(*RULES, editing=("room",))
        drafts: list[Draft] = []
        for number, received in enumerate(events_of(teller, made)):
            if restarts and number == cut:
                teller.restart()
            teller.core.take(received, teller.now_ms)  # type: ignore[arg-type] # made above
            drafts += teller.drafts()
        if restarts:
            teller.restart()
        drafts += teller.after(2 * HOUR)
        outcomes.append(sorted(drafts, key=lambda draft: draft.delivery_id))
    assert outcomes[0] == outcomes[1]
