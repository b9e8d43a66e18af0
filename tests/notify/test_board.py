"""What the board says and no event does: a sled that finds a story blocked has none to send."""

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
    moved,
    subjects,
    unmerged,
)

from huskies.events.model import StoredStageTransition
from huskies.notify.model import Board, Gap, ProjectOnBoard, StoryOnBoard
from huskies.notify.rules import Escalation, Rule

SHOWN = board(("shop", "42_story_login", "needs a key"))
ESCALATING = Rule(events=HELD_UP, channels=("chat",), escalate=(Escalation(30 * MINUTE, "phone"),))


def compare(teller: Teller, shown: Board, times: int = 1) -> list[bool]:
    """A minute passes before each; whether each leaves something to the next."""
    found = []
    for _ in range(times):
        teller.now_ms += MINUTE
        found.append(teller.core.compare(shown, teller.now_ms, teller.now_ms))
    return found


def test_what_stood_on_the_board_twice_is_told_like_anything_else() -> None:
    teller = Teller(ESCALATING)
    assert compare(teller, SHOWN) == [True]
    assert teller.after(SECOND) == []
    assert compare(teller, SHOWN) == [False]
    [told] = teller.after(SECOND)
    assert (told.subject, told.kind) == ("shop: 42 Login is blocked", "board")
    assert compare(teller, SHOWN, 3) == [False] * 3
    teller.restart()
    assert len(subjects(teller.after(HOUR))) == 1
    ends = teller.take(moved(at_ms=teller.now_ms))
    assert [end.edits is not None for end in ends] == [True, True]


def test_several_are_told_together() -> None:
    teller = Teller()
    compare(teller, board(("shop", "1_bug_a", "why"), ("web", "2_bug_b", "so")), 2)
    assert [draft.subject for draft in teller.after(SECOND)] == ["2 stories are held up now"]


def test_what_stood_there_once_or_began_anew_is_not_told_yet() -> None:
    teller = Teller()
    compare(teller, SHOWN)
    compare(teller, board())
    compare(teller, SHOWN)
    # A gateway that does not say since when says the same a minute later.
    story = StoryOnBoard("42_story_login", "Login", blocked="again")
    again = Board([ProjectOnBoard("shop", [story])], "c-1")
    compare(teller, again)
    assert teller.after(MINUTE) == []
    compare(teller, again)
    assert len(teller.after(MINUTE)) == 1


def test_its_event_that_comes_later_is_no_news() -> None:
    for ahead_ms in (0, MINUTE):
        teller = Teller()
        late = teller.received(blocked(at_ms=NOON + ahead_ms))
        compare(teller, SHOWN, 2)
        assert len(teller.after(SECOND)) == 1
        teller.core.take(late, teller.now_ms)
        assert teller.after(HOUR) == []


def test_a_story_that_moved_after_the_board_was_asked_for_is_left_to_the_next() -> None:
    teller = Teller()
    compare(teller, SHOWN)
    asked_ms = teller.now_ms + MINUTE
    teller.now_ms = asked_ms + 1
    teller.take(moved(at_ms=teller.now_ms))
    assert not teller.core.compare(SHOWN, asked_ms, teller.now_ms)
    assert compare(teller, board()) == [False]
    assert teller.after(HOUR) == []


def test_of_two_things_that_hold_a_story_up_one_ends() -> None:
    teller = Teller(ESCALATING)
    teller.take(blocked())
    teller.take(unmerged())
    # A sled says that one of the two is over as a move from a stage to itself; its board says which.
    stays = StoredStageTransition(
        story_id="42_story_login",
        story_name="Login",
        from_stage="2_current",
        to_stage="2_current",
        timestamp_ms=NOON + MINUTE,
    )
    assert len(teller.take(stays)) == 2
    since_ms = NOON + MINUTE
    story = StoryOnBoard("42_story_login", "Login", merge_failure="conflict", merge_failure_since_ms=since_ms)
    compare(teller, Board([ProjectOnBoard("shop", [story])], "c-1"), 2)
    assert subjects(teller.after(SECOND)) == ["chat: shop: 42 Login could not be merged"]
    assert subjects(teller.after(31 * MINUTE)) == [
        "phone: shop: 42 Login is still not merged after 31 min 1 s"
    ]


def test_what_was_missed_is_told_after_a_restart_too() -> None:
    for lose in ("gap", "reset"):
        teller = Teller()
        if lose == "gap":
            teller.core.missed(Gap(3, 40), NOON)
        else:
            teller.core.reset(NOON)
        teller.restart()
        compare(teller, SHOWN)
        [told] = teller.after(MINUTE)
        assert told.subject == "events were missed; 1 story is held up"
        # That is once.
        compare(teller, board(("shop", "42_story_login", "needs a key"), ("web", "1_bug_a", "why")))
        assert teller.after(MINUTE) == []
