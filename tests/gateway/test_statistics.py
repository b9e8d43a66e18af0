"""`GET /gateway/stats` of a whole gateway: what sleds push is counted, kept, and shown to who may see it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import Answer, Eventually, Http, StartGateway, stop
from tests.gateway.test_late import passed_over
from tests.support.relay_client import blocked, push

from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway, now_ms
from huskies.gateway.standing import Snapshot, Story, held_up
from huskies.gateway.store.index import Index
from huskies.gateway.store.retention import Rules

HOUR = 3_600_000


def moved(story: str, origin: str, to: str, at: int) -> dict[str, Any]:
    return {
        "type": "stage_transition", "story_id": story, "story_name": "", "from_stage": origin,
        "to_stage": to, "timestamp_ms": at,
    }  # fmt: skip


async def stats(gateway: Gateway, http: Http, **query: Any) -> Answer:
    """The answer once everything in the log is counted."""
    async with asyncio.timeout(10):
        while True:
            answer = await http(f"{gateway.url}/gateway/stats", **query)
            if answer.status != 200 or answer.body["cursor"] == str(gateway.feed.head):
                return answer
            await asyncio.sleep(0.005)


def totals(answer: Answer) -> dict[str, int]:
    names = ("arrived", "done", "moves", "blocked", "failed")
    return {name: sum(day[name] for day in answer.body["days"]) for name in names}


async def test_what_a_sled_pushes_is_counted(gateway: Gateway, http: Http) -> None:
    now = now_ms()
    await push(
        gateway.url,
        "shop",
        moved("1", "1_backlog", "2_current", now - 5 * HOUR),
        moved("1", "2_current", "5_done", now - 4 * HOUR),
        blocked("stuck", "2", now - 2 * HOUR),
    )
    answer = await stats(gateway, http, days=2)
    assert totals(answer) == {"arrived": 2, "done": 1, "moves": 2, "blocked": 1, "failed": 0}
    assert list(answer.body) == ["from_ms", "to_ms", "cursor", "days", "stages", "projects"]
    assert [list(day) for day in answer.body["days"]] == [["day", *totals(answer)]] * 2
    assert [stage["stage"] for stage in answer.body["stages"]] == [
        "1_backlog",
        "2_current",
        "3_qa",
        "4_merge",
    ]
    assert answer.body["stages"][0] == {"stage": "1_backlog", "visits": 0, "median_ms": None, "p90_ms": None}
    assert answer.body["stages"][1]["visits"] == 1
    assert answer.body["stages"][1]["median_ms"] == pytest.approx(HOUR, rel=1 / 64)
    [project] = answer.body["projects"]
    assert project.pop("blocked_ms") >= 2 * HOUR
    assert project == {"project": "shop", "arrived": 2, "done": 1, "blocked_now": 1}


async def test_without_any_event_every_day_is_zero(gateway: Gateway, http: Http) -> None:
    answer = await stats(gateway, http, days=366, offset_minutes=-840)
    assert answer.status == 200
    assert len(answer.body["days"]) == 366
    assert set(totals(answer).values()) == {0}
    assert answer.body["projects"] == []
    assert answer.body["cursor"].endswith("-0-00000000")


@pytest.mark.parametrize(
    ("name", "value"), [("days", "0"), ("days", "x"), ("offset_minutes", "841"), ("project", "a b")]
)
async def test_what_cannot_be_asked_is_400_in_words(
    gateway: Gateway, http: Http, name: str, value: str
) -> None:
    answer = await http(f"{gateway.url}/gateway/stats?{name}={value}")
    assert answer.status == 422
    assert answer.body["error"].startswith(f"{name}: ")


async def test_counts_outlast_a_restart_and_what_retention_drops(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", moved("1", "1_backlog", "2_current", now_ms()))
    await push(gateway.url, "shop", moved("1", "2_current", "3_qa", now_ms()))
    before = await stats(gateway, http)
    assert await gateway.log.trim(Rules(age_ms=-1), 1) is not None
    await stop(gateway)
    gateway = await start_gateway()
    assert (await stats(gateway, http)).body == before.body
    await push(gateway.url, "shop", blocked("stuck", "1", now_ms()))
    expected = {"arrived": 1, "done": 0, "moves": 2, "blocked": 1, "failed": 0}
    assert totals(await stats(gateway, http)) == expected


async def test_an_index_of_an_older_version_is_counted_anew(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", blocked("stuck", "1", now_ms()))
    before = await stats(gateway, http)
    await stop(gateway)
    with closing(sqlite3.connect(tmp_path / "gw" / "views.db")) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'stats_%' AND type = 'table'")
        tables = "".join(f"DROP TABLE {name};" for (name,) in names.fetchall())
        db.executescript(f"{tables} PRAGMA user_version = 2")
    with closing(Index(tmp_path / "gw")) as index:
        assert index.position == 0
        assert index.read_fleet().position == 1
    gateway = await start_gateway()
    assert totals(await stats(gateway, http)) == totals(before)


async def test_who_may_read_one_project_gets_its_counts_alone(
    gateway: Gateway, http: Http, tmp_path: Path, eventually: Eventually
) -> None:
    await push(gateway.url, "shop", blocked("stuck", "1", now_ms()))
    await push(gateway.url, "blog", blocked("stuck", "1", now_ms()), blocked("again", "2", now_ms()))
    with closing(AccessFile(tmp_path / "gw")) as file:
        _, token = tokens.create(file, name="ann", scopes=("read:shop",), created_by="ann", now_ms=0)
    headers = {"Authorization": f"Bearer {token}"}
    refused = await http(f"{gateway.url}/gateway/stats")
    assert refused.status == 401

    async def is_counted() -> bool:
        body = (await http(f"{gateway.url}/gateway/stats", headers=headers)).body
        return bool(body["cursor"] == str(gateway.feed.head))

    await eventually(is_counted)
    answer = await http(f"{gateway.url}/gateway/stats", headers=headers)
    assert totals(answer)["blocked"] == 1
    assert [project["project"] for project in answer.body["projects"]] == ["shop"]
    answer = await http(f"{gateway.url}/gateway/stats", headers=headers, project="blog")
    assert answer.status == 403
    assert "may not read project blog" in answer.body["error"]


async def test_one_project_is_asked_for(gateway: Gateway, http: Http) -> None:
    await push(gateway.url, "shop", blocked("stuck", "1", now_ms()))
    await push(gateway.url, "blog", blocked("stuck", "1", now_ms()))
    answer = await stats(gateway, http, project="blog")
    assert [project["project"] for project in answer.body["projects"]] == ["blog"]
    assert totals(answer)["arrived"] == 1
    answer = await stats(gateway, http, project="nobody")
    assert (answer.status, answer.body["projects"], totals(answer)["arrived"]) == (200, [], 0)


async def test_a_block_that_is_repaired_is_counted_once(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway, block = await passed_over(start_gateway, tmp_path)

    async def counted() -> int:
        # These events are of 1970, which no range has.
        await stats(gateway, http)
        with closing(sqlite3.connect(tmp_path / "gw" / "views.db")) as db:
            counts = db.execute("SELECT blocked FROM stats_counts WHERE span = 1 AND project = 0")
            return sum(count for (count,) in counts)

    assert await counted() == 2
    assert await gateway.log.repair(2, block.runs, block.events()) is None
    assert await counted() == 3
    await stop(gateway)
    gateway = await start_gateway()
    assert await counted() == 3


def test_what_a_snapshot_says_is_held_up_is_so() -> None:
    stories = {
        "1": Story(stage="2_current", blocked="stuck", blocked_since_ms=5),
        "2": Story(
            stage="4_merge", blocked="x", blocked_since_ms=7, merge_failure="y", merge_failure_since_ms=9
        ),
        "3": Story(stage="3_qa"),
    }
    assert held_up({}, Snapshot("aa", "e1", 1, 10, stories)) == [5, 9]
    assert held_up({}, None) == []
