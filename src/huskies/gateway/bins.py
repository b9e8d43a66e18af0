"""Counts of durations in bins that grow with what is in them, and what percentiles those give. Pure.

A power of two is cut into 32 bins of one width, so a bin is at most 1/32 of its least value wide, and its
middle within 1/64 (1.6 %) of whatever is in it; below 64 ms each value has a bin of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# The bins that a power of two is cut into, as a power of two.
_FINE: Final = 5
_EXACT: Final = 2 << _FINE
# What a percentile is off by at most, as a part of the exact one.
ERROR: Final = 1 / _EXACT


def bin_of(ms: int) -> int:
    """The number of the bin for a duration of 0 ms and more; a longer one has no lower number."""
    if ms < _EXACT:
        return ms
    shift = ms.bit_length() - _FINE - 1
    return (shift << _FINE) + (ms >> shift)


def middle_of(number: int) -> int:
    """The duration that stands for all in this bin."""
    if number < _EXACT:
        return number
    shift = (number >> _FINE) - 1
    least = ((number & ((1 << _FINE) - 1)) + (1 << _FINE)) << shift
    return least + ((1 << shift) - 1) // 2


def percentile(counts: Mapping[int, int], percent: int) -> int | None:
    """The least duration that so many per cent are not above, within `ERROR`; None where there are none."""
    rank = -(-sum(counts.values()) * percent // 100)
    for number in sorted(counts):
        rank -= counts[number]
        if rank <= 0:
            return middle_of(number)
    return None
