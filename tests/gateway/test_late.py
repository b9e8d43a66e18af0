"""Boards after a repair: what was damaged when it was to be folded counts as if it had never been."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import Http, OpenLogs, StartGateway, stop
from tests.support.relay_client import blocked, push

from huskies.events.model import RelayedEvent, StoredMergeFailure, StoredStageTransition, StoredStoryBlocked
from huskies.gateway.fleet import Fleet
from huskies.gateway.server import Gateway
from huskies.gateway.standing import Snapshot
from huskies.gateway.store.blocks import Batch, Block, Stream, pack

STREAMS: list[Stream | None] = [None, Stream(1, "aa", "e1", "shop"), Stream(2, "aa", "e2", "shop")]


# --- the fleet ---------------------------------------------------------------------------------------


def an_event(rng: random.Random, at: int) -> RelayedEvent:
    story, name = rng.choice(["1_bug_x", "2_bug_y"]), rng.choice(["", "X", "Y"])
    stages = ["1_backlog", "2_current", "3_qa"]
    kind = rng.randrange(4)
    if kind == 0:
        return StoredStoryBlocked(story_id=story, story_name=name, reason=str(at), timestamp_ms=at)
    if kind == 1:
        return StoredMergeFailure(story_id=story, story_name=name, reason=str(at), timestamp_ms=at)
    before, after = rng.choice(stages), rng.choice(stages)
    return StoredStageTransition(
        story_id=story, story_name=name, from_stage=before, to_stage=after, timestamp_ms=at
    )


def some_blocks(rng: random.Random) -> list[Block]:
    """Blocks of a few events of two sequences."""
    heads = {1: 0, 2: 0}
    blocks: list[Block] = []
    position, chain = 1, 0
    for number in range(8):
        batches = []
        for stream in STREAMS[1:]:
            assert stream is not None
            events = [an_event(rng, number * 10 + rng.randrange(20)) for _ in range(rng.randrange(1, 4))]
            batches.append(Batch(stream, heads[stream.id] + 1, 1_000 + number, 0, events))
            heads[stream.id] += len(events)
        for block, _ in pack(batches, position, chain):
            blocks.append(block)
            position, chain = block.last_position + 1, block.chain
    return blocks


def stories(fleet: Fleet) -> Any:
    project = fleet.project("shop")
    return project.stories(), project.last_seen_ms


@pytest.mark.parametrize("seed", range(100))
def test_a_block_that_is_folded_late_counts_as_if_it_came_in_its_turn(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a case, not a secret
    blocks = some_blocks(rng)
    snapshot = Snapshot("aa", "e1", rng.randrange(12), rng.randrange(100), {}) if rng.random() < 0.5 else None
    late = rng.sample(range(len(blocks)), 3)
    in_turn, other = Fleet(), Fleet()
    for number, block in enumerate(blocks):
        if number == 4 and snapshot is not None:
            in_turn.apply_snapshot("shop", snapshot)
            other.apply_snapshot("shop", snapshot)
        in_turn.apply_block(block, STREAMS)
        if number not in late:
            other.apply_block(block, STREAMS)
    # What was not late changes nothing either.
    for number in [*late, *rng.sample(range(len(blocks)), 3)]:
        other.apply_late(blocks[number], STREAMS)
    assert stories(other) == stories(in_turn)


def test_what_is_in_quarantine_is_not_folded_late() -> None:
    cut = Stream(1, "aa", "e1", "shop", last_seq=2, cut_seq=1)
    fleet = Fleet()
    events = [blocked_event("one", "1_bug_x"), blocked_event("two", "2_bug_y")]
    [(block, _)] = pack([Batch(Stream(1, "aa", "e1", "shop"), 1, 1, 0, events)], 1, 0)
    fleet.apply_late(block, [None, cut])
    assert list(fleet.project("shop").stories()) == ["1_bug_x"]


def blocked_event(reason: str, story_id: str) -> RelayedEvent:
    return StoredStoryBlocked(story_id=story_id, reason=reason, timestamp_ms=1)


# --- a whole gateway ---------------------------------------------------------------------------------


async def passed_over(start_gateway: StartGateway, tmp_path: Path) -> tuple[Gateway, Block]:
    """A gateway whose boards were made while the second of three blocks was damaged; and that block."""
    gateway = await start_gateway()
    for number in range(1, 4):
        await push(gateway.url, "shop", blocked(str(number), f"{number}_bug_x"))
    [_, block, _] = gateway.feed.recent(0) or []
    await stop(gateway)
    with closing(sqlite3.connect(tmp_path / "gw" / "log.db")) as db, db:
        db.execute("UPDATE blocks SET events = CAST(replace(events, '\"2\"', '\"x\"') AS BLOB)")
    for path in (tmp_path / "gw").glob("views.db*"):
        path.unlink()
    gateway = await start_gateway()
    assert len(gateway.log.damaged) == 1
    return gateway, block


async def board(gateway: Gateway, http: Http) -> list[str]:
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    return sorted(story["story_id"] for story in project["stories"])


async def test_a_board_has_what_was_repaired_after_it_was_made(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway, block = await passed_over(start_gateway, tmp_path)
    assert await board(gateway, http) == ["1_bug_x", "3_bug_x"]
    assert await gateway.log.repair(2, block.runs, block.events()) is None
    assert await board(gateway, http) == ["1_bug_x", "2_bug_x", "3_bug_x"]
    await stop(gateway)
    gateway = await start_gateway()
    assert await board(gateway, http) == ["1_bug_x", "2_bug_x", "3_bug_x"]


async def test_a_board_that_was_kept_before_a_repair_has_it_after_a_crash(
    start_gateway: StartGateway, http: Http, tmp_path: Path, open_log: OpenLogs
) -> None:
    gateway, block = await passed_over(start_gateway, tmp_path)
    await stop(gateway)
    # Repaired, and nothing that follows the log was told.
    log = await open_log("gw")
    assert await log.log.repair(2, block.runs, block.events()) is None
    assert log.index.read_fleet().position == 3
    await log.close()
    gateway = await start_gateway()
    assert await board(gateway, http) == ["1_bug_x", "2_bug_x", "3_bug_x"]
    page = (await http(f"{gateway.url}/gateway/events", project="shop", story="2_bug_x")).body
    assert [shown["event"]["reason"] for shown in page["events"]] == ["2"]
