from __future__ import annotations

from tests.system.checker import check

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
