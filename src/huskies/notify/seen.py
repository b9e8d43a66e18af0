"""Which events were decided on already, by their identity, in as little room as can be. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from huskies.protocol.vectors import Origin


class Seen:
    """For each sequence the seqs that were seen, as ranges `[first, last, first, last, …]` in order.

    A sequence is read in its order as a rule, and so takes one range however long it is.
    """

    def __init__(self, ranges: Mapping[Origin, list[int]]) -> None:
        self._ranges = dict(ranges)
        self._changed: set[Origin] = set()

    def add(self, origin: Origin, seq: int) -> bool:
        """Note one event; whether it was not seen before."""
        found = self._ranges.get(origin)
        if found is None:
            self._ranges[origin] = [seq, seq]
        elif seq == found[-1] + 1:
            found[-1] = seq
        elif not _insert(found, seq):
            return False
        self._changed.add(origin)
        return True

    def add_up_to(self, origin: Origin, last_seq: int) -> None:
        """Note all of a sequence up to this seq."""
        rest = [seq for seq in self._ranges.get(origin, []) if seq > last_seq]
        if len(rest) % 2:
            rest.insert(0, last_seq + 1)
        if rest and rest[0] == last_seq + 1:
            rest[0] = 1
        else:
            rest = [1, last_seq, *rest]
        self._ranges[origin] = rest
        self._changed.add(origin)

    def has(self, origin: Origin, seq: int) -> bool:
        """Whether this event was seen."""
        found = self._ranges.get(origin, [])
        place = bisect_left(found, seq)
        return place < len(found) and (place % 2 == 1 or found[place] == seq)

    def has_changed(self) -> bool:
        """Whether any sequence has."""
        return bool(self._changed)

    def changed(self) -> Iterator[tuple[Origin, list[int]]]:
        """Each sequence that changed since `kept`, with its ranges now."""
        for origin in self._changed:
            yield origin, self._ranges[origin]

    def kept(self) -> None:
        """All of it is durable now."""
        self._changed.clear()

    def items(self) -> Iterable[tuple[Origin, list[int]]]:
        """Every sequence with its ranges."""
        return self._ranges.items()


def _insert(ranges: list[int], seq: int) -> bool:
    """Put one seq into the ranges; False where it was in there."""
    place = bisect_left(ranges, seq)
    # An odd place is within a range, or at its end.
    if place % 2 == 1 or (place < len(ranges) and ranges[place] == seq):
        return False
    joins_before = place > 0 and ranges[place - 1] == seq - 1
    joins_after = place < len(ranges) and ranges[place] == seq + 1
    if joins_before and joins_after:
        del ranges[place - 1 : place + 1]
    elif joins_before:
        ranges[place - 1] = seq
    elif joins_after:
        ranges[place] = seq
    else:
        ranges[place:place] = [seq, seq]
    return True
