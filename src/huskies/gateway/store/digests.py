"""Digests of the log's sequences, by which two logs are compared without their events."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from huskies.gateway.store.log import Log
from huskies.protocol.vectors import Origin

DIGESTS_PATH = "/gateway/digests"
_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]


class SequenceDigest(msgspec.Struct, frozen=True):
    """A sequence up to `last_seq`; `digest` is null where the log does not retain what that takes.

    What is up to `dropped_seq` is no longer retained. `contested`: branches of it met, and one won.
    """

    sled_id: str
    epoch: str
    project: str
    last_seq: int
    digest: _Digest | None
    dropped_seq: int
    contested: bool


class DigestsAnswer(msgspec.Struct, frozen=True):
    """Every sequence of a gateway's log, or the one that was asked for, up to the seq that was asked for."""

    gateway_id: str
    log_id: str
    sequences: list[SequenceDigest]


async def all_digests(log: Log) -> list[SequenceDigest]:
    """Every sequence up to the newest that the log holds of it."""

    def read() -> list[tuple[str, str, str, int, int, int, bool]]:
        return [
            (s.sled_id, s.epoch, s.project, s.last_seq, s.digest, max(s.base_seq, s.dropped_seq), s.contested)
            for s in log.sequences.all_live()
        ]

    return [
        SequenceDigest(sled_id, epoch, project, last_seq, f"{digest:08x}", dropped_seq, contested)
        for sled_id, epoch, project, last_seq, digest, dropped_seq, contested in await log.call(
            lambda _: read()
        )
    ]


async def digest_at(log: Log, origin: Origin, seq: int | None) -> list[SequenceDigest]:
    """One sequence up to `seq` (None: the newest); empty where the log does not know or hold it."""
    [*found] = [each for each in await all_digests(log) if (each.sled_id, each.epoch) == origin]
    if seq is None or not found:
        return found
    if seq > found[0].last_seq:
        return []
    digest = await log.digest(origin, seq)
    text = None if digest is None else f"{digest:08x}"
    return [msgspec.structs.replace(found[0], last_seq=seq, digest=text)]
