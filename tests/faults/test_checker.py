from __future__ import annotations

import pytest
from faults.checker import Identity, check, check_identities, check_reader

NUMBERS = {"a": range(10), "b": range(5)}
GOOD = [("a", 0), ("b", 0), *(("a", n) for n in range(1, 10)), *(("b", n) for n in range(1, 5))]


def test_a_good_log_passes() -> None:
    assert check(NUMBERS, NUMBERS, GOOD).ok


def test_what_was_attempted_and_not_acknowledged_may_be_missing() -> None:
    assert check(NUMBERS, {"a": range(9)}, [event for event in GOOD if event != ("a", 9)]).ok


def test_a_loss_is_found_and_named() -> None:
    for lost, kind in (((0, 1), "prefix"), ((4,), "middle"), ((8, 9), "suffix")):
        verdict = check(NUMBERS, NUMBERS, [event for event in GOOD if event not in [("a", n) for n in lost]])
        assert verdict.lost == {"a": list(lost)}
        assert verdict.kinds == {"a": kind}


def test_a_duplicate_is_found() -> None:
    assert check(NUMBERS, NUMBERS, [*GOOD, ("b", 4)]).doubled == [("b", 4)]


def test_a_swap_is_found() -> None:
    log = [*GOOD]
    log[3], log[4] = log[4], log[3]
    assert check(NUMBERS, NUMBERS, log).disordered == ["a"]


def test_what_no_one_attempted_is_found() -> None:
    assert check(NUMBERS, NUMBERS, [*GOOD, ("c", 1)]).invented == [("c", 1)]


def identities(*seqs: int) -> list[Identity]:
    return [Identity("a", "1", seq) for seq in seqs]


def test_an_identity_taken_twice_is_found() -> None:
    assert check_identities(identities(1, 2, 2)).repeated == identities(2)


def test_a_history_with_a_gap_or_out_of_order_is_found() -> None:
    assert check_identities(identities(1, 3)).broken == identities(3)
    assert not check_identities(identities(2, 1)).ok
    assert check_identities([*identities(1, 2), Identity("a", "2", 1), *identities(3)]).ok


CURSORS = [f"log-{position}-0" for position in range(1, 6)]


@pytest.mark.parametrize(
    ("opened_at", "seen", "problem"),
    [
        ("log-0-0", CURSORS, ""),
        ("log-2-0", CURSORS[2:], ""),
        ("log-5-0", [], ""),
        (None, [], "never connected"),
        ("log-0-0", CURSORS[1:], "prefix"),
        ("log-0-0", [*CURSORS[:2], *CURSORS[3:]], "middle"),
        ("log-0-0", CURSORS[:-1], "suffix"),
        ("log-0-0", [*CURSORS, CURSORS[-1]], "twice"),
        ("log-0-0", [CURSORS[1], CURSORS[0], *CURSORS[2:]], "order"),
        ("log-2-0", CURSORS, "not in its range"),
    ],
)
def test_a_subscriber_saw_exactly_its_range(opened_at: str | None, seen: list[str], problem: str) -> None:
    found = check_reader(CURSORS, opened_at, seen)
    assert problem in found
    assert bool(problem) == bool(found)
