"""Checker C: the acknowledged is in the log, what is in the log was attempted, once each and in order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Identity(NamedTuple):
    """Which event of which unbroken history."""

    sled_id: str
    epoch: str
    seq: int


class LossFoundError(AssertionError):
    """Events that were acknowledged are missing."""


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
    order: dict[str, list[int]] = defaultdict(list)
    for sled, number in log:
        order[sled].append(number)
    verdict.disordered = [sled for sled in tried if order[sled] != sorted(order[sled])]
    return verdict


@dataclass
class IdentityVerdict:
    """What is wrong with the identities of a log: taken twice, or not counted 1, 2, 3, … in its order."""

    repeated: list[Identity] = field(default_factory=list)
    broken: list[Identity] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.repeated or self.broken)


def check_identities(log: Sequence[Identity]) -> IdentityVerdict:
    """Judges a whole log: each identity once, each history without a gap and in order."""
    counted = Counter(log)
    verdict = IdentityVerdict(repeated=[one for one, count in counted.items() if count > 1])
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for one in log:
        if one.seq != newest[one.sled_id, one.epoch] + 1:
            verdict.broken.append(one)
        newest[one.sled_id, one.epoch] = one.seq
    return verdict


def check_reader(log: Sequence[str], opened_at: str | None, seen: Sequence[str]) -> str:
    """What is wrong with the cursors that a subscriber saw, in its order; empty where nothing is.

    Its range is from behind the cursor with which its stream opened to the end of the log.
    """
    if opened_at is None:
        return "it was never connected"
    start = _position(opened_at)
    expected = [cursor for cursor in log if _position(cursor) > start]
    if list(seen) == expected:
        return ""
    known = set(seen)
    if len(seen) != len(known):
        return "it saw an event twice"
    missing = [number for number, one in enumerate(expected) if one not in known]
    if missing:
        return f"it missed {len(missing)} of {len(expected)}: {_kind(range(len(expected)), missing)}"
    return "it saw events in another order, or some that are not in its range of the log"


def _position(cursor: str) -> int:
    return int(cursor.split("-")[1])


def _kind(said: Sequence[int], lost: Sequence[int]) -> str:
    if list(lost) == list(said[: len(lost)]):
        return "prefix"
    if list(lost) == list(said[-len(lost) :]):
        return "suffix"
    return "middle"
