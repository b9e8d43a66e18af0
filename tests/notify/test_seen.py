from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from huskies.notify.seen import Seen

ORIGIN = ("aa", "e1")
seqs = st.lists(st.integers(1, 30), max_size=60)


@given(seqs)
def test_each_is_new_once_whatever_the_order(order: list[int]) -> None:
    seen, known = Seen({}), set[int]()
    for seq in order:
        assert seen.add(ORIGIN, seq) is (seq not in known)
        known.add(seq)
        assert {one for one in range(1, 32) if seen.has(ORIGIN, one)} == known
    for ranges in dict(seen.items()).values():
        assert ranges == sorted(ranges)
        firsts, lasts = ranges[::2], ranges[1::2]
        # As few ranges as there can be.
        assert all(first > last + 1 for last, first in zip(lasts, firsts[1:], strict=False))


@given(seqs, st.integers(1, 30))
def test_what_is_up_to_a_seq_is_seen_beside_the_rest(order: list[int], last: int) -> None:
    seen = Seen({})
    for seq in order:
        seen.add(ORIGIN, seq)
    seen.add_up_to(ORIGIN, last)
    known = {*order, *range(1, last + 1)}
    assert {one for one in range(1, 32) if seen.has(ORIGIN, one)} == known
    assert all(seen.add(ORIGIN, seq) is (seq not in known) for seq in range(1, 32))


def test_a_long_sequence_takes_one_range() -> None:
    seen = Seen({})
    for seq in range(1, 10_001):
        seen.add(ORIGIN, seq)
    assert list(seen.changed()) == [(ORIGIN, [1, 10_000])]
    seen.kept()
    assert list(seen.changed()) == []
