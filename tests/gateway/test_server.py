"""Starting, stopping, failing and starting again."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.gateway.conftest import Eventually, Http, StartGateway, stop
from tests.support.relay_client import blocked, connect, new_epoch, new_key, push
from tests.support.sse_client import open_stream

from huskies.config import GatewaySettings
from huskies.errors import ConfigError, StoreError
from huskies.gateway.server import Gateway
from huskies.urls import is_loopback


async def reasons(http: Http, gateway: Gateway, **query: Any) -> list[str]:
    page = (await http(f"{gateway.url}/gateway/events", **query)).body
    return [shown["event"]["reason"] for shown in page["events"]]


async def test_a_gateway_without_tokens_refuses_to_listen_to_everyone(start_gateway: StartGateway) -> None:
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0: .* needs a sled token or an open project"):
        await start_gateway(host="0.0.0.0")  # noqa: S104 - the case


async def test_a_port_in_use_is_named(start_gateway: StartGateway) -> None:
    first = await start_gateway()
    port = urlsplit(first.url).port
    assert port is not None
    with pytest.raises(ConfigError, match=rf"--port {port}: 127\.0\.0\.1:{port} is in use"):
        await start_gateway(port=port, name="other")


async def test_after_a_failed_start_the_directory_is_free(start_gateway: StartGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError):
        await start_gateway(port=taken.getsockname()[1])
    await start_gateway()


async def test_a_directory_in_use_is_named(start_gateway: StartGateway, tmp_path: Path) -> None:
    await start_gateway()
    with pytest.raises(ConfigError, match="another gateway is using it") as caught:
        await start_gateway()
    assert str(tmp_path / "gw") in caught.value.where


async def test_a_directory_that_is_a_file_is_named(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / "gw").write_text("")
    with pytest.raises(ConfigError, match="is a file") as caught:
        await start_gateway()
    assert str(tmp_path / "gw") in caught.value.where


async def test_a_bad_projects_file_is_named(start_gateway: StartGateway) -> None:
    with pytest.raises(ConfigError, match=r"projects\.toml: projects\.shop\.open"):
        await start_gateway(projects="[projects.shop]\nopen = 1\n")


async def test_a_log_of_a_newer_version_is_refused(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / "gw").mkdir()
    with closing(sqlite3.connect(tmp_path / "gw" / "log.db")) as log:
        log.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=r"log\.db: written by a newer Huskies"):
        await start_gateway()


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 33])
async def test_a_damaged_key_is_named_and_not_replaced(
    start_gateway: StartGateway, tmp_path: Path, key: bytes
) -> None:
    (tmp_path / "gw").mkdir()
    path = tmp_path / "gw" / "gateway.key"
    path.write_bytes(key)
    with pytest.raises(ConfigError, match=r"gateway\.key: expected 32 bytes"):
        await start_gateway()
    assert path.read_bytes() == key


async def test_what_the_gateway_keeps_is_its_owners_alone(gateway: Gateway, tmp_path: Path) -> None:
    assert gateway.ready
    assert stat.S_IMODE((tmp_path / "gw").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "gw" / "gateway.key").stat().st_mode) == 0o600


async def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    gateway = Gateway(GatewaySettings(port=0, data_dir=tmp_path / "gw"))
    await gateway.start()
    await gateway.stop()
    await gateway.stop()
    await gateway.wait()


async def test_a_caller_may_stop_what_did_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = Gateway(GatewaySettings(port=taken.getsockname()[1], data_dir=tmp_path / "gw"))
        with pytest.raises(ConfigError):
            await gateway.start()
    await gateway.stop()


async def test_waiting_ends_with_the_stop(gateway: Gateway) -> None:
    waiting = asyncio.create_task(gateway.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await stop(gateway)
    async with asyncio.timeout(10):
        await waiting


async def test_a_full_disk_ends_the_gateway_without_an_ack(
    start_gateway: StartGateway, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start_gateway()
    async with await connect(gateway.url, "shop", key := new_key(), epoch := new_epoch()) as client:
        await client.send_events(1, blocked("a"))
        await client.acked(1)
        await gateway.log.call(lambda db: db.execute("PRAGMA max_page_count = 1"))
        await client.send_events(2, blocked("b" * 16_000))
        async with asyncio.timeout(10):
            with pytest.raises(StoreError, match="full"):
                await gateway.wait()
        assert (await http(f"{gateway.url}/readyz")).status == 503
        # What asks the log something now finds the same out, and does not say it again.
        gateway._spawn(gateway.keeper.run())
        await asyncio.gather(gateway._tasks[-1], return_exceptions=True)
        await stop(gateway)
        frames, _ = await client.until_closed()
    assert [frame for frame in frames if frame["type"] == "ack"] == []
    critical = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert ["cannot be written" in record.getMessage() for record in critical] == [True]
    assert critical[0].exc_info is None
    again = await start_gateway()
    async with await connect(again.url, "shop", key, epoch, 2) as client:
        assert client.welcome["last_seq"] == 1
        await client.send_events(2, blocked("b" * 16_000))
        await client.acked(2)


async def test_a_damaged_block_is_told_at_start_and_holds_nothing_up(
    start_gateway: StartGateway, http: Http, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", blocked("one"))
    await push(gateway.url, "shop", blocked("two"))
    await gateway.log.call(
        lambda db: db.execute("UPDATE blocks SET events = CAST(replace(events, 'one', 'eno') AS BLOB)")
    )
    await stop(gateway)
    (tmp_path / "gw" / "views.db").unlink()
    gateway = await start_gateway()
    [said] = [record for record in caplog.records if "damaged at positions 1 to 1" in record.getMessage()]
    assert said.levelname == "CRITICAL"
    assert "huskies_log_damaged 1.0" in (await http(f"{gateway.url}/metrics")).body
    page = (await http(f"{gateway.url}/gateway/events")).body
    assert page["gap"] == {"from": 1, "to": 1}
    assert [shown["event"]["reason"] for shown in page["events"]] == ["two"]


# --- the index ---------------------------------------------------------------------------------------


async def test_the_index_is_made_again_where_it_was_deleted(
    start_gateway: StartGateway, http: Http, tmp_path: Path, eventually: Eventually
) -> None:
    gateway = await start_gateway()
    for number in range(5):
        await push(gateway.url, "shop", blocked(str(number), timestamp_ms=number))
    await stop(gateway)
    for path in (tmp_path / "gw").glob("views.db*"):
        path.unlink()
    gateway = await start_gateway()
    assert await reasons(http, gateway, project="shop") == ["0", "1", "2", "3", "4"]
    await eventually(lambda: gateway.index.position == 5)
    assert await reasons(http, gateway, project="shop") == ["0", "1", "2", "3", "4"]
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    assert project["stories"][0]["blocked"] == "4"


@pytest.mark.parametrize("theirs", [1, 4])
async def test_the_index_of_another_log_is_not_believed(
    start_gateway: StartGateway, http: Http, tmp_path: Path, theirs: int, eventually: Eventually
) -> None:
    gateway = await start_gateway()
    for number in range(3):
        await push(gateway.url, "shop", blocked(str(number)))
    await stop(gateway)
    other = await start_gateway(name="other")
    for number in range(theirs):
        await push(other.url, "blog", blocked(f"of another {number}", "9_bug_z"))
    await eventually(lambda: other.index.position == theirs)
    await stop(other)
    for path in (tmp_path / "gw").glob("views.db*"):
        path.unlink()
    shutil.copy(tmp_path / "other" / "views.db", tmp_path / "gw" / "views.db")
    gateway = await start_gateway()
    assert await reasons(http, gateway, project="shop") == ["0", "1", "2"]
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    assert (project["name"], [story["story_id"] for story in project["stories"]]) == ("shop", ["1_bug_x"])
    await eventually(lambda: gateway.index.position == 3)
    assert await reasons(http, gateway, project="shop") == ["0", "1", "2"]
    assert await reasons(http, gateway, project="blog") == []


async def test_an_index_that_a_crash_damaged_is_made_again(
    start_gateway: StartGateway, http: Http, tmp_path: Path
) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", blocked("a"))
    await stop(gateway)
    (tmp_path / "gw" / "views.db").write_bytes(b"no database" * 1_000)
    gateway = await start_gateway()
    assert await reasons(http, gateway, project="shop") == ["a"]


async def test_readers_resume_over_a_restart(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", blocked("a"))
    async with open_stream(gateway.url, after="0") as reader:
        [event] = await reader.take(1)
    await stop(gateway)
    gateway = await start_gateway()
    async with open_stream(gateway.url, last_event_id=event["cursor"]) as reader:
        await reader.next_block()
        await push(gateway.url, "shop", blocked("b"))
        assert [shown["event"]["reason"] for shown in await reader.take(1)] == ["b"]


async def test_a_token_made_while_the_gateway_runs_needs_no_restart(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway()
    path = tmp_path / "gw" / "projects.toml"
    path.write_text('[sled_tokens]\nshop = "made-just-now"\n')
    path.chmod(0o600)
    await push(gateway.url, "shop", blocked(), sled_token="made-just-now")
    path.write_text("this is no TOML")
    await push(gateway.url, "shop", blocked(), sled_token="made-just-now")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False),  # noqa: S104 - cases
    ],
)  # fmt: skip
def test_which_addresses_are_loopback(host: str, loopback: bool) -> None:  # noqa: FBT001 - a case
    assert is_loopback(host) == loopback
