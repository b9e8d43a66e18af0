"""Checking a whole log: a sound one is called sound, and whatever is wrong is named with its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from tests.gateway.conftest import Http, OpenLog, OpenLogs, Owner, StartGateway, stored
from tests.gateway.test_damage import HARMS, filled, flipped
from tests.gateway.test_retention import AGED, at, trim
from tests.gateway.test_retention import filled as aged

from huskies.gateway.server import Gateway
from huskies.gateway.store import block_rows, cursors, log_store, stream_rows, verify
from huskies.gateway.store.appends import Append
from huskies.gateway.store.blocks import checksum, decode_runs, encode_runs
from huskies.gateway.store.cursors import Cursor
from huskies.gateway.store.verify import LogCheck, Problem
from huskies.storage.sqlite import open_reader

Harm = Callable[[sqlite3.Connection], object]


def walk(log: OpenLog) -> tuple[list[Problem], LogCheck]:
    with closing(open_reader(log.log.path)) as connection:
        check = LogCheck(connection)
        return list(check.run()), check


def resealed(position: int, column: str, change: Callable[[bytes], bytes]) -> Harm:
    """Change a block and all checksums behind it: only digests and heads can tell."""

    def harm(db: sqlite3.Connection) -> None:
        [value] = db.execute(f"SELECT {column} FROM blocks WHERE position = ?", (position,)).fetchone()  # noqa: S608
        db.execute(f"UPDATE blocks SET {column} = ? WHERE position = ?", (change(value), position))  # noqa: S608
        chain = 0
        for at_, runs, events in db.execute(
            "SELECT position, runs, events FROM blocks ORDER BY position"
        ).fetchall():
            before, chain = chain, checksum(chain, runs, events)
            db.execute("UPDATE blocks SET before = ?, chain = ? WHERE position = ?", (before, chain, at_))

    return harm


async def test_a_sound_log_is_called_sound(open_log: OpenLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_CHUNK_BLOCKS", 3)
    log = await filled(await open_log(), 10)
    told: list[int] = []
    with closing(open_reader(log.log.path)) as connection:
        check = LogCheck(connection)
        assert list(check.run(told.append)) == []
    verdict = check.verdict
    assert (verdict.blocks, verdict.events, verdict.streams, verdict.problems) == (10, 20, 2, 0)
    assert (verdict.first_position, verdict.last_position) == (1, 20)
    assert told == [6, 12, 18, 20]
    assert [(s.last_seq, s.digest) for s in check.rows if s] == [
        (s.last_seq, s.digest) for s in log.log.streams if s
    ]


@pytest.mark.parametrize("damaged", ["0a1b2c3q", "0A1B2C3D", "", 7, b"0a1b2c3d"])
async def test_a_damaged_id_is_named_and_another_drawn(open_log: OpenLogs, damaged: object) -> None:
    log = await filled(await open_log(), 2)
    await log.close()
    with closing(sqlite3.connect(log.log.path)) as db, db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'log_id'", (damaged,))
    assert [str(problem.problem) for problem in walk(log)[0]] == [f"the log's id cannot be {damaged!a}"]
    log = await open_log()
    # Which a reader can go on from.
    [block, *_] = await log.history.blocks_after(0)
    cursor = Cursor(log.log.log_id, block.position, block.chain)
    assert cursors.parse(str(cursor)) == cursor
    assert walk(log)[0] == []


async def test_an_empty_log_is_sound(open_log: OpenLogs) -> None:
    problems, check = walk(await open_log())
    assert (problems, check.verdict.events) == ([], 0)


async def test_a_log_that_was_trimmed_cut_and_checkpointed_is_sound(open_log: OpenLogs) -> None:
    log = await aged(await open_log())
    live = log.log.sequences.live(("aa", "e1"))
    digest = await log.log.digest(("aa", "e1"), 5)
    assert live is not None
    assert digest is not None
    await log.log.call(lambda db: log.log.sequences.cut(db, live, 6, digest))
    at(log, 4_500)
    await trim(log, AGED)
    await log.close()
    log = await open_log()
    problems, check = walk(log)
    assert (problems, check.verdict.first_position) == ([], 7)


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("checkpointed", [False, True])
async def test_a_damaged_block_is_named_once_with_what_is_missing(
    open_log: OpenLogs,
    harm: Harm,
    checkpointed: bool,  # noqa: FBT001 - a case
) -> None:
    log = await filled(await open_log())
    if checkpointed:
        await log.close()
        log = await open_log()
    await log.log.call(harm)
    problems, check = walk(log)
    assert [(problem.position, problem.last_position) for problem in problems] == [(3, 4)]
    assert sorted((m.sled_id, m.first_seq, m.last_seq) for m in problems[0].missing) == [
        ("aa", 2, 2),
        ("bb", 2, 2),
    ]
    assert check.verdict.problems == 1


async def test_the_newest_block_damaged_is_one_problem(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.close()
    log = await open_log()
    await log.log.call(flipped("events", 7))
    problems, _ = walk(log)
    assert [problem.position for problem in problems] == [7]


async def test_events_that_do_not_fit_the_digest_are_named_with_their_stream(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.log.call(resealed(3, "events", lambda events: events.replace(b"b2", b"xx")))
    problems, _ = walk(log)
    assert [(p.position, p.project, p.sled_id, p.epoch) for p in problems] == [(4, "blog", "bb", "e9")]
    assert "digest up to seq 2" in problems[0].problem


@pytest.mark.parametrize(("seq", "said"), [(3, "seq 2 to 2 are not there"), (1, "seq 1 comes again")])
async def test_runs_that_do_not_follow_are_named(open_log: OpenLogs, seq: int, said: str) -> None:
    def change(runs_json: bytes) -> bytes:
        runs = decode_runs(runs_json)
        runs[0].first_seq = seq
        return encode_runs(runs)

    log = await filled(await open_log())
    await log.log.call(resealed(3, "runs", change))
    problems, _ = walk(log)
    assert problems[0].position == 3
    assert said in problems[0].problem


async def test_a_run_of_no_stream_is_named(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.log.call(resealed(3, "runs", lambda runs: runs.replace(b"[[1,", b"[[7,")))
    assert "no stream has the number 7" in walk(log)[0][0].problem


async def test_a_head_that_does_not_agree_is_named(open_log: OpenLogs) -> None:
    log = await filled(await open_log())
    await log.close()
    log = await open_log()

    def lower(db: sqlite3.Connection) -> None:
        row = stream_rows.read(db).streams[2]
        assert row is not None
        row.last_seq = 3
        stream_rows.write_heads(db, [row], log.log.position, log.log.chain)

    await log.log.call(lower)
    [problem] = walk(log)[0]
    assert (problem.project, "its head is seq 3" in problem.problem) == ("blog", True)


async def test_what_is_appended_or_dropped_meanwhile_is_no_problem(
    open_log: OpenLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_CHUNK_BLOCKS", 1)
    log = await aged(await open_log())
    at(log, 4_500)
    with closing(open_reader(log.log.path)) as connection:
        check = LogCheck(connection)
        positions: list[int] = []
        walking = check.run(positions.append)
        # Nothing is wrong, so that the walk can be held only between its blocks.
        real = block_rows.blocks_after

        def dropping(db: sqlite3.Connection, position: int) -> object:
            if position == 2:
                with closing(sqlite3.connect(log.log.path, isolation_level=None)) as writer:
                    writer.execute("DELETE FROM blocks WHERE position <= 6")
                    for stream_id, digest in digests.items():
                        row = log.log.streams[stream_id]
                        assert row is not None
                        row.dropped_seq, row.dropped_digest = 3, digest or 0
                        stream_rows.write(writer, row)
            return real(db, position)

        digests = {s.id: await log.log.digest(s.origin, 3) for s in log.log.streams if s is not None}
        monkeypatch.setattr(verify, "blocks_after", dropping)
        assert list(walking) == []
    assert positions == [2, 8, 10, 12]


# --- digests over HTTP -------------------------------------------------------------------------------


async def test_a_gateway_tells_its_digests(gateway: Gateway, http: Http) -> None:
    admitted = await gateway.log.admit("aa", "e1", "shop")
    assert not isinstance(admitted, str)
    events = [stored(str(number)) for number in range(5)]
    gateway.log.append(Append(admitted[0], 1, events, 1, 0, Owner(), 5, 500))
    await gateway.log.call(lambda _: None)
    url = f"{gateway.url}/gateway/digests"
    body = (await http(url)).body
    digest = await gateway.log.digest(("aa", "e1"), 5)
    assert body == {
        "gateway_id": gateway.peers.gateway_id,
        "log_id": gateway.log.log_id,
        "sequences": [
            {
                "sled_id": "aa",
                "epoch": "e1",
                "project": "shop",
                "last_seq": 5,
                "digest": f"{digest:08x}",
                "dropped_seq": 0,
                "contested": False,
            }
        ],
    }
    [one] = (await http(url, sled_id="aa", epoch="e1", seq="3")).body["sequences"]
    third = await gateway.log.digest(("aa", "e1"), 3)
    assert (one["last_seq"], one["digest"]) == (3, f"{third:08x}")
    assert (await http(url, sled_id="aa", epoch="e1")).body == body
    nothings: list[dict[str, Any]] = [
        {"sled_id": "aa", "epoch": "e1", "seq": "6"},
        {"sled_id": "cc", "epoch": "e1"},
    ]
    for nothing in nothings:
        assert (await http(url, **nothing)).body["sequences"] == []
    bads: list[dict[str, Any]] = [
        {"seq": "3"},
        {"sled_id": "aa"},
        {"sled_id": "aa", "epoch": "e1", "seq": "0"},
    ]
    for bad in bads:
        assert (await http(url, **bad)).status == 422


async def test_a_digest_that_takes_what_was_dropped_is_null(start_gateway: StartGateway, http: Http) -> None:
    gateway = await start_gateway()
    admitted = await gateway.log.admit("aa", "e1", "shop")
    assert not isinstance(admitted, str)
    for seq in range(1, 6):
        gateway.log.append(Append(admitted[0], seq, [stored(str(seq))], seq * 1_000, 0, Owner(), 1, 100))
        await gateway.log.call(lambda _: None)
    gateway.log._writer.now_ms = lambda: 4_500
    await gateway.log.trim(AGED, 10)
    assert await gateway.log.call(log_store.first_position) == 4
    url = f"{gateway.url}/gateway/digests"
    answers = [
        (await http(url, sled_id="aa", epoch="e1", seq=str(seq))).body["sequences"][0] for seq in range(1, 6)
    ]
    assert [answer["digest"] is None for answer in answers] == [True, True, False, False, False]
    assert {answer["dropped_seq"] for answer in answers} == {3}
