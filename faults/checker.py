"""Checker C: the acknowledged is in the log, what is in the log was attempted, once each and in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Verdict:
    """What is wrong; empty lists where nothing is. A loss is named by where in the sequence it lies."""

    lost: dict[str, list[int]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    doubled: list[tuple[str, int]] = field(default_factory=list)
    invented: list[tuple[str, int]] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.invented or self.disordered)


def check(
    attempted: Mapping[str, Iterable[int]],
    acknowledged: Mapping[str, Iterable[int]],
    log: Sequence[tuple[str, int]],
) -> Verdict:
    """Judges a log of (sled, counter), in the log's order, against what each sled attempted and was told."""
    verdict = Verdict()
    counted = Counter(log)
    verdict.doubled = [event for event, count in counted.items() if count > 1]
    tried = {sled: set(numbers) for sled, numbers in attempted.items()}
    verdict.invented = [(sled, number) for sled, number in counted if number not in tried.get(sled, set())]
    for sled, numbers in acknowledged.items():
        said = sorted(numbers)
        lost = [number for number in said if (sled, number) not in counted]
        if lost:
            verdict.lost[sled] = lost
            verdict.kinds[sled] = _kind(said, lost)
    for sled in tried:
        order = [number for name, number in log if name == sled]
        if order != sorted(order):
            verdict.disordered.append(sled)
    return verdict


def _kind(said: Sequence[int], lost: Sequence[int]) -> str:
    if list(lost) == list(said[: len(lost)]):
        return "prefix"
    if list(lost) == list(said[-len(lost) :]):
        return "suffix"
    return "middle"
