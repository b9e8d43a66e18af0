"""Checker C of a simulation, after everything healed: reads the logs' files as they are, and trusts none."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from huskies.testing.fleet import GatewayNode, ReaderNode
from huskies.testing.world import World

_SHOWN_AT_MOST = 5


class _Event(msgspec.Struct):
    reason: str


_events = msgspec.json.Decoder(list[_Event])


class Entry(NamedTuple):
    """An event of a log: its identity, and whose which it is."""

    position: int
    sled_id: str
    epoch: str
    seq: int
    sled: str
    number: int


class Contents(NamedTuple):
    """What a log shows, in its order, and what it holds in quarantine."""

    shown: list[Entry]
    quarantined: list[Entry]


def read_log(path: Path) -> Contents:
    """The contents of a log's file."""
    contents = Contents([], [])
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        streams = {row[0]: row[1:] for row in db.execute("SELECT id, sled_id, epoch, cut_seq FROM streams")}
        for start, runs, events in db.execute("SELECT position, runs, events FROM blocks ORDER BY position"):
            values = enumerate(_events.decode(events), start)
            for stream_id, first_seq, count, *_ in msgspec.json.decode(runs):
                sled_id, epoch, cut_seq = streams[stream_id]
                for seq, (position, value) in zip(range(first_seq, first_seq + count), values, strict=False):
                    entry = _entry(position, sled_id, epoch, seq, value)
                    is_cut = cut_seq is not None and seq > cut_seq
                    (contents.quarantined if is_cut else contents.shown).append(entry)
        for stream_id, first, events in db.execute("SELECT stream_id, first_seq, events FROM quarantine"):
            sled_id, epoch, _ = streams[stream_id]
            for seq, value in enumerate(_events.decode(events), first):
                contents.quarantined.append(_entry(0, sled_id, epoch, seq, value))
    return contents


def _entry(position: int, sled_id: str, epoch: str, seq: int, event: _Event) -> Entry:
    sled, number, *_ = event.reason.split(maxsplit=2)
    return Entry(position, sled_id, epoch, seq, sled, int(number))


def judge(world: World) -> Counter[str]:
    """Report what is wrong to the world; says how many events were attempted, acknowledged and found."""
    logs = {name: read_log(node.data / "log.db") for name, node in world.gateways.items()}
    quarantined = {(entry.sled, entry.number) for contents in logs.values() for entry in contents.quarantined}
    for name, contents in logs.items():
        for problem in (
            *_identities(contents.shown),
            *_values(world, contents.shown),
            *_losses(world, contents.shown, quarantined),
        ):
            world.violated(f"{name}: {problem}")
    _agreement(world)
    for reader in world.readers.values():
        for problem in _reading(reader, logs[reader.gateway.name]):
            world.violated(f"{reader.name}: {problem}")
    found = {(entry.sled, entry.number) for contents in logs.values() for entry in contents.shown}
    return Counter(
        {
            "attempted": sum(sled.attempted for sled in world.sleds.values()),
            "acknowledged": sum(len(sled.acknowledged) for sled in world.sleds.values()),
            "found": len(found),
            "quarantined": len(quarantined),
            "excused": len(world.excused),
        }
    )


def _identities(shown: list[Entry]) -> Iterator[str]:
    """Each sequence is 1, 2, 3, … in the log's order, and so holds each identity once."""
    newest: dict[tuple[str, str], int] = {}
    for entry in shown:
        origin = (entry.sled_id, entry.epoch)
        expected = newest.get(origin, 0) + 1
        if entry.seq != expected:
            yield f"seq {entry.seq} of {entry.sled}'s epoch {entry.epoch[:8]} where {expected} comes next"
            return
        newest[origin] = entry.seq


def _values(world: World, shown: list[Entry]) -> Iterator[str]:
    """Each value was attempted, stands there once, and those of an epoch are in the sled's order."""
    counted = Counter((entry.sled, entry.number) for entry in shown)
    doubled = [value for value, count in counted.items() if count > 1 and value not in world.may_double]
    if doubled:
        yield f"{len(doubled)} events are doubled: {doubled[:_SHOWN_AT_MOST]}"
    invented = [(sled, number) for sled, number in counted if number > world.sleds[sled].attempted]
    if invented:
        yield f"{len(invented)} events were never attempted: {invented[:_SHOWN_AT_MOST]}"
    newest: dict[tuple[str, str], int] = {}
    for entry in shown:
        if entry.number < newest.get((entry.sled_id, entry.epoch), 0):
            yield f"{entry.sled}'s event {entry.number} is out of order"
            return
        newest[entry.sled_id, entry.epoch] = entry.number


def _losses(world: World, shown: list[Entry], quarantined: set[tuple[str, int]]) -> Iterator[str]:
    held = {(entry.sled, entry.number) for entry in shown}
    for name, sled in world.sleds.items():
        lost = [
            number
            for number in sled.acknowledged
            if (name, number) not in held
            and (name, number) not in world.excused
            # Two branches of a history exist only where an older outbox was put back.
            and not (sled.restored and (name, number) in quarantined)
        ]
        if lost:
            yield f"{len(lost)} acknowledged events of {name} are lost: {sorted(lost)[:_SHOWN_AT_MOST]}"


def _agreement(world: World) -> None:
    """All gateways hold as much of each sequence, and the same."""
    heads = {name: heads_of(node) for name, node in world.gateways.items()}
    first = next(iter(heads.values()))
    for name, found in heads.items():
        different = sorted(
            f"{sled_id[:8]}/{epoch[:8]}" for (sled_id, epoch), _ in first.items() ^ found.items()
        )
        if different:
            world.violated(f"{name} and the first gateway differ in {different[:_SHOWN_AT_MOST]}")


def heads_of(node: GatewayNode) -> dict[tuple[str, str], tuple[int, int]]:
    """How much of each sequence a gateway that runs holds, and the digest."""
    if node.gateway is None:
        return {}
    live = node.gateway.log.sequences.all_live()
    return {stream.origin: (stream.last_seq, stream.digest) for stream in live if stream.last_seq}


def _reading(reader: ReaderNode, log: Contents) -> Iterator[str]:
    """A reader saw what the log shows, in its order; what went into quarantine later stands aside."""
    cut = {(entry.sled_id, entry.epoch, entry.seq, entry.position) for entry in log.quarantined}
    seen = [(s.sled_id, s.epoch, s.seq, int(s.cursor.split("-")[1])) for s in reader.seen]
    seen = [one for one in seen if one not in cut]
    expected = [(entry.sled_id, entry.epoch, entry.seq, entry.position) for entry in log.shown]
    if seen == expected:
        return
    missed, extra = len(set(expected) - set(seen)), len(set(seen) - set(expected))
    yield (
        f"saw {len(seen)} events, {len(set(seen))} of them different, where the log has {len(expected)}; "
        f"missed {missed}, and saw {extra} that are not there"
    )
