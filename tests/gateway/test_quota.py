"""A project fills no more of the log than its quota, and what is over it is not lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import Eventually, Http, OpenLog, OpenLogs, Owner, StartGateway, stop, stored
from tests.support.relay_client import (
    PushSocket,
    blocked,
    connect,
    connect_v1,
    new_epoch,
    new_key,
    push,
)

from huskies import limits
from huskies.gateway import server
from huskies.gateway.fleet import Fleet
from huskies.gateway.pace import Pace
from huskies.gateway.quota import Quota
from huskies.gateway.server import Gateway
from huskies.gateway.store import views
from huskies.gateway.store.index import Index
from huskies.gateway.store.retention import Rules

ROOM = 3 * limits.SEQUENCE_BYTES
LARGE = "x" * 16_000


async def handshake(gateway: Gateway, project: str) -> int:
    """The status of an upgrade that is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await PushSocket.open(gateway.url, project)
    return caught.value.status


async def view_of(http: Http, gateway: Gateway, name: str) -> dict[str, Any]:
    projects = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    return dict(next(project for project in projects if project["name"] == name))


async def fill(gateway: Gateway, project: str) -> dict[str, Any]:
    """Push until nothing more is taken; the refusal."""
    async with await connect(gateway.url, project, new_key(), new_epoch()) as client:
        for seq in range(1, 10):
            await client.send_events(seq, blocked(LARGE))
            frame = await client.next_frame()
            if frame["type"] != "ack":
                _, closed = await client.until_closed()
                return {**frame, "close": closed.code}
            assert frame["seq"] == seq
    raise AssertionError("everything was taken")


async def test_nothing_more_is_taken_of_a_project_over_its_quota_and_others_go_on(
    start_gateway: StartGateway, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start_gateway(quota_bytes=ROOM)
    refused = await fill(gateway, "greedy")
    assert (refused["type"], refused["code"], refused["close"]) == ("refused", "draining", 1001)
    assert "its events wait with the sled" in refused["reason"]
    assert caplog.text.count("a project is over its quota") == 1
    assert await handshake(gateway, "greedy") == 507
    await push(gateway.url, "modest", blocked())
    greedy, modest = [await view_of(http, gateway, name) for name in ("greedy", "modest")]
    assert (greedy["over_quota"], modest["over_quota"]) == (True, False)
    assert ROOM < greedy["log_bytes"] < ROOM + 2 * len(LARGE)
    await gateway.keeper.round()
    assert "huskies_projects_over_quota 1.0" in (await http(f"{gateway.url}/metrics")).body


async def test_what_a_project_takes_is_known_after_a_restart(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    gateway = await start_gateway(quota_bytes=ROOM)
    await fill(gateway, "greedy")
    before = gateway.quota.used("greedy")
    await stop(gateway)
    gateway = await start_gateway(quota_bytes=ROOM)
    await eventually(lambda: gateway.quota.used("greedy") == before)
    assert await handshake(gateway, "greedy") == 507
    await stop(gateway)
    # A larger one lets it go on.
    gateway = await start_gateway(quota_bytes=0)
    await push(gateway.url, "greedy", blocked())
    assert (await view_of(http, gateway, "greedy"))["over_quota"] is False


async def test_an_older_sled_is_cut_off_too(start_gateway: StartGateway, eventually: Eventually) -> None:
    gateway = await start_gateway(quota_bytes=ROOM)
    async with await connect_v1(gateway.url, "greedy") as client:
        for _ in range(5):
            await client.send(blocked(LARGE))
        await eventually(lambda: "greedy" in gateway.quota.over)
        await client.send(blocked(LARGE))
        _, closed = await client.until_closed()
    assert closed.code == 1001
    assert "quota" in str(closed)
    assert await handshake(gateway, "greedy") == 507


async def test_what_is_retained_no_more_makes_room(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    gateway = await start_gateway(quota_bytes=ROOM, retain_ms=1_000)
    await fill(gateway, "greedy")
    await push(gateway.url, "modest", blocked())
    await eventually(lambda: gateway.index.position == gateway.log.position)
    before = gateway.quota.used("greedy")
    late = server.now_ms() + 10_000
    monkeypatch.setattr(gateway.log._writer, "now_ms", lambda: late)
    await gateway.keeper.round()
    # A round of the gateway's own may be at it already.
    await eventually(lambda: gateway.quota.used("greedy") < before)
    await push(gateway.url, "greedy", blocked())


async def test_what_is_in_quarantine_counts(start_gateway: StartGateway, eventually: Eventually) -> None:
    gateway = await start_gateway()
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "shop", key, epoch) as client:
        await client.send_events(1, blocked("one"))
        await client.acked(1)
        await client.send_events(1, blocked(LARGE))
        await client.until_closed()
    assert gateway.quota.used("shop") > limits.FRAME_BYTES_MAX
    await stop(gateway)
    gateway = await start_gateway()
    await eventually(lambda: len(LARGE) < gateway.quota.used("shop") < len(LARGE) + 2 * limits.SEQUENCE_BYTES)


async def test_so_many_stories_and_no_more(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORIES_MAX", 2)
    await push(gateway.url, "shop", *(blocked(story_id=f"{number}_bug_x") for number in (1, 2, 3)))
    await gateway.keeper.round()
    assert await handshake(gateway, "shop") == 507
    assert (await view_of(http, gateway, "shop"))["over_quota"] is True
    assert "more than 2 stories" in gateway.quota.reason("shop")


async def test_a_project_s_sleds_connect_only_so_often(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GREETINGS_AT_ONCE", 2)
    monkeypatch.setattr(limits, "GREETINGS_A_SECOND", 0.001)
    gateway = await start_gateway()
    for _ in range(2):
        await push(gateway.url, "shop", blocked())
    assert await handshake(gateway, "shop") == 429
    await push(gateway.url, "blog", blocked())


# --- counting ----------------------------------------------------------------------------------------


async def of_two(open_log: OpenLogs) -> OpenLog:
    log = await open_log()
    streams = [await log.admit(name, "e1", project) for name, project in (("aa", "shop"), ("bb", "blog"))]
    for seq in range(1, 6):
        for stream in streams:
            log.append(stream, seq, stored(f"{stream.project} {seq}" * seq), owner=Owner())
        if seq % 2:
            log.next_block()
    await log.settled()
    return log


async def test_what_is_counted_live_is_what_the_index_says_and_what_the_blocks_hold(
    open_log: OpenLogs,
) -> None:
    log = await of_two(open_log)
    live = Quota(0)
    live.registered(log.log.streams)
    live.appended(log.published, log.log.streams)
    from_disk = Quota(0)
    from_disk.registered(log.log.streams)
    from_disk.appended(await log.history.blocks_after(0), log.log.streams)
    unindexed = await views.measured(log.index, log.log, 0)
    unindexed.indexed(log.published, log.log.streams)
    log.index_blocks(log.published)
    indexed = await views.measured(log.index, log.log, 0)
    for project in ("shop", "blog"):
        assert (
            live.used(project)
            == from_disk.used(project)
            == unindexed.used(project)
            == indexed.used(project)
            > limits.SEQUENCE_BYTES
        )


async def test_what_was_dropped_counts_no_more_after_a_start(open_log: OpenLogs) -> None:
    log = await of_two(open_log)
    log.index_blocks(log.published)
    await log.log.trim(Rules(age_ms=-1), 4)
    left = Quota(0)
    left.registered(log.log.streams)
    left.appended(await log.history.blocks_after(0), log.log.streams)
    measured = await views.measured(log.index, log.log, 0)
    assert measured.used("shop") == left.used("shop")


def test_of_an_index_of_an_older_version_the_fleet_is_kept(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "views.db")) as db:
        db.executescript(
            """
            CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
            CREATE TABLE by_key (segment, key, position, PRIMARY KEY (segment, key, position)) WITHOUT ROWID;
            CREATE TABLE by_stream (stream_id, first_seq, last_seq, position);
            CREATE TABLE fleet (id INTEGER PRIMARY KEY CHECK (id = 1), data BLOB NOT NULL);
            INSERT INTO meta VALUES ('position', 7);
            PRAGMA user_version = 1;
            """
        )
        db.execute("INSERT INTO fleet VALUES (1, ?)", (b"\x81\xa8position\x07",))
        db.commit()
    index = Index(tmp_path)
    assert index.position == 0
    assert index.read_fleet() == Fleet(position=7)
    assert index.sizes() == {}
    index.close()


# --- the pace ----------------------------------------------------------------------------------------


def test_so_many_at_once_and_then_at_a_pace() -> None:
    pace = Pace(at_once=2, a_second=0.5)
    assert [pace.wait("a", 0), pace.wait("a", 0), pace.wait("a", 0), pace.wait("b", 0)] == [0, 0, 2, 0]
    assert [pace.wait("a", 1), pace.wait("a", 2), pace.wait("a", 2)] == [1, 0, 2]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=50))
def test_no_key_goes_on_more_often_than_its_pace(asked: list[tuple[str, float]]) -> None:
    pace = Pace(at_once=3, a_second=2)
    now, taken = 0.0, dict.fromkeys("abc", 0)
    for key, later in asked:
        now += later
        taken[key] += not pace.wait(key, now)
    assert all(count <= 3 + 2 * now + 1e-6 for count in taken.values())
