"""Version vectors: how much of each (sled, epoch) sequence someone holds.

Each sequence is contiguous from 1, so one number says all of it. Merging takes the greater number and is
commutative, associative and idempotent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

Origin: TypeAlias = tuple[str, str]


class VersionVector:
    """The newest seq held for each `(sled_id, epoch)`; 0 where nothing is held."""

    def __init__(self, seqs: Mapping[Origin, int] | None = None) -> None:
        self._seqs = {origin: seq for origin, seq in (seqs or {}).items() if seq > 0}

    def __getitem__(self, origin: Origin) -> int:
        return self._seqs.get(origin, 0)

    def __iter__(self) -> Iterator[Origin]:
        return iter(self._seqs)

    def __len__(self) -> int:
        return len(self._seqs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionVector) and self._seqs == other._seqs

    __hash__ = None  # type: ignore[assignment]  # mutable: advances as events come in

    def __repr__(self) -> str:
        return f"VersionVector({self._seqs!r})"

    def advance(self, origin: Origin, seq: int) -> None:
        """Now holds everything up to `seq`; what is held already stays."""
        if seq > self[origin]:
            self._seqs[origin] = seq

    def merged(self, other: VersionVector) -> VersionVector:
        """What the two hold together."""
        result = VersionVector(self._seqs)
        for origin in other:
            result.advance(origin, other[origin])
        return result

    def missing_from(self, other: VersionVector) -> dict[Origin, tuple[int, int]]:
        """What is held here and not there: for each origin, the first and last such seq."""
        return {origin: (other[origin] + 1, seq) for origin, seq in self._seqs.items() if seq > other[origin]}
