"""Percentiles out of bins: within the error that is stated of the exact answer, whatever the durations."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.gateway.bins import ERROR, bin_of, middle_of, percentile

DURATIONS = st.one_of(
    st.integers(0, 200),
    st.integers(0, 10**9),
    st.integers(0, limits.TIMESTAMP_MS_MAX),
    st.sampled_from([63, 64]),
)


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_within_its_error_of_the_exact_one(durations: list[int], percent: int) -> None:
    # By nearest rank: the least of them that so many per cent are not above.
    exact = sorted(durations)[-(-len(durations) * percent // 100) - 1]
    found = percentile(Counter(map(bin_of, durations)), percent)
    assert found is not None
    assert abs(found - exact) <= exact * ERROR


@given(DURATIONS, DURATIONS)
def test_bins_are_in_the_order_of_what_is_in_them(one: int, other: int) -> None:
    least, most = sorted((one, other))
    assert bin_of(least) <= bin_of(most)
    assert bin_of(middle_of(bin_of(one))) == bin_of(one)


def test_no_bin_is_left_out_and_the_last_one_fits_beside_a_stage() -> None:
    assert [bin_of(ms) for ms in range(128)] == [*range(64), *(64 + n // 2 for n in range(64))]
    assert bin_of(limits.TIMESTAMP_MS_MAX) < 1 << 11


@pytest.mark.parametrize("percent", [50, 90])
def test_of_nothing_there_is_no_percentile(percent: int) -> None:
    assert percentile({}, percent) is None
