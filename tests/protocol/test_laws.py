"""Small pure parts: version vectors, contiguity, backoff."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.protocol.backoff import Backoff
from huskies.protocol.contiguity import Gap, Split, judge
from huskies.protocol.vectors import Origin, VersionVector

_origin: Final[st.SearchStrategy[Origin]] = st.tuples(st.sampled_from("abc"), st.sampled_from("xy"))
vectors: Final = st.dictionaries(_origin, st.integers(0, 5)).map(VersionVector)


@given(vectors, vectors)
def test_merging_is_commutative(one: VersionVector, two: VersionVector) -> None:
    assert one.merged(two) == two.merged(one)


@given(vectors, vectors, vectors)
def test_merging_is_associative(one: VersionVector, two: VersionVector, three: VersionVector) -> None:
    assert one.merged(two).merged(three) == one.merged(two.merged(three))


@given(vectors)
def test_merging_is_idempotent_and_has_a_neutral_element(one: VersionVector) -> None:
    assert one.merged(one) == one
    assert one.merged(VersionVector()) == one


@given(vectors, vectors)
def test_merging_changes_neither_side(one: VersionVector, two: VersionVector) -> None:
    before = {origin: one[origin] for origin in one}
    one.merged(two).advance(("a", "x"), 99)
    assert {origin: one[origin] for origin in one} == before


@given(vectors, vectors)
def test_exchanging_what_is_missing_makes_both_the_same(one: VersionVector, two: VersionVector) -> None:
    merged = one.merged(two)
    for origin, (first, last) in two.missing_from(one).items():
        assert first == one[origin] + 1
        one.advance(origin, last)
    for origin, (_, last) in one.missing_from(two).items():
        two.advance(origin, last)
    assert one == two == merged
    assert one.missing_from(two) == {}


@given(vectors, _origin, st.integers(0, 9))
def test_advancing_never_goes_back(one: VersionVector, origin: Origin, seq: int) -> None:
    before = one[origin]
    one.advance(origin, seq)
    assert one[origin] == max(before, seq)


def test_what_is_not_held_is_zero_and_does_not_count() -> None:
    vector = VersionVector({("a", "x"): 0, ("b", "x"): 2})
    assert (vector["a", "x"], vector["c", "y"], len(vector)) == (0, 0, 1)
    assert vector != "something else"
    assert repr(vector) == "VersionVector({('b', 'x'): 2})"


@pytest.mark.parametrize(
    ("held", "first", "count", "verdict"),
    [
        (0, 1, 1, Split(0)),
        (0, 2, 1, Gap(1)),
        (5, 6, 3, Split(0)),
        (5, 7, 3, Gap(6)),
        (5, 5, 3, Split(1)),
        (5, 1, 5, Split(5)),
        (5, 1, 3, Split(3)),
        (5, 1, 9, Split(5)),
    ],
)
def test_a_batch_is_appended_split_or_a_gap(held: int, first: int, count: int, verdict: Gap | Split) -> None:
    assert judge(held, first, count) == verdict


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 20))
def test_nothing_is_ever_appended_but_what_comes_next(held: int, first: int, count: int) -> None:
    verdict = judge(held, first, count)
    if isinstance(verdict, Split):
        assert first + verdict.held == held + 1 or verdict.held == count
    else:
        assert first > held + 1 == verdict.expected


NOMINAL = [1, 2, 4, 8, 16, 32, 48, 48, 48]
ALMOST_ONE = 1 - 2**-53


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (0.5, 1.0), (ALMOST_ONE, 1.25)])
def test_delays_double_up_to_a_minute(chance: float, factor: float) -> None:
    backoff = Backoff()
    delays = [backoff.next_delay(chance) for _ in NOMINAL]
    assert delays == pytest.approx([nominal * factor for nominal in NOMINAL])


@given(st.integers(0, 200), st.floats(0, 1, exclude_max=True))
def test_no_delay_is_above_a_minute_or_below_a_tenth_under_its_first(failures: int, chance: float) -> None:
    backoff = Backoff()
    for _ in range(failures):
        backoff.next_delay(chance)
    assert 0.5 <= backoff.next_delay(chance) <= 60


@pytest.mark.parametrize("failures", range(12))
def test_the_jitter_is_at_least_a_tenth_to_each_side(failures: int) -> None:
    low, middle, high = Backoff(), Backoff(), Backoff()
    for _ in range(failures):
        for backoff in (low, middle, high):
            backoff.next_delay(0.5)
    nominal = middle.next_delay(0.5)
    assert low.next_delay(0.0) <= 0.9 * nominal
    assert high.next_delay(ALMOST_ONE) >= 1.1 * nominal


def test_an_accepted_session_brings_the_delay_back_to_a_second() -> None:
    backoff = Backoff()
    for _ in range(10):
        backoff.next_delay(0.5)
    backoff.succeeded()
    assert [backoff.next_delay(0.5), backoff.next_delay(0.5)] == [1.0, 2.0]


def test_the_times_of_the_protocol_are_those_of_the_specification() -> None:
    assert (limits.PING_INTERVAL, limits.SILENCE_LIMIT, limits.GREETING_LIMIT) == (15, 45, 10)
    assert (limits.ACK_LIMIT, limits.CLOSE_LIMIT) == (30, 1)
    assert (limits.BATCH_EVENTS_MAX, limits.FRAME_BYTES_MAX) == (1_000, 1_048_576)
    assert limits.JOIN_TOKEN_LIFETIME == 60
    assert limits.JOIN_TOKEN_BYTES * 8 >= 128
