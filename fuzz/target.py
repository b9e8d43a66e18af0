"""What a fuzz target is: something that takes bytes from outside, and what must hold whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Outcome(NamedTuple):
    """Whether an input was taken or refused as documented, and as what or why."""

    taken: bool
    label: str


# Raises where something else happens; that is a finding.
Check: TypeAlias = Callable[[bytes], Outcome]


@dataclass(frozen=True, kw_only=True)
class Target:
    """`seeds` are whole and valid; `words` are put into what is made of them.

    `inputs`: how many a whole run makes. `grows`: whether time is to stay in proportion to the size.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Check]]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()
    inputs: int = 60_000
    grows: bool = True


def always(check: Check) -> Callable[[], AbstractContextManager[Check]]:
    """For a target that needs nothing to be opened before it."""

    @contextmanager
    def opened() -> Iterator[Check]:
        yield check

    return opened


def taken(label: str = "taken") -> Outcome:
    """The input was what it should be."""
    return Outcome(taken=True, label=label)


def refused(why: object) -> Outcome:
    """The input was refused as it should be."""
    return Outcome(taken=False, label=str(why))
