"""What is asked of the log and who is told: batches on their way into it, and what became of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from huskies.events.model import RelayedEvent
from huskies.gateway.store.blocks import Stream
from huskies.protocol.contiguity import Gap

_log = logging.getLogger("huskies.log")


class AppendOwner(Protocol):
    """Who is told what became of an append; called in the event loop."""

    def on_committed(self, last_seq: int, batches: int, events: int) -> None:
        """So many batches are in the log, the newest ending with `last_seq`."""

    def on_gap(self, expected: int, batches: int, events: int) -> None:
        """These began beyond `expected`; nothing of them was stored."""

    def on_conflict(self, seq: int, batches: int, events: int) -> None:
        """These have another content than the log, first at `seq`; nothing of them was stored."""


class Claim(msgspec.Struct, frozen=True):
    """The digests of a sequence before some events and with them, in another gateway's log.

    `on_branch` is called where this log holds another branch of the sequence; the owner then counts the
    events as committed, for there is nothing more to wait for.
    """

    before: int
    after: int
    on_branch: Callable[[Stream, Lost | Diverged], None]


class Append(msgspec.Struct):
    """Consecutive events on their way into the log, joined from so many `batches` of their owner.

    `first_seq` 0: whatever comes next (events without an identity, from v1). `claim` is what another gateway
    says of the sequence that it sends them of; None where they come from a sled.
    """

    stream: Stream
    first_seq: int
    events: list[RelayedEvent]
    received_ms: int
    replayed_through: int
    owner: AppendOwner
    count: int
    size: int
    batches: int = 1
    claim: Claim | None = None


class Conflict(msgspec.Struct, frozen=True):
    """The log holds something else at `seq`."""

    seq: int


class Lost(msgspec.Struct, frozen=True):
    """The log holds another branch of the sequence from `seq` on, and that one wins everywhere.

    `digest` is the sequence's before `seq`, which both have in common.
    """

    seq: int
    digest: int


class Diverged(msgspec.Struct, frozen=True):
    """The log holds another branch of the sequence, which begins somewhere before these events."""


class Settled(msgspec.Struct):
    """What one commit settled for one owner."""

    owner: AppendOwner
    last_seq: int = 0
    batches: int = 0
    events: int = 0


def tell(settled: Settled) -> None:
    """Tell an owner what a commit settled for it."""
    # What one owner does with the news must not keep it from the others.
    try:
        settled.owner.on_committed(settled.last_seq, settled.batches, settled.events)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("a commit could not be acknowledged")


def tell_refused(job: Append, result: Gap | Conflict | Lost | Diverged) -> None:
    """Tell an owner that what it appended was refused."""
    try:
        if isinstance(result, Lost | Diverged):
            assert job.claim is not None  # noqa: S101 - who makes no claim gets a conflict
            job.claim.on_branch(job.stream, result)
            job.owner.on_committed(0, job.batches, job.count)
            return
        if isinstance(result, Gap):
            job.owner.on_gap(result.expected, job.batches, job.count)
        else:
            job.owner.on_conflict(result.seq, job.batches, job.count)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("a refusal could not be told")
