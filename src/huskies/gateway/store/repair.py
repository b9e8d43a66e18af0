"""Whether what another log or a backup holds is exactly the block that is damaged here. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from huskies.events import codec
from huskies.events.model import RelayedEvent
from huskies.gateway.store.blocks import Block, Run, checksum, encode_runs


class Damaged(msgspec.Struct, frozen=True):
    """What is known of a damaged block from the rows around it.

    `before` is the log's checksum with the block before it, `chain` the one that the next block continues.
    `runs` are its own, where they can still be read: they tell which events to look for.
    """

    position: int
    count: int
    before: int
    chain: int
    runs: tuple[Run, ...] = ()


class Rebuilt(msgspec.Struct, frozen=True):
    """The block as it was, and its runs as they are stored."""

    block: Block
    runs_json: bytes


def rebuild(damaged: Damaged, runs: Sequence[Run], events: Sequence[RelayedEvent]) -> Rebuilt | str:
    """The block out of candidates; or why they are not what stood there."""
    held = sum(run.count for run in runs)
    if held != damaged.count or len(events) != damaged.count:
        return f"expected {damaged.count} events, got {len(events)} and runs of {held}"
    runs_json, events_json = encode_runs(runs), codec.encode_batch(events)
    chain = checksum(damaged.before, runs_json, events_json)
    if chain != damaged.chain:
        return f"their checksum is {chain:08x}, and the next block continues {damaged.chain:08x}"
    block = Block(
        damaged.position, damaged.count, damaged.before, chain, list(runs), events_json, list(events)
    )
    return Rebuilt(block, runs_json)
