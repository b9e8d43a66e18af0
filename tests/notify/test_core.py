"""What people are told of single events: at once, once, and edited as the story moves on."""

from __future__ import annotations

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
    warned,
)

from huskies.notify.model import Gap
from huskies.notify.rules import Escalation, Rule


def test_what_needs_someone_is_told_at_once_and_nothing_else() -> None:
    teller = Teller()
    assert subjects(teller.take(moved())) == []
    assert subjects(teller.take(warned())) == []
    assert subjects(teller.take(blocked())) == ["chat: shop: 42 Login is blocked"]
    assert subjects(teller.take(unmerged())) == ["chat: shop: 42 Login could not be merged"]
    assert subjects(teller.take(limited())) == [
        "chat: shop: coder is rate limited until 14:00, at 42 story_login"
    ]
    assert teller.after(10 * HOUR) == []


def test_texts_say_why_and_html_is_safe() -> None:
    [draft] = Teller().take(blocked(reason="<b>no</b>\n\x1b[2Jkey"))
    assert draft.text == "shop: 42 Login is blocked\n<b>no</b>\n\\x1b[2Jkey"
    assert draft.html == "<b>shop</b>: 42 Login is blocked<br>&lt;b&gt;no&lt;/b&gt;<br>\\x1b[2Jkey"


def test_an_event_that_comes_twice_is_told_once() -> None:
    teller = Teller()
    [first] = teller.take(blocked())
    assert teller.take(blocked(), seq=1) == []
    teller.restart()
    assert teller.take(blocked(), seq=1) == []
    # The same event in another channel, or another event, is another message.
    assert first.delivery_id == Teller().take(blocked())[0].delivery_id
    assert first.delivery_id != Teller().take(blocked(), sled="bb")[0].delivery_id


def test_a_story_that_goes_on_changes_the_message_that_told_of_it() -> None:
    teller = Teller()
    [told] = teller.take(blocked())
    teller.after(12 * MINUTE)
    [end] = teller.take(moved(at_ms=NOON + 12 * MINUTE))
    assert end.subject == "shop: 42 Login goes on in qa, after 12 min"
    assert end.text.endswith("\nwas blocked: needs a key")
    assert (end.edits, end.kind) == (told.delivery_id, "resolved")
    assert end.about == ("aa/e1/1", "aa/e1/2")
    assert teller.take(moved(to="4_merge", at_ms=NOON + 13 * MINUTE)) == []


def test_a_story_that_is_held_up_again_changes_the_message_too() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), every_ms=0))
    [first] = teller.take(blocked())
    [second] = teller.take(blocked(reason="another key", at_ms=NOON + 1))
    assert second.edits == first.delivery_id
    # It is the first message that is changed, each time.
    [third] = teller.take(moved(at_ms=NOON + 2))
    assert third.edits == first.delivery_id


def test_what_repeats_itself_is_told_once_in_so_long_and_then_counted() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), every_ms=5 * MINUTE))
    [first] = teller.take(blocked(reason="1"))
    for number in (2, 3):
        assert teller.take(blocked(reason=str(number), at_ms=NOON + number)) == []
    assert teller.after(4 * MINUTE) == []
    teller.restart()
    [again] = teller.after(2 * MINUTE)
    assert again.text == "shop: 42 Login is blocked\n3\n(2 like it)"
    assert again.edits == first.delivery_id
    assert again.about == ("aa/e1/2", "aa/e1/3")
    assert teller.after(HOUR) == []
    assert subjects(teller.take(blocked(reason="4", at_ms=NOON + HOUR))) != []


def test_what_was_over_before_it_might_be_told_again_is_written_down_alone() -> None:
    teller = Teller()
    teller.take(blocked())
    teller.take(moved(at_ms=NOON + 1))
    assert teller.take(blocked(at_ms=NOON + 2)) == []
    assert teller.take(moved(at_ms=NOON + 3)) == []
    [late] = teller.after(10 * MINUTE)
    assert (late.state, late.about) == ("overtaken", ("aa/e1/3",))


def test_rules_choose_projects_events_and_channels() -> None:
    teller = Teller(
        Rule(events=HELD_UP, projects=("web-*", "!web-demo"), channels=("ops",)),
        Rule(events=frozenset({"stage_transition"}), channels=("feed",)),
        Rule(events=HELD_UP, channels=("ops", "feed"), urgent=True),
    )
    assert subjects(teller.take(blocked(), project="web-shop")) == [
        "ops: web-shop: 42 Login is blocked",
        "feed: web-shop: 42 Login is blocked",
    ]
    # Of two rules for one channel the first decides.
    assert [draft.urgent for draft in teller.take(unmerged(), project="web-shop")] == [False, True]
    assert [draft.urgent for draft in teller.take(blocked("1_bug_x"), project="web-demo")] == [True, True]
    assert subjects(teller.take(moved("7_bug_y"))) == ["feed: shop: 7 Login: current → qa"]


def test_nobody_is_told_of_an_end_where_the_rule_says_so() -> None:
    teller = Teller(Rule(events=HELD_UP, channels=("chat",), resolved=False))
    teller.take(blocked())
    assert teller.take(moved(at_ms=NOON + 1)) == []


# --- escalation --------------------------------------------------------------------------------------


def escalating(**more: object) -> Rule:
    steps = (Escalation(30 * MINUTE, "phone"), Escalation(HOUR, "boss"))
    return Rule(events=HELD_UP, channels=("chat",), escalate=steps, **more)  # type: ignore[arg-type] # of tests


def test_what_is_held_up_too_long_is_told_to_the_next_ones() -> None:
    teller = Teller(escalating())
    teller.take(blocked())
    assert teller.after(29 * MINUTE) == []
    teller.restart()
    [phone] = teller.after(2 * MINUTE)
    assert subjects([phone]) == ["phone: shop: 42 Login is still blocked after 30 min"]
    assert phone.urgent
    assert subjects(teller.after(HOUR)) == ["boss: shop: 42 Login is still blocked after 1 h"]
    assert teller.after(10 * HOUR) == []
    ends = teller.take(moved(at_ms=teller.now_ms))
    assert [(end.channel, end.edits is not None) for end in ends] == [
        ("chat", True),
        ("phone", True),
        ("boss", True),
    ]


def test_an_escalation_is_called_off_by_the_end() -> None:
    teller = Teller(escalating())
    teller.take(blocked())
    teller.after(29 * MINUTE)
    assert len(teller.take(moved(at_ms=NOON + 29 * MINUTE))) == 1
    assert teller.after(10 * HOUR) == []


def test_an_escalation_counts_from_the_first_of_several_blocks() -> None:
    teller = Teller(escalating(every_ms=0))
    teller.take(blocked())
    teller.after(20 * MINUTE)
    teller.take(blocked(reason="still", at_ms=NOON + 20 * MINUTE))
    assert subjects(teller.after(11 * MINUTE)) == ["phone: shop: 42 Login is still blocked after 30 min"]


def test_the_board_calls_off_what_no_event_ended() -> None:
    teller = Teller(escalating())
    [told] = teller.take(blocked())
    asked_ms = teller.now_ms + SECOND
    # What was asked for before the block says nothing of it.
    teller.core.compare(board(), NOON, asked_ms)
    assert teller.drafts() == []
    teller.core.compare(board(("shop", "42_story_login", "needs a key")), asked_ms, asked_ms)
    assert teller.drafts() == []
    teller.core.compare(board(), asked_ms, NOON + HOUR)
    [end] = teller.drafts()
    assert (end.subject, end.edits) == ("shop: 42 Login is held up no more, after 1 h", told.delivery_id)
    assert teller.after(10 * HOUR) == []


# --- beginning, resetting, gaps ----------------------------------------------------------------------


def test_the_first_start_names_what_is_held_up_and_tells_no_history() -> None:
    teller = Teller(escalating())
    teller.core.state.seen.add_up_to(("aa", "e1"), 100)
    teller.core.begin(
        board(("shop", "1_bug_a", "why"), ("shop", "2_bug_b", "so"), ("web", "3_bug_c", "no")), NOON
    )
    [start] = teller.after(SECOND)
    assert start.subject == "3 stories are held up now"
    assert start.text.splitlines()[1:] == [
        "held up now:",
        "• shop: 1 Login: blocked: why",
        "• shop: 2 Login: blocked: so",
        "• web: 3 Login: blocked: no",
    ]
    # History that is read again, after a reset say.
    assert all(teller.take(blocked(f"{seq}_bug_x"), seq=seq) == [] for seq in range(1, 101))
    # The end of one is answered: the message tells of others, too.
    [end] = teller.take(moved("1_bug_a", at_ms=NOON + SECOND), seq=101)
    assert (end.edits, end.thread) == (None, start.delivery_id)
    # And the others escalate.
    assert len(subjects(teller.after(HOUR))) == 4


def test_a_first_start_with_nothing_held_up_tells_nothing() -> None:
    teller = Teller()
    teller.core.begin(board(), NOON)
    assert teller.after(HOUR) == []


def test_one_story_at_the_start_is_told_as_itself_and_changed_when_it_goes_on() -> None:
    teller = Teller()
    teller.core.begin(board(("shop", "1_bug_a", "why")), NOON)
    [start] = teller.after(SECOND)
    assert start.subject == "shop: 1 Login is blocked"
    [end] = teller.take(moved("1_bug_a", at_ms=NOON + SECOND))
    assert end.edits == start.delivery_id


def test_the_event_that_the_board_told_of_before_is_no_news() -> None:
    teller = Teller()
    teller.core.begin(board(("shop", "42_story_login", "needs a key")), NOON)
    teller.after(SECOND)
    assert teller.take(blocked()) == []
    assert subjects(teller.take(moved(at_ms=NOON + 1))) != []


def test_a_gap_is_told_with_what_the_board_shows_since() -> None:
    teller = Teller()
    teller.core.missed(Gap(3, 40), NOON)
    teller.core.missed(Gap(41, 42), NOON)
    teller.core.compare(board(("shop", "1_bug_a", "why")), NOON, NOON)
    [gap] = teller.after(MINUTE)
    assert gap.text.splitlines() == [
        "events were missed; 1 story is held up",
        "• positions 3 to 40 of the log are kept no more, or damaged",
        "• positions 41 to 42 of the log are kept no more, or damaged",
        "held up now:",
        "• shop: 1 Login: blocked: why",
    ]
    assert teller.after(HOUR) == []


# --- muting ------------------------------------------------------------------------------------------


def test_a_muted_project_is_written_down_and_what_is_held_up_told_after() -> None:
    teller = Teller(escalating())
    teller.core.mute("shop", NOON + 2 * HOUR)
    assert [draft.state for draft in teller.take(blocked())] == ["muted"]
    assert [draft.state for draft in teller.take(blocked("1_bug_x"))] == ["muted"]
    assert subjects(teller.take(blocked("7_bug_y"), project="web")) == ["chat: web: 7 Login is blocked"]
    teller.take(moved("7_bug_y", at_ms=NOON + 1), project="web")
    teller.take(moved("1_bug_x", at_ms=NOON + 1))
    assert teller.after(2 * HOUR - SECOND) == []
    teller.restart()
    found = teller.after(MINUTE)
    assert subjects(found) == [
        "chat: shop: 1 story is held up; it was muted",
        "phone: shop: 42 Login is still blocked after 2 h",
        "boss: shop: 42 Login is still blocked after 2 h",
    ]
    assert subjects(teller.take(blocked("8_bug_z", at_ms=NOON + 3 * HOUR))) != []


def test_unmuting_tells_at_once() -> None:
    teller = Teller()
    teller.core.mute("shop", NOON + 2 * HOUR)
    teller.take(blocked())
    teller.core.unmute("shop")
    [told] = teller.after(SECOND)
    # It is of one story, and says so.
    assert told.subject == "shop: 42 Login is blocked"


def test_nothing_is_told_after_a_mute_in_which_all_was_over() -> None:
    teller = Teller()
    teller.core.mute("shop", NOON + 2 * HOUR)
    teller.take(blocked())
    assert teller.take(moved(at_ms=NOON + 1)) == []
    assert teller.after(3 * HOUR) == []


def test_a_message_that_told_before_the_mute_is_changed_where_that_disturbs_nobody() -> None:
    for editing, state in ((("chat",), "queued"), ((), "muted")):
        teller = Teller(editing=editing)
        [told] = teller.take(blocked())
        teller.core.mute("shop", NOON + 2 * HOUR)
        [end] = teller.take(moved(at_ms=NOON + 1))
        assert (end.state, end.edits) == (state, told.delivery_id)
