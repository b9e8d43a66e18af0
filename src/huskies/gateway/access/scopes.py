"""What a token is good for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from huskies.events.names import is_project_name

RULE: Final = "expected push:PROJECT, read, read:PROJECT, admin or peer"

_OF_ALL: Final = ("read", "admin", "peer")
_OF_A_PROJECT: Final = ("push", "read")


class Scopes(msgspec.Struct, frozen=True):
    """Some scopes: which projects may be pushed for and read, and what else is granted.

    `reads` None: every project. `admin` includes reading everything, and neither pushing nor replicating.
    """

    pushes: frozenset[str] = frozenset()
    reads: frozenset[str] | None = frozenset()
    admin: bool = False
    peer: bool = False

    def may_read(self, project: str) -> bool:
        """Whether what is of this project may be seen."""
        return self.reads is None or project in self.reads

    @property
    def may_read_something(self) -> bool:
        """Whether there is anything to be seen at all."""
        return self.reads is None or bool(self.reads)

    @property
    def reads_all(self) -> bool:
        """Whether everything may be seen, what is of no project included."""
        return self.reads is None


NOTHING: Final = Scopes()
EVERYTHING_READ: Final = Scopes(reads=None)


def parse(texts: Iterable[str]) -> Scopes:
    """What these grant together; raises `ValueError` with the rule and the text that breaks it."""
    pushes: set[str] = set()
    reads: set[str] = set()
    whole: set[str] = set()
    for text in texts:
        kind, colon, project = text.partition(":")
        if not colon and kind in _OF_ALL:
            whole.add(kind)
        elif colon and kind in _OF_A_PROJECT and is_project_name(project):
            (pushes if kind == "push" else reads).add(project)
        else:
            raise ValueError(f"{RULE}; got {text!r}")
    return Scopes(
        pushes=frozenset(pushes),
        reads=None if whole & {"read", "admin"} else frozenset(reads),
        admin="admin" in whole,
        peer="peer" in whole,
    )
