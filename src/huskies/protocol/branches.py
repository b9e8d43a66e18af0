"""Two histories under one identity: which branch wins, the same everywhere (SPEC 5). Pure."""

from __future__ import annotations

import hashlib

from huskies.events import codec
from huskies.events.model import RelayedEvent


def first_wins(first: RelayedEvent, second: RelayedEvent) -> bool:
    """Whether the branch with `first` at their first difference wins over the one with `second`.

    The one with the lower SHA-256 of the event's canonical JSON does. Between any number of branches that is
    the order of their sequences of hashes, so replicas agree in whatever order they meet.
    """
    return _rank(first) < _rank(second)


def _rank(event: RelayedEvent) -> bytes:
    return hashlib.sha256(codec.encode_relayed(event)).digest()
