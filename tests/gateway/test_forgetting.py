"""A project's history is forgotten where someone asks for it: shown nowhere, and not taken a second time."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.gateway.conftest import Owner, stop, stored
from tests.gateway.test_merging import Sender, events
from tests.gateway.test_quota import ROOM, fill
from tests.gateway.test_refold import Follower, blocks, expected, two_branches
from tests.gateway.test_replication import same
from tests.gateway.test_statistics import HOUR, moved, stats, totals
from tests.support.relay_client import blocked, connect, connect_v1, new_epoch, new_key, push
from tests.support.sse_client import open_stream

from huskies import limits
from huskies.gateway.server import Gateway, now_ms
from huskies.gateway.store.appends import Diverged
from huskies.gateway.store.index import rows_of
from huskies.gateway.store.refold import refold_cut
from huskies.gateway.store.retention import Rules
from huskies.gateway.store.verify import LogCheck
from huskies.storage.sqlite import open_reader

if TYPE_CHECKING:
    from tests.gateway.conftest import Eventually, Http, OpenLog, OpenLogs, StartGateway

ORIGIN = ("aa", "e1")


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")


async def forget(gateway: Gateway, http: Http, project: str = "shop") -> Any:
    answer = await http(f"{gateway.url}/gateway/projects/{project}", method="DELETE", history="true")
    assert answer.status == 200, answer.body
    return answer.body["removed"]


async def shown(gateway: Gateway, http: Http, **query: Any) -> list[str]:
    answer = await http(f"{gateway.url}/gateway/events", limit=1_000, **query)
    return [event["event"]["reason"] for event in answer.body["events"]]


def boards(gateway: Gateway) -> dict[str, list[str]]:
    return {view.name: [story.story_id for story in view.stories] for view in gateway.project_views()}


# --- the log alone -----------------------------------------------------------------------------------


async def filled(log: OpenLog) -> None:
    """Two projects in common blocks."""
    shop, blog = await log.admit(), await log.admit("bb", "e9", "blog")
    for seq in range(1, 5):
        log.append(shop, seq, stored(f"s{seq}"), owner=Owner())
        log.append(blog, seq, stored(f"b{seq}"), owner=Owner())
        log.next_block()
    await log.settled()


def verdict(log: OpenLog) -> list[str]:
    with closing(open_reader(log.log.path)) as connection:
        return [str(problem) for problem in LogCheck(connection).run()]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_sequence_goes_on_behind_what_is_forgotten(open_log: OpenLogs, *, restarted: bool) -> None:
    log = await open_log()
    await filled(log)
    assert await log.log.forget("shop") == ({ORIGIN: 4}, 4)
    if restarted:
        await log.close()
        log = await open_log()
    sequences = log.log.sequences
    assert (sequences.forgotten(ORIGIN), sequences.forgotten(("bb", "e9"))) == (4, None)
    assert list(sequences.parts(ORIGIN, 1, 4)) == []
    owner = Owner()
    # What was sent and not acknowledged comes again, with something new behind it.
    log.append(await log.admit(), 3, stored("s3"), stored("s4"), stored("s5"), owner=owner)
    await log.settled()
    assert owner.told == [("ack", 5)]
    held = await log.log.held(ORIGIN, 1, 5)
    assert list(held) == [5]
    assert sequences.missing() == sequences.quarantined() == {}
    assert verdict(log) == []


async def test_it_is_forgotten_once_and_again_when_there_is_more(open_log: OpenLogs) -> None:
    log = await open_log()
    await filled(log)
    await log.log.forget("shop")
    numbers = len(log.log.streams)
    assert await log.log.forget("shop") == ({ORIGIN: 4}, 0)
    assert len(log.log.streams) == numbers
    log.append(await log.admit(), 5, stored("s5"), owner=Owner())
    await log.settled()
    assert await log.log.forget("shop") == ({ORIGIN: 5}, 1)
    assert log.log.sequences.forgotten(ORIGIN) == 5
    assert log.log.sequences.forgotten_numbers() == {"shop": [1, 3]}
    assert verdict(log) == []


async def test_what_is_forgotten_leaves_the_file_with_its_blocks(open_log: OpenLogs) -> None:
    log = await open_log()
    await filled(log)
    await log.log.forget("shop")
    log.append(await log.admit("bb", "e9", "blog"), 5, stored("b5"), owner=Owner())
    await log.settled()
    log.log._writer.now_ms = lambda: 10**9
    dropped = await log.log.trim(Rules(age_ms=1), 1_000)
    assert dropped is not None
    assert dropped.events == 8
    assert verdict(log) == []
    await log.close()
    log = await open_log()
    assert log.log.sequences.forgotten(ORIGIN) == 4
    assert verdict(log) == []
    owner = Owner()
    log.append(await log.admit(), 5, stored("s5"), owner=owner)
    await log.settled()
    assert owner.told == [("ack", 5)]


async def test_a_gap_before_what_was_forgotten_is_missing_no_more(open_log: OpenLogs) -> None:
    log = await open_log()
    stream = await log.admit()
    await log.log.adopt_base(stream, 7, 0)
    log.append(await log.admit(), 8, stored("s8"), owner=Owner())
    await log.settled()
    assert log.log.sequences.missing() != {}
    await log.log.forget("shop")
    assert log.log.sequences.missing() == {}


@pytest.mark.parametrize("indexed", [False, True])
async def test_what_a_sled_says_otherwise_below_is_a_conflict_still(
    open_log: OpenLogs, *, indexed: bool
) -> None:
    log = await open_log()
    await filled(log)
    await log.log.forget("shop")
    if indexed:
        log.index_blocks(await log.history.blocks_after(0))
        await log.close()
        log = await open_log()
    owner = Owner()
    log.append(await log.admit(), 2, stored("s2"), stored("other"), stored("s4"), owner=owner)
    await log.settled()
    assert owner.told == [("conflict", 3)]


async def test_another_history_is_not_joined_to_the_end_of_what_is_forgotten(open_log: OpenLogs) -> None:
    log = await open_log()
    await filled(log)
    await log.log.forget("shop")
    other = Sender(events("s1", "x2", "x3", "x4", "x5"))
    await other.send(log)
    assert other.branches == [Diverged()]
    assert log.log.heads()[ORIGIN] == 4
    same = Sender(events("s1", "s2", "s3", "s4", "s5"))
    await same.send(log)
    assert (same.branches, log.log.heads()[ORIGIN]) == ([], 5)


async def test_a_branch_that_loses_afterwards_stays_away(open_log: OpenLogs) -> None:
    winning, losing = two_branches()
    opened = await open_log()
    follower = Follower(opened)
    await Sender(losing[:1]).send(opened)
    await opened.log.forget("shop")
    await Sender(losing).send(opened)
    follower.follow()
    assert "3_bug_z" in blocks(follower.fleet)
    await Sender(winning).send(opened)
    await refold_cut(follower.fleet, opened.log)
    assert blocks(follower.fleet) == expected(winning[1:])
    assert opened.log.sequences.forgotten(ORIGIN) == 1
    assert verdict(opened) == []


# --- a whole gateway ---------------------------------------------------------------------------------


async def test_nobody_is_shown_it_any_more(gateway: Gateway, http: Http) -> None:
    await push(gateway.url, "shop", blocked("s1"), blocked("s2"))
    await push(gateway.url, "blog", blocked("b1"))
    assert await forget(gateway, http) == ["2 events of its history"]
    assert await shown(gateway, http) == ["b1"]
    assert await shown(gateway, http, project="shop") == []
    assert await shown(gateway, http, story="1_bug_x") == ["b1"]
    assert boards(gateway) == {"blog": ["1_bug_x"]}
    async with open_stream(gateway.url, after="0") as stream:
        assert [event["event"]["reason"] for event in await stream.take(1)] == ["b1"]


async def test_its_board_goes_and_a_project_of_the_name_begins_anew(gateway: Gateway, http: Http) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as sled:
        await sled.send_events(1, blocked("s1"))
        await sled.acked(1)
        await sled.send_snapshot(1, {"story_id": "2_story_old", "stage": "1_backlog"})
        await sled.send_events(2, blocked("s2", "3_bug_y"))
        await sled.acked(2)
        assert boards(gateway) == {"shop": ["2_story_old", "3_bug_y"]}
        await forget(gateway, http)
        # Its sled is connected still.
        assert boards(gateway) == {"shop": []}
        await sled.send_events(3, blocked("s3", "4_bug_z"))
        await sled.acked(3)
    await push(gateway.url, "shop", blocked("s4", "5_bug_z"))
    assert boards(gateway) == {"shop": ["4_bug_z", "5_bug_z"]}
    assert await shown(gateway, http) == ["s3", "s4"]


async def test_what_older_sleds_said_is_forgotten_too(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    async with await connect_v1(gateway.url, "shop") as sled:
        await sled.send(blocked("s1"))
        await eventually(lambda: gateway.feed.head.position == 1)
        assert await forget(gateway, http) == ["1 event of its history"]
        await sled.send(blocked("s2"))
        await eventually(lambda: gateway.feed.head.position == 2)
    assert await shown(gateway, http) == ["s2"]


async def test_its_counts_go_with_it(gateway: Gateway, http: Http) -> None:
    now = now_ms()
    for project in ("shop", "blog"):
        await push(
            gateway.url,
            project,
            moved("1", "1_backlog", "2_current", now - 5 * HOUR),
            moved("1", "2_current", "5_done", now - 4 * HOUR),
            blocked("stuck", "2", now - 2 * HOUR),
        )
    await stats(gateway, http)
    alone = await stats(gateway, http, project="blog")
    await forget(gateway, http)
    answer = await stats(gateway, http)
    assert totals(answer) == totals(alone) == {"arrived": 2, "done": 1, "moves": 2, "blocked": 1, "failed": 0}
    assert answer.body["stages"] == alone.body["stages"]
    assert [each["project"] for each in answer.body["projects"]] == ["blog"]
    # Each of its sequences goes on under another number.
    assert gateway.quota.used("shop") == 2 * limits.SEQUENCE_BYTES


async def test_a_project_that_took_all_of_its_quota_has_room_again(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway(quota_bytes=2 * ROOM)
    await fill(gateway, "shop")
    assert gateway.quota.over == {"shop"}
    await forget(gateway, http)
    assert gateway.quota.over == set()
    await push(gateway.url, "shop", blocked("s1"))
    used = gateway.quota.used("shop")
    assert await shown(gateway, http) == ["s1"]
    await stop(gateway)
    gateway = await start_gateway(quota_bytes=2 * ROOM)
    await stats(gateway, http)
    assert gateway.quota.used("shop") == used < 2 * ROOM


async def test_a_board_that_waits_its_turn_is_not_shown_afterwards(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as sled:
        monkeypatch.setattr(gateway.sessions._snapshots._pace, "wait", lambda *_: 3_600.0)
        await sled.send_snapshot(0, {"story_id": "2_story_old", "stage": "1_backlog"})
        # The ack comes behind it.
        await sled.send_events(1, blocked("s1"))
        await sled.acked(1)
        await forget(gateway, http)
        gateway.sessions._snapshots.flush()
    assert boards(gateway)["shop"] == []


async def test_what_is_just_being_indexed_is_not_counted(gateway: Gateway, http: Http) -> None:
    await push(gateway.url, "shop", blocked("s1", "2", now_ms()))
    await stats(gateway, http)
    late = gateway.feed.recent(0)
    assert late is not None
    rows = rows_of(late, gateway.log.streams)
    await forget(gateway, http)
    gateway.index.write(rows)
    answer = await stats(gateway, http)
    assert answer.body["projects"] == []


@pytest.mark.parametrize("views", ["kept", "from before", "gone"])
async def test_it_stays_forgotten(
    start_gateway: StartGateway, http: Http, tmp_path: Path, views: str
) -> None:
    gateway = await start_gateway()
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as sled:
        await sled.send_events(1, blocked("s1", timestamp_ms=now_ms()))
        await sled.acked(1)
        await sled.send_snapshot(1, {"story_id": "2_story_old", "stage": "1_backlog"})
    await push(gateway.url, "blog", blocked("b1", timestamp_ms=now_ms()))
    await stats(gateway, http)
    await stop(gateway)
    path, before = tmp_path / "gw" / "views.db", tmp_path / "before.db"
    shutil.copy(path, before)
    gateway = await start_gateway()
    await forget(gateway, http)
    await stop(gateway)
    if views == "from before":
        shutil.copy(before, path)
    elif views == "gone":
        path.unlink()
    gateway = await start_gateway()
    assert boards(gateway) == {"blog": ["1_bug_x"]}
    assert await shown(gateway, http) == ["b1"]
    answer = await stats(gateway, http)
    assert [each["project"] for each in answer.body["projects"]] == ["blog"]
    assert totals(answer)["blocked"] == 1


async def test_another_gateway_does_not_bring_it_back(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    async with await connect(one.url, "shop", new_key(), new_epoch()) as sled:
        await sled.send_events(1, blocked("s1"))
        await sled.acked(1)
        await sled.send_snapshot(1, {"story_id": "2_story_old", "stage": "1_backlog"})
    other = await start_gateway(name="other", peers=[one.url])
    await eventually(lambda: boards(other) == {"shop": ["2_story_old"]})
    await forget(other, http)
    await stop(other)
    await push(one.url, "blog", blocked("b1"))
    other = await start_gateway(name="other", peers=[one.url])
    await eventually(lambda: "blog" in boards(other))
    assert boards(other) == {"blog": ["1_bug_x"]}
    assert await shown(other, http) == ["b1"]
    # Each gateway keeps what it was not asked to forget.
    assert await shown(one, http) == ["s1", "b1"]
    await forget(one, http)
    assert boards(one) == {"blog": ["1_bug_x"]}


async def test_a_gateway_that_never_had_it_gets_what_comes_after(
    start_gateway: StartGateway, http: Http, eventually: Eventually
) -> None:
    one = await start_gateway(name="one")
    async with await connect(one.url, "shop", new_key(), new_epoch()) as sled:
        await sled.send_events(1, blocked("s1"), blocked("s2"))
        await sled.acked(2)
        await forget(one, http)
        other = await start_gateway(name="other", peers=[one.url])
        await sled.send_events(3, blocked("s3"))
        await sled.acked(3)
        await eventually(same(one, other))
    assert await shown(other, http) == ["s3"]


async def test_what_nobody_ever_heard_of_cannot_be_forgotten(gateway: Gateway, http: Http) -> None:
    await push(gateway.url, "blog", blocked("b1"))
    answer = await http(f"{gateway.url}/gateway/projects/shop", method="DELETE", history="true")
    assert answer.status == 503
    answer = await http(f"{gateway.url}/gateway/projects/blog", method="DELETE", history="maybe")
    assert answer.status == 422
    assert await shown(gateway, http) == ["b1"]
