"""Server-Sent Events: from a cursor through history into what happens now, and nothing skipped in silence."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import Eventually, Http, StartGateway, stop
from tests.support.relay_client import blocked, connect, new_epoch, new_key, push
from tests.support.sse_client import open_stream

from huskies import limits
from huskies.config import GatewaySettings
from huskies.gateway import sse
from huskies.gateway.server import Gateway
from huskies.gateway.store import cursors
from huskies.gateway.store.history import Place

EVENTS = "/gateway/events"


def reasons(events: list[dict[str, Any]]) -> list[str]:
    return [shown["event"]["reason"] for shown in events]


def numbered(first: int, last: int) -> list[dict[str, Any]]:
    return [blocked(str(number)) for number in range(first, last + 1)]


async def test_a_stream_opens_with_a_block_that_carries_only_an_id(gateway: Gateway) -> None:
    await push(gateway.url, "shop", *numbered(1, 3))
    async with open_stream(gateway.url) as reader:
        block = await reader.next_block()
        assert block is not None
        assert (block.event, block.data) == (None, None)
        assert block.id is not None
        assert cursors.parse(block.id).position == 3
        assert reader.response.headers["Cache-Control"] == "no-store"
        assert reader.response.content_type == "text/event-stream"


async def test_without_a_cursor_a_stream_begins_now(gateway: Gateway) -> None:
    await push(gateway.url, "shop", *numbered(1, 3))
    async with open_stream(gateway.url) as reader:
        await reader.next_block()
        await push(gateway.url, "shop", blocked("4"))
        assert reasons(await reader.take(1)) == ["4"]


async def test_after_zero_is_from_the_beginning_and_goes_on_live(gateway: Gateway) -> None:
    await push(gateway.url, "shop", *numbered(1, 3))
    async with open_stream(gateway.url, after="0") as reader:
        assert reasons(await reader.take(3)) == ["1", "2", "3"]
        await push(gateway.url, "blog", blocked("4"))
        [event] = await reader.take(1)
        assert (event["project"], event["event"]) == ("blog", blocked("4"))


async def test_a_stream_and_a_page_show_the_same(gateway: Gateway, http: Http) -> None:
    await push(gateway.url, "shop", *numbered(1, 3))
    async with open_stream(gateway.url, after="0") as reader:
        streamed = await reader.take(3)
    assert streamed == (await http(f"{gateway.url}{EVENTS}")).body["events"]


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3])
async def test_a_reader_resumes_where_it_was(gateway: Gateway, stop_after: int) -> None:
    await push(gateway.url, "shop", *numbered(1, 3))
    async with open_stream(gateway.url, after="0") as reader:
        if stop_after == 0:
            await reader.next_block()
        await reader.take(stop_after)
        last_id = reader.last_id
    async with open_stream(gateway.url, last_event_id=last_id) as reader:
        await push(gateway.url, "shop", blocked("4"))
        wanted = [str(number) for number in range(stop_after + 1, 5)]
        assert reasons(await reader.take(len(wanted))) == wanted


async def test_last_event_id_wins_over_after(gateway: Gateway) -> None:
    await push(gateway.url, "shop", *numbered(1, 3))
    async with open_stream(gateway.url, after="0") as reader:
        await reader.take(2)
        second = reader.last_id
    async with open_stream(gateway.url, last_event_id=second, after="0") as reader:
        assert reasons(await reader.take(1)) == ["3"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"project": "blog"}, ["blog a", "blog b"]),
        ({"story": "2_bug_y"}, ["shop b", "blog b"]),
        ({"type": "story_blocked", "project": "shop"}, ["shop a", "shop b"]),
        ({"since": "20"}, ["shop b", "blog b"]),
        ({"until": "20"}, ["shop a", "blog a"]),
    ],
    ids=str,
)
async def test_a_filter_holds_in_history_and_live(
    gateway: Gateway, query: dict[str, Any], found: list[str]
) -> None:
    async def push_all() -> None:
        for project in ("shop", "blog"):
            await push(
                gateway.url,
                project,
                blocked(f"{project} a", "1_bug_x", 10),
                blocked(f"{project} b", "2_bug_y", 20),
            )

    await push_all()
    async with open_stream(gateway.url, after="0", **query) as reader:
        assert reasons(await reader.take(2)) == found
        await push_all()
        assert reasons(await reader.take(2)) == found


@pytest.mark.parametrize("from_memory", [True, False])
async def test_between_history_and_live_nothing_is_lost_or_doubled(
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    from_memory: bool,  # noqa: FBT001 - a case
) -> None:
    if not from_memory:
        # Memory holds one block: readers that come later go through the log.
        monkeypatch.setattr(limits, "RECENT_EVENTS_MAX", 1)
    total, readers = 600, 5

    async def write() -> None:
        async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
            for seq in range(1, total + 1):
                await client.send_events(seq, blocked(str(seq)))
                if seq % 20 == 0:
                    await client.acked(seq)

    async def read(start_at: int) -> list[str]:
        while gateway.feed.head.position < start_at:
            await gateway.feed.wait(None, 10)
        async with open_stream(gateway.url, after="0") as reader:
            return reasons(await reader.take(total))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read(number * total // readers)) for number in range(readers)]
        group.create_task(write())
    for task in tasks:
        assert task.result() == [str(seq) for seq in range(1, total + 1)]


async def test_a_quiet_reader_gets_an_id_now_and_then(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STREAM_ID_INTERVAL", 0.05)
    async with open_stream(gateway.url, project="shop") as reader:
        await reader.next_block()
        # Of another project: the reader sees no event, and yet a place that is further on.
        await push(gateway.url, "blog", *numbered(1, 3))
        while (block := await reader.next_block()) is not None:
            assert (block.event, block.data) == (None, None)
            if cursors.parse(block.id or "").position == 3:
                break
        last_id = reader.last_id
    async with open_stream(gateway.url, last_event_id=last_id) as reader:
        await push(gateway.url, "shop", blocked("4"))
        assert reasons(await reader.take(1)) == ["4"]


def test_the_id_comes_every_fifteen_seconds() -> None:
    assert limits.STREAM_ID_INTERVAL == 15


async def test_a_filtered_reader_gets_an_id_while_others_are_busy(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stream(gateway.url, story="nothing") as reader:
        await reader.next_block()
        # Whoever is woken from now on has been quiet for long enough.
        monkeypatch.setattr(limits, "STREAM_ID_INTERVAL", 0.01)
        for number in range(1, 4):
            await push(gateway.url, "shop", blocked(str(number)))
            while (block := await reader.next_block()) is not None:
                assert (block.event, block.data) == (None, None)
                if cursors.parse(block.id or "").position == number:
                    break


# --- cursors that are not of this log, or too old ----------------------------------------------------


async def test_a_cursor_of_another_log_is_reset_and_the_stream_begins_anew(gateway: Gateway) -> None:
    await push(gateway.url, "shop", *numbered(1, 2))
    async with open_stream(gateway.url, last_event_id="00000000-1-00000000") as reader:
        opening = await reader.next_block()
        assert opening is not None
        assert (opening.event, opening.data) == (None, None)
        block = await reader.next_event()
        assert (block.event, list(block.data or ())) == ("reset", ["reason"])
        assert reasons(await reader.take(2)) == ["1", "2"]


async def test_a_last_id_that_is_no_cursor_is_reset(
    gateway: Gateway,
) -> None:
    # A browser that is refused gives up for good.
    await push(gateway.url, "shop", *numbered(1, 2))
    async with open_stream(gateway.url, last_event_id="nonsense") as reader:
        assert (await reader.next_event()).event == "reset"
        assert reasons(await reader.take(2)) == ["1", "2"]


@pytest.mark.parametrize("text", ["nonsense", "", "-1", "latest"])
async def test_what_is_no_cursor_is_422(gateway: Gateway, http: Http, text: str) -> None:
    answer = await http(f"{gateway.url}{EVENTS}", headers={"Accept": "text/event-stream"}, after=text)
    assert (answer.status, list(answer.body)) == (422, ["error"])


@pytest.mark.parametrize("diverged", [True, False])
async def test_a_cursor_of_a_log_that_was_restored_is_reset(
    start_gateway: StartGateway,
    http: Http,
    tmp_path: Path,
    diverged: bool,  # noqa: FBT001 - a case
) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", *numbered(1, 2))
    await stop(gateway)
    shutil.copytree(tmp_path / "gw", tmp_path / "backup")
    gateway = await start_gateway()
    await push(gateway.url, "shop", *numbered(3, 4))
    async with open_stream(gateway.url, after="0") as reader:
        events = await reader.take(4)
    await stop(gateway)
    gateway = await start_gateway(name="backup")
    if diverged:
        await push(gateway.url, "shop", blocked("other 3"), blocked("other 4"), blocked("other 5"))
    # What was read before the backup is still good.
    async with open_stream(gateway.url, last_event_id=events[1]["cursor"]) as reader:
        block = await reader.next_block()
        assert block is not None
        assert block.event is None
    for event in events[2:]:
        async with open_stream(gateway.url, last_event_id=event["cursor"]) as reader:
            assert (await reader.next_event()).event == "reset"
            assert reasons(await reader.take(2)) == ["1", "2"]
        assert (await http(f"{gateway.url}{EVENTS}", after=event["cursor"])).status == 409
        assert (await http(f"{gateway.url}{EVENTS}", before=event["cursor"])).status == 409


async def truncated(start_gateway: StartGateway, tmp_path: Path) -> tuple[Gateway, list[dict[str, Any]]]:
    """A gateway whose log was cut: of ten events the first six are no longer retained; and all ten."""
    gateway = await start_gateway()
    for number in range(1, 11, 2):
        await push(gateway.url, "shop", *numbered(number, number + 1))
    async with open_stream(gateway.url, after="0") as reader:
        events = await reader.take(10)
    await stop(gateway)
    with closing(sqlite3.connect(tmp_path / "gw" / "log.db")) as log:
        log.execute("DELETE FROM blocks WHERE position < 7")
        log.commit()
    return await start_gateway(), events


async def test_a_reader_is_told_what_is_no_longer_retained(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway, events = await truncated(start_gateway, tmp_path)
    for query, first in (({"after": "0"}, 1), ({"after": events[2]["cursor"]}, 4)):
        async with open_stream(gateway.url, **query) as reader:
            block = await reader.next_event()
            assert (block.event, block.data) == ("gap", {"from": first, "to": 6})
            assert reasons(await reader.take(4)) == ["7", "8", "9", "10"]
    async with open_stream(gateway.url, after=events[5]["cursor"]) as reader:
        assert reasons(await reader.take(4)) == ["7", "8", "9", "10"]


async def test_the_id_after_a_gap_is_one_to_resume_from(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway, _ = await truncated(start_gateway, tmp_path)
    async with open_stream(gateway.url, after="0") as reader:
        await reader.next_block()
        await reader.next_block()
        last_id = reader.last_id
    async with open_stream(gateway.url, last_event_id=last_id) as reader:
        assert reasons(await reader.take(4)) == ["7", "8", "9", "10"]


async def test_a_page_tells_what_is_no_longer_retained(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway, events = await truncated(start_gateway, tmp_path)
    url = f"{gateway.url}{EVENTS}"
    for query, first in (({}, 1), ({"after": "0"}, 1), ({"after": events[2]["cursor"]}, 4)):
        page = (await http(url, **query)).body
        assert (page["gap"], len(page["events"])) == ({"from": first, "to": 6}, 4)
    assert "gap" not in (await http(url, after=events[5]["cursor"])).body
    assert "gap" not in (await http(url, before="latest", limit="2")).body


async def test_a_page_that_goes_back_tells_what_is_no_longer_retained(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway, events = await truncated(start_gateway, tmp_path)
    page = (await http(f"{gateway.url}{EVENTS}", before=events[2]["cursor"])).body
    assert (page["events"], page.get("gap")) == ([], {"from": 1, "to": 6})


async def test_the_end_of_the_way_back_tells_what_is_no_longer_retained(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway, _ = await truncated(start_gateway, tmp_path)
    page = (await http(f"{gateway.url}{EVENTS}", before="latest")).body
    assert (len(page["events"]), page["next"], page.get("gap")) == (4, None, {"from": 1, "to": 6})


async def test_a_reset_reader_is_told_of_the_gap_too(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway, _ = await truncated(start_gateway, tmp_path)
    async with open_stream(gateway.url, last_event_id="00000000-1-00000000") as reader:
        kinds = []
        while (block := await reader.next_block()) is not None and block.event != "status":
            kinds.append((block.event, block.data))
        assert ("gap", {"from": 1, "to": 6}) in kinds


async def test_a_damaged_block_is_never_served(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway = await start_gateway()
    for number in (1, 2, 3):
        await push(gateway.url, "shop", blocked(f"number {number}"))
    await stop(gateway)
    gateway = await start_gateway()
    with closing(sqlite3.connect(tmp_path / "gw" / "log.db")) as log:
        [events] = log.execute("SELECT events FROM blocks WHERE position = 2").fetchone()
        damaged = events.replace(b"number 2", b"number 7")
        log.execute("UPDATE blocks SET events = ? WHERE position = 2", (damaged,))
        log.commit()
    page = (await http(f"{gateway.url}{EVENTS}")).body
    assert (reasons(page["events"]), "gap" in page) == (["number 1"], False)
    page = (await http(f"{gateway.url}{EVENTS}", after=page["next"])).body
    assert (reasons(page["events"]), page["gap"]) == (["number 3"], {"from": 2, "to": 2})
    page = (await http(f"{gateway.url}{EVENTS}", before="latest")).body
    assert reasons(page["events"]) == ["number 3"]
    page = (await http(f"{gateway.url}{EVENTS}", before=page["next"])).body
    assert (reasons(page["events"]), page["gap"]) == (["number 1"], {"from": 2, "to": 2})
    async with open_stream(gateway.url, after="0") as reader:
        assert reasons(await reader.take(1)) == ["number 1"]
        told = await reader.next_event()
        assert (told.event, told.data) == ("gap", {"from": 2, "to": 2})
        last_id = reader.last_id
        assert reasons(await reader.take(1)) == ["number 3"]
        await push(gateway.url, "shop", blocked("number 4"))
        assert reasons(await reader.take(1)) == ["number 4"]
    # Who was told of the gap goes on behind it.
    async with open_stream(gateway.url, last_event_id=last_id) as reader:
        assert reasons(await reader.take(2)) == ["number 3", "number 4"]


async def test_what_was_dropped_in_front_of_a_reader_is_told_in_mid_stream(
    start_gateway: StartGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = await truncated(start_gateway, tmp_path)
    place = Place(2)

    async def before_it_was_dropped(*_: object) -> Place:
        return place

    # As where the blocks went between finding the reader's place and reading on from it.
    monkeypatch.setattr(gateway.history, "place", before_it_was_dropped)
    async with open_stream(gateway.url, after=str(gateway.feed.head)) as reader:
        told = await reader.next_event()
        assert (told.event, told.data) == ("gap", {"from": 3, "to": 6})
        last_id = reader.last_id
        assert reasons(await reader.take(4)) == ["7", "8", "9", "10"]
    monkeypatch.undo()
    async with open_stream(gateway.url, last_event_id=last_id) as reader:
        assert reasons(await reader.take(4)) == ["7", "8", "9", "10"]


# --- readers that are slow or go ---------------------------------------------------------------------


async def test_a_slow_reader_is_disconnected_with_a_reason_and_ingest_goes_on(
    start_gateway: StartGateway, http: Http, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it is told waits for it: all that is pushed here may take longer.
    monkeypatch.setattr(sse, "_LINGER", 600.0)
    gateway = await start_gateway(slow_after=0.2)
    large = [blocked("x" * 16_000) for _ in range(50)]
    async with open_stream(gateway.url, after="0") as reader:
        await reader.next_block()
        reader.response.connection.transport.pause_reading()  # type: ignore[union-attr]
        for _ in range(20):
            await push(gateway.url, "shop", *large)
        await eventually(lambda: "huskies_readers 0.0" in gateway.metrics.render().decode())
        await push(gateway.url, "shop", blocked("goes on"))
        reader.response.connection.transport.resume_reading()  # type: ignore[union-attr]
        last = None
        while (block := await reader.next_block()) is not None:
            last = block
        assert last is not None
        assert (last.event, "resume" in last.data["reason"]) == ("error", True)
        last_id = reader.last_id
    # It resumes from its cursor and has missed nothing.
    gateway.slow_after = 10.0
    async with open_stream(gateway.url, last_event_id=last_id) as reader:
        behind = 1_001 - cursors.parse(last_id or "").position
        assert reasons(await reader.take(behind))[-1] == "goes on"
    assert (await http(f"{gateway.url}/healthz")).status == 200


async def test_a_gateway_knows_slow_readers_without_being_told(tmp_path: Path) -> None:
    assert Gateway(GatewaySettings(data_dir=tmp_path / "gw")).slow_after == limits.SLOW_READER_LIMIT == 10


async def test_a_reader_that_goes_away_is_forgotten(gateway: Gateway, eventually: Eventually) -> None:
    async with open_stream(gateway.url) as reader:
        await reader.next_block()
        assert "huskies_readers 1.0" in gateway.metrics.render().decode()
        reader.response.close()
    await push(gateway.url, "shop", blocked())
    await eventually(lambda: "huskies_readers 0.0" in gateway.metrics.render().decode())


async def test_streams_end_when_the_gateway_stops(gateway: Gateway) -> None:
    async with open_stream(gateway.url) as reader:
        await reader.next_block()
        await stop(gateway)
        while (block := await reader.next_block()) is not None:
            assert block.event is None
