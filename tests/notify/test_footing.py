from __future__ import annotations

from huskies.notify.footing import FRESH, LONGEST, REST, Footing


def caught_up(now: float) -> Footing:
    footing = Footing(now)
    footing.connected(now)
    footing.took(now, is_live=True)
    footing.asked(now)
    assert footing.is_caught_up(now)
    return footing


def test_what_is_due_waits_for_the_stream_to_rest_and_then_for_the_board() -> None:
    footing = Footing(0)
    footing.connected(1)
    assert not footing.wants_board(1, is_due=True)
    footing.took(1.5, is_live=False)
    assert not footing.wants_board(1.4 + REST, is_due=True)
    # What was asked for before that says nothing.
    footing.asked(1.5)
    assert not footing.is_caught_up(2)
    assert footing.wants_board(1.5 + REST, is_due=True)
    assert not footing.may_escalate(2.6)
    footing.asked(2.6)
    assert footing.is_caught_up(2.7)
    assert footing.may_escalate(2.7)
    assert not footing.wants_board(2.7, is_due=True)


def test_a_stream_that_never_rests_has_come_to_its_end_with_what_is_live() -> None:
    footing = Footing(0)
    footing.connected(0)
    footing.took(0.5, is_live=True)
    assert footing.wants_board(0.5, is_due=False)


def test_it_begins_again_when_the_stream_is_lost_or_is_another() -> None:
    for lose in (Footing.disconnected, Footing.begins_again):
        footing = caught_up(100)
        lose(footing, 200)
        assert not footing.is_caught_up(200)
        assert not footing.may_escalate(200)
        assert not footing.wants_board(200.5, is_due=True)


def test_a_gateway_that_is_away_is_waited_for_a_while_only() -> None:
    footing = caught_up(100)
    footing.disconnected(200)
    # Losing it once more makes it no longer.
    footing.connected(220)
    footing.disconnected(230)
    assert not footing.wants_board(259, is_due=True)
    assert not footing.is_caught_up(199 + LONGEST)
    assert footing.is_caught_up(200 + LONGEST)
    # It is asked all the same, and waited for since an escalation was due.
    assert footing.wants_board(300, is_due=True)
    assert not footing.may_escalate(258 + LONGEST)
    assert footing.may_escalate(259 + LONGEST)


def test_before_an_escalation_the_board_is_asked_in_any_case() -> None:
    footing = caught_up(100)
    now = 101 + FRESH
    assert not footing.wants_board(now, is_due=False)
    assert not footing.may_escalate(now)
    assert footing.wants_board(now, is_due=True)
    assert not footing.may_escalate(now + LONGEST - 1)
    assert footing.may_escalate(now + LONGEST)
    footing.asked(now + LONGEST)
    assert not footing.wants_board(now + LONGEST, is_due=True)
    # Each is waited for by itself.
    later = now + 10 * LONGEST
    footing.wants_board(later - 1, is_due=False)
    footing.wants_board(later, is_due=True)
    assert not footing.may_escalate(later)
