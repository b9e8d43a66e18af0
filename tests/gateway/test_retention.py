"""Retention: whole blocks go from the beginning, noted durably, and nobody is left without being told."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.gateway.conftest import Eventually, Http, OpenLog, OpenLogs, Owner, StartGateway, stop, stored
from tests.gateway.test_damage import HARMS, Harm, flipped
from tests.support.relay_client import blocked, connect, new_epoch, new_key, push
from tests.support.sse_client import open_stream

from huskies.events import codec
from huskies.gateway import server
from huskies.gateway.store import keeper, log_store, retention
from huskies.gateway.store.appends import Append, Claim, Diverged, Lost
from huskies.gateway.store.blocks import Stream, extend_digest
from huskies.gateway.store.index import IndexReader
from huskies.gateway.store.retention import Dropped, Rules
from huskies.gateway.store.verify import LogCheck
from huskies.storage.sqlite import open_reader

ORIGIN = ("aa", "e1")
AGED = Rules(age_ms=1_000)


async def filled(log: OpenLog, count: int = 6, first: int = 1) -> OpenLog:
    """Blocks of two events each, received one second after the other; the clock stands behind the last."""
    shop, blog = await log.admit(), await log.admit("bb", "e9", "blog")
    for seq in range(first, first + count):
        for stream, name in ((shop, "s"), (blog, "b")):
            event = stored(f"{name}{seq}")
            log.log.append(Append(stream, seq, [event], seq * 1_000, 0, Owner(), 1, 100))
        log.next_block()
    await log.settled()
    return log


def at(log: OpenLog, moment_ms: int) -> None:
    log.log._writer.now_ms = lambda: moment_ms


async def trim(log: OpenLog, rules: Rules, up_to: int = 1_000_000) -> Dropped | None:
    return await log.log.trim(rules, up_to)


async def positions(log: OpenLog) -> list[int]:
    return [block.position for block in await log.history.blocks_after(0)]


async def test_what_was_received_long_ago_goes_in_whole_blocks(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    at(log, 4_500)
    assert await log.log.call(lambda db: retention.is_due(db, AGED, 4_500))
    dropped = await trim(log, AGED)
    assert dropped is not None
    assert (dropped.last_position, dropped.events, dropped.more) == (6, 6, False)
    assert await positions(log) == [7, 9, 11]
    assert await trim(log, AGED) is None


async def test_the_newest_block_stays_however_old_or_large(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    at(log, 10**9)
    await trim(log, Rules(age_ms=1, size=1))
    assert await positions(log) == [11]
    assert await trim(log, Rules(age_ms=1, size=1)) is None


async def test_without_rules_everything_stays(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    at(log, 10**12)
    assert await trim(log, Rules()) is None
    assert not await log.log.call(lambda db: retention.is_due(db, Rules(), 10**12))


async def test_nothing_goes_beyond_what_is_allowed(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    at(log, 10**9)
    await trim(log, AGED, up_to=5)
    assert await positions(log) == [5, 7, 9, 11]
    assert await trim(log, AGED, up_to=5) is None


async def test_a_log_that_is_too_large_shrinks_and_so_does_its_file(
    open_log: OpenLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SPARE_PAGES", 8)
    log = await open_log()
    stream = await log.admit()
    for seq in range(1, 201):
        log.append(stream, seq, stored("x" * 16_000), owner=Owner())
        log.next_block()
    await log.settled()
    before = await log.log.call(retention.used_bytes)
    rules = Rules(size=before // 4)
    steps = 0
    while (dropped := await trim(log, rules)) is not None and dropped.more:
        steps += 1
    after = await log.log.call(retention.used_bytes)
    assert before // 8 < after <= before // 4
    assert steps == 2
    for _ in range(10):
        await trim(log, rules)
    await log.close()
    assert log.log.path.stat().st_size < before // 2


async def test_a_step_is_small(open_log: OpenLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP_BLOCKS", 2)
    log = await filled(await open_log())
    at(log, 10**9)
    told = []
    while (dropped := await trim(log, AGED)) is not None:
        told.append((dropped.last_position, dropped.more))
        if not dropped.more:
            break
    assert told[:2] == [(4, True), (8, True)]
    assert await positions(log) == [11]


async def test_what_was_dropped_when_is_kept_by_the_day(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    at(log, 3_500)
    await trim(log, AGED)
    at(log, 4_500)
    await trim(log, AGED)
    rows = await log.log.call(
        lambda db: db.execute("SELECT day, last_position, events FROM dropped").fetchall()
    )
    assert rows == [(0, 6, 6)]


@pytest.mark.parametrize("checkpointed", [False, True])
async def test_heads_and_digests_survive_a_restart_with_everything_but_the_newest_dropped(
    open_log: OpenLogs,
    checkpointed: bool,  # noqa: FBT001 - a case
) -> None:
    log = await filled(await open_log())
    blog = log.log.sequences.live(("bb", "e9"))
    digest = await log.log.digest(ORIGIN, 6)
    if checkpointed:
        await log.close()
        log = await open_log()
    at(log, 10**9)
    await trim(log, AGED)
    # As after a crash: nothing was checkpointed on the way out.
    log.log._writer._failed = True
    await log.close()
    log = await open_log()
    assert (log.log.heads()[ORIGIN], log.log.heads()["bb", "e9"]) == (6, 6)
    assert await log.log.digest(ORIGIN, 6) == digest
    assert blog is not None
    live = log.log.sequences.live(ORIGIN)
    assert live is not None
    assert (live.dropped_seq, live.dropped_digest) == (5, await log.log.digest(ORIGIN, 5))
    assert await log.log.digest(ORIGIN, 4) is None
    await filled(log, 1, 7)
    assert log.log.heads()[ORIGIN] == 7


async def test_a_sled_that_sends_again_what_was_dropped_is_acknowledged(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.close()
    log = await open_log()
    at(log, 4_500)
    await trim(log, AGED)
    owner = Owner()
    log.append(await log.admit(), 1, *(stored(f"s{seq}") for seq in range(1, 8)), owner=owner)
    await log.settled()
    assert (owner.told, log.failures) == ([("ack", 7)], [])
    log.append(await log.admit(), 2, stored("cannot be compared any more"), owner=owner)
    log.append(await log.admit(), 4, stored("another"), owner=owner)
    await log.settled()
    assert owner.told[1:] == [("ack", 2), ("conflict", 4)]


@pytest.mark.parametrize("first_seq", [1, 2, 3, 4, 5])
async def test_another_gateway_that_sends_from_before_what_was_dropped_agrees(
    open_log: OpenLogs, first_seq: int
) -> None:
    log = await filled(await open_log())
    at(log, 4_500)
    await trim(log, AGED)
    sequence = [stored(f"s{seq}") for seq in range(1, 9)]
    branches: list[Lost | Diverged] = []

    def on_branch(stream: Stream, branch: Lost | Diverged) -> None:
        assert stream.origin == ORIGIN
        branches.append(branch)

    def digest(count: int) -> int:
        return extend_digest(0, codec.encode_batch(sequence[:count])[1:-1]) if count else 0

    batch = sequence[first_seq - 1 :]
    stream, owner = await log.admit(), Owner()
    claim = Claim(digest(first_seq - 1), digest(8), on_branch)
    log.log.append(Append(stream, first_seq, batch, 1, 0, owner, len(batch), 1, claim=claim))
    await log.settled()
    assert (branches, log.log.heads()[ORIGIN]) == ([], 8)
    assert await log.log.digest(ORIGIN, 8) == digest(8)
    if first_seq < 4:
        wrong = Claim(digest(first_seq - 1) ^ 1, digest(8), on_branch)
        log.log.append(Append(stream, first_seq, batch, 1, 0, owner, len(batch), 1, claim=wrong))
        await log.settled()
        assert branches == [Diverged()]


async def test_what_is_in_quarantine_is_dropped_too_and_the_winning_branch_keeps_its_digests(
    open_log: OpenLogs,
) -> None:
    log = await filled(await open_log())
    digest = await log.log.digest(ORIGIN, 3)
    live = log.log.sequences.live(ORIGIN)
    assert live is not None
    assert digest is not None
    await log.log.call(lambda db: log.log.sequences.cut(db, live, 4, digest))
    at(log, 10**9)
    await trim(log, AGED)
    assert (live.dropped_seq, live.dropped_digest) == (3, digest)
    assert await log.log.digest(ORIGIN, 3) == digest


async def test_the_index_forgets_what_was_dropped(
    open_log: OpenLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.gateway.store.index._SEGMENT", 4)
    monkeypatch.setattr("huskies.gateway.store.index._FORGET_ROWS", 1)
    log = await filled(await open_log())
    log.index_blocks(log.published)
    log.index.forget(9, {1: 4, 2: 4})
    with closing(IndexReader(log.index)) as reader:
        assert reader.run_positions(1, 1, 9)[0] == [9, 11]
    with closing(sqlite3.connect(log.index.path)) as db:
        assert {row[0] for row in db.execute("SELECT position FROM by_key")} == {9, 11}


async def test_a_log_of_an_older_version_is_trimmed_too(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.close()
    with closing(sqlite3.connect(log.log.path)) as db:
        db.executescript("DROP TABLE dropped; DROP TABLE damaged; PRAGMA auto_vacuum = NONE; VACUUM")
    log = await open_log()
    at(log, 10**9)
    await trim(log, AGED)
    assert await positions(log) == [11]


# --- what was damaged --------------------------------------------------------------------------------


async def with_damage(open_log: OpenLogs, *harms: Harm) -> OpenLog:
    """Blocks of which the second, with seq 2 of both sequences, cannot be read."""
    log = await filled(await open_log())
    for harm in (*harms, HARMS["other runs"]):
        await log.log.call(harm)
    await log.history.blocks_after(0)
    await log.settled()
    assert [found.position for found in log.log.damaged.ranges()] == [3]
    return log


def table(log: OpenLog) -> list[int]:
    with closing(sqlite3.connect(log.log.path)) as db:
        return [row[0] for row in db.execute("SELECT position FROM damaged")]


async def test_what_was_damaged_and_dropped_is_damaged_no_more_but_missing(open_log: OpenLogs) -> None:
    log = await with_damage(open_log)
    for _ in range(2):
        at(log, 2_500)
        await trim(log, AGED)
        assert await positions(log) == [5, 7, 9, 11]
        assert len(log.log.damaged) == 0
        assert log.log.damaged.ranges() == []
        assert log.log.damaged.hidden(ORIGIN, 1, 6) == {2}
        assert table(log) == [3]
        with closing(open_reader(log.log.path)) as connection:
            assert list(LogCheck(connection).run()) == []
        # What a sled sends again of it is not compared, and acknowledged.
        log.append(
            await log.admit(), 1, *(stored(f"s{seq}") for seq in range(1, 7)), owner=(owner := Owner())
        )
        await log.settled()
        assert (owner.told, log.failures) == ([("ack", 6)], [])
        await log.close()
        log = await open_log()
    # Where later events of its sequences are dropped too, that says it.
    at(log, 4_500)
    await trim(log, AGED)
    assert log.log.damaged.hidden(ORIGIN, 1, 6) == set()
    assert table(log) == []


async def test_what_could_not_be_told_of_damage_is_told_when_it_is_dropped(open_log: OpenLogs) -> None:
    def beside(db: sqlite3.Connection) -> None:
        db.execute("UPDATE streams SET project = 'clog' WHERE id = 2")

    log = await with_damage(open_log, beside)
    assert log.log.damaged.hidden(ORIGIN, 5, 5) == {5}
    at(log, 2_500)
    await trim(log, AGED)
    assert log.log.damaged.hidden(ORIGIN, 1, 6) == {2}
    assert log.log.damaged.hidden(("bb", "e9"), 1, 6) == {2}


async def test_damage_that_a_reader_finds_of_what_was_dropped_meanwhile_is_not_kept(
    open_log: OpenLogs,
) -> None:
    log = await with_damage(open_log)
    [found] = log.log.damaged.ranges()
    at(log, 4_500)
    await trim(log, AGED)
    with closing(open_reader(log.log.path)) as connection:
        log.log.damaged.note(found.as_block(), connection)
    # It is handed to the writer in the next turn of the event loop.
    await log.settled()
    await log.settled()
    assert (len(log.log.damaged), table(log)) == (0, [])


async def test_what_was_repaired_and_dropped_is_not_looked_for_at_each_start(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.log.call(flipped("chain"))
    await log.history.blocks_after(0)
    assert await log.log.repaired() == [3]
    at(log, 2_500)
    await trim(log, AGED)
    assert await log.log.repaired() == [3]
    at(log, 3_500)
    await trim(log, AGED)
    assert await log.log.repaired() == []


# --- a whole gateway ---------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The gateway's wall clock; after a gateway's start the tests alone say when something is dropped."""
    times = [1_000_000]
    monkeypatch.setattr(server, "now_ms", lambda: times[0])
    monkeypatch.setattr(keeper, "_INTERVAL", 3_600.0)
    return times


async def test_a_gateway_drops_what_is_too_old_and_tells_readers(
    start_gateway: StartGateway, http: Http, tmp_path: Path, clock: list[int], eventually: Eventually
) -> None:
    gateway = await start_gateway(retain_ms=60_000)
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch, 3) as client:
        await client.send_events(1, blocked("one", "1_bug_x"), blocked("two", "2_bug_y"))
        await client.acked(2)
        old = str(gateway.feed.head)
        clock[0] += 100_000
        await client.send_events(3, blocked("three", "3_bug_z"))
        await client.acked(3)
    await eventually(lambda: gateway.index.position == 3)
    assert await gateway.keeper.round() == 2
    assert await gateway.keeper.round() == 0
    metrics = (await http(f"{gateway.url}/metrics")).body
    assert "huskies_log_first_position 3.0" in metrics
    assert "huskies_log_bytes" in metrics
    page = (await http(f"{gateway.url}/gateway/events")).body
    assert page["gap"] == {"from": 1, "to": 2}
    assert "gap" not in (await http(f"{gateway.url}/gateway/events", after=old)).body
    await stop(gateway)
    (tmp_path / "gw" / "views.db-wal").unlink(missing_ok=True)
    # What stands on the board is known although its events are gone; the sled's numbers go on.
    gateway = await start_gateway(retain_ms=60_000)
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    assert {story["story_id"] for story in project["stories"]} == {"1_bug_x", "2_bug_y", "3_bug_z"}
    async with await connect(gateway.url, "shop", key, epoch, 4) as client:
        assert client.welcome["last_seq"] == 3
        await client.send_events(2, blocked("two", "2_bug_y"), blocked("three", "3_bug_z"), blocked("four"))
        await client.acked(4)


async def test_a_live_reader_goes_on_while_what_it_has_read_is_dropped(
    start_gateway: StartGateway, clock: list[int]
) -> None:
    gateway = await start_gateway(retain_ms=60_000)
    async with open_stream(gateway.url, after="0") as reader:
        for number in range(3):
            await push(gateway.url, "shop", blocked(str(number)))
            assert len(await reader.take(1)) == 1
            clock[0] += 100_000
            await gateway.keeper.round()
    assert await gateway.log.call(log_store.first_position) == 3


async def test_a_gateway_trims_by_itself(
    start_gateway: StartGateway, clock: list[int], eventually: Eventually
) -> None:
    gateway = await start_gateway(retain_ms=60_000)
    await push(gateway.url, "shop", blocked("one"))
    clock[0] += 100_000
    await push(gateway.url, "shop", blocked("two"))
    await stop(gateway)
    gateway = await start_gateway(retain_ms=60_000)
    await eventually(lambda: gateway.metrics.render().count(b"huskies_log_first_position 2.0"))


async def test_nothing_is_dropped_while_the_board_cannot_be_kept(
    start_gateway: StartGateway, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(retain_ms=60_000)
    await push(gateway.url, "shop", blocked("one"))
    clock[0] += 100_000
    await push(gateway.url, "shop", blocked("two"))

    def full(_: bytes) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(gateway.index, "write_fleet", full)
    assert await gateway.keeper.round() == 0
    monkeypatch.undo()
    assert await asyncio.wait_for(gateway.keeper.round(), 10) == 1
