"""What a gateway does with a batch, given what it holds of the sled's epoch (SPEC 5, rule 2)."""

from __future__ import annotations

import msgspec


class Gap(msgspec.Struct, frozen=True):
    """The batch begins beyond what may come next; nothing of it is stored."""

    expected: int


class Split(msgspec.Struct, frozen=True):
    """The first `held` events of the batch are there already and are compared; the rest is appended."""

    held: int


def judge(last_seq: int, first_seq: int, count: int) -> Gap | Split:
    """Decides about a batch of `count` events from `first_seq`, where `last_seq` is the newest held."""
    if first_seq > last_seq + 1:
        return Gap(last_seq + 1)
    return Split(min(count, last_seq + 1 - first_seq))
