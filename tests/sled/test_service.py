from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from huskies.config import SledSettings
from huskies.errors import ConfigError, StoreError
from huskies.events.model import STAGES, RateLimitHardBlock, RateLimitWarning, StoryBlocked
from huskies.limits import SHUTDOWN_LIMIT
from huskies.sled import spool
from huskies.sled.layout import Layout, ensure_state, lay_out
from huskies.sled.scan import Changes
from huskies.sled.service import Sled

if TYPE_CHECKING:
    from tests.sled.conftest import Eventually, Peer

EVENT = StoryBlocked(story_id="s", reason="x")

PUBLISH_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from huskies.events.model import StoryBlocked
from huskies.sled.scan import Changes
from huskies.config import SledSettings
from huskies.sled.service import Sled

async def main():
    sled = Sled(SledSettings(project_dir=Path(sys.argv[1]), port=0))
    await sled.start()
    number = 0
    while True:
        number += 1
        receipt = await sled.broadcaster.publish(StoryBlocked(story_id="s", reason=str(number)))
        print(receipt.epoch, receipt.seq, flush=True)

asyncio.run(main())
"""

# Drains in small batches, and kills itself before one of its steps: a load, a commit, a removal.
DRAIN = """
import asyncio, os, signal, sys
from pathlib import Path
from huskies.sled import spool_drain
from huskies.sled.scan import Changes
from huskies.config import SledSettings
from huskies.sled.service import Sled

spool_drain._BATCH = 4
left = int(sys.argv[2])

def deadly(step):
    def run(*arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments)
    return run

for name in ("_load", "_remove"):
    setattr(spool_drain.SpoolDrain, name, deadly(getattr(spool_drain.SpoolDrain, name)))

async def main():
    sled = Sled(SledSettings(project_dir=Path(sys.argv[1]), port=0))
    await sled.start()
    await sled.wait()

asyncio.run(main())
"""


def settings(project_dir: Path, **changes: Any) -> SledSettings:
    return SledSettings(project_dir=project_dir, **{"port": 0, **changes})


def test_laying_out_overwrites_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.huskies.mkdir()
    layout.gitignore.write_text("mine\n")
    lay_out(layout)
    lay_out(layout)
    assert layout.gitignore.read_text() == "mine\n"
    assert {path.name for path in layout.work.iterdir()} == set(STAGES)


@pytest.mark.parametrize("own", [None, "*.log\n"])
def test_the_state_never_gets_into_git(tmp_path: Path, own: str | None) -> None:
    layout = Layout(tmp_path)
    layout.huskies.mkdir()
    if own is not None:
        layout.gitignore.write_text(own)
    lay_out(layout)
    (layout.keys / "secret.key").write_text("secret")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    added = ["git", "-C", str(tmp_path), "ls-files", "--others", "--exclude-standard"]
    assert subprocess.check_output(added, text=True).split() == [".huskies/.gitignore"]


@pytest.mark.skipif(os.name == "nt", reason="permissions as POSIX has them")
def test_a_state_that_others_could_read_becomes_its_owners_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    lay_out(layout)
    assert layout.state.stat().st_mode & 0o777 == 0o700
    layout.state.chmod(0o755)
    ensure_state(layout)
    assert layout.state.stat().st_mode & 0o777 == 0o700


async def test_a_second_sled_on_the_same_state_is_refused(tmp_path: Path) -> None:
    first = Sled(settings(tmp_path))
    await first.start()
    with pytest.raises(ConfigError, match="another sled") as caught:
        await Sled(settings(tmp_path)).start()
    assert caught.value.exit_status == 2
    await first.stop()
    second = Sled(settings(tmp_path))
    await second.start()
    await second.stop()


@pytest.mark.parametrize("name", ["x" * 65, "a b", "a/b"])
async def test_a_name_that_is_not_valid(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name: expected"):
        await Sled(settings(tmp_path, name=name)).start()


async def test_the_name_of_the_directory_is_made_valid(tmp_path: Path) -> None:
    (tmp_path / "my shop").mkdir()
    assert Sled(settings(tmp_path / "my shop")).name == "my-shop"


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory"):
        await Sled(settings(tmp_path / "missing")).start()
    (tmp_path / ".huskies").write_text("a file")
    with pytest.raises(ConfigError, match=r"\.huskies"):
        await Sled(settings(tmp_path)).start()


async def test_many_sleds_in_one_loop_reach_one_gateway(
    tmp_path: Path, peer: Peer, eventually: Eventually
) -> None:
    sleds = []
    for number in range(12):
        (tmp_path / f"p{number}").mkdir()
        sleds.append(Sled(settings(tmp_path / f"p{number}", gateway_url=peer.url)))
    await asyncio.gather(*(sled.start() for sled in sleds))
    await asyncio.gather(*(sled.broadcaster.publish(EVENT) for sled in sleds for _ in range(5)))
    await eventually(lambda: [len(events) for events in peer.log.values()] == [5] * 12)
    assert {sled_id for sled_id, _ in peer.log} == {sled.sled_id for sled in sleds}
    before = time.monotonic()
    await asyncio.gather(*(sled.stop() for sled in sleds))
    assert time.monotonic() - before < SHUTDOWN_LIMIT


@pytest.mark.parametrize("opted_in", [False, True])
async def test_rate_limits_are_relayed_where_the_project_opted_in(
    tmp_path: Path, peer: Peer, eventually: Eventually, *, opted_in: bool
) -> None:
    sled = Sled(settings(tmp_path, gateway_url=peer.url, relay_rate_limits=opted_in))
    await sled.start()
    common = {"story_id": "s", "story_name": "S", "agent_name": "coder"}
    await sled.broadcaster.publish(RateLimitWarning(**common))
    reset_at = datetime(2026, 1, 1, tzinfo=UTC)
    await sled.broadcaster.publish(RateLimitHardBlock(**common, reset_at=reset_at))
    await sled.broadcaster.publish(EVENT)
    await eventually(lambda: peer.events() and peer.events()[-1]["type"] == "story_blocked")
    await sled.stop()
    *limits, _ = peer.events()
    assert all(event.pop("timestamp_ms") > 0 for event in limits)
    assert (
        limits
        == [
            {"type": "rate_limit_warning", **common},
            {"type": "rate_limit_hard_block", **common, "reset_at": "2026-01-01T00:00:00Z"},
        ]
        * opted_in
    )


async def test_what_is_emitted_while_the_sled_runs(tmp_path: Path, eventually: Eventually) -> None:
    sled = Sled(settings(tmp_path))
    await sled.start()
    with sled.broadcaster.subscribe() as subscription:
        spool.write(Layout(tmp_path), EVENT)
        assert await asyncio.wait_for(anext(subscription), 5) == EVENT
    await eventually(lambda: not list(Layout(tmp_path).spool_new.iterdir()))
    await sled.stop()


async def test_stopping_while_something_changes(tmp_path: Path) -> None:
    for _ in range(3):
        sled = Sled(settings(tmp_path))
        await sled.start()
        follower = sled._tasks[0]
        await asyncio.sleep(0)
        # The wake-up and the cancellation come in the same turn of the loop.
        coroutine = follower.get_coro()
        wake = coroutine.cr_frame.f_locals["self"]._wake  # type: ignore[union-attr]
        while not wake._waiters:  # noqa: ASYNC110 - nothing tells that someone waits
            await asyncio.sleep(0)
        wake.set()
        async with asyncio.timeout(SHUTDOWN_LIMIT):
            await sled.stop()


async def test_stopping_ends_subscribers_and_waiters(tmp_path: Path) -> None:
    sled = Sled(settings(tmp_path))
    await sled.start()
    waiting = asyncio.ensure_future(sled.wait())
    subscription = sled.broadcaster.subscribe()
    await sled.broadcaster.publish(EVENT)
    await sled.stop()
    assert [event async for event in subscription] == [EVENT]
    await waiting
    with pytest.raises(StoreError):
        await sled.broadcaster.publish(EVENT)


async def test_a_store_that_fails_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sled = Sled(settings(tmp_path))
    await sled.start()
    waiting = asyncio.ensure_future(sled.wait())

    def full(*_: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    assert sled._outbox is not None
    monkeypatch.setattr(sled._outbox._store, "append", full)
    with pytest.raises(StoreError, match="disk is full"):
        await sled.broadcaster.publish(EVENT)
    with pytest.raises(StoreError, match="disk is full"):
        await waiting
    await sled.stop()


async def test_killed_sleds_drain_the_spool_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for number in range(120):
        spool.write(layout, StoryBlocked(story_id="s", reason=str(number)))
    for killed_after in (1, 2, 5, 20):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DRAIN, str(tmp_path), str(killed_after)
        )
        assert await process.wait() == -signal.SIGKILL
    sled = Sled(settings(tmp_path))
    await sled.start()
    assert sled._outbox is not None
    await sled._outbox.record_changes(Changes())
    async with asyncio.timeout(5):
        while list(layout.spool_new.iterdir()):  # noqa: ASYNC110 - what files hold has no event to wait for
            await asyncio.sleep(0.002)
    held = [json.loads(data)["reason"] for data, _ in sled._outbox.read(1, 1_000)]
    assert held == [str(number) for number in range(120)]
    await sled.stop()


async def test_killed_sleds_keep_what_they_confirmed(tmp_path: Path) -> None:
    confirmed: list[tuple[str, str]] = []
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PUBLISH_FOR_EVER,
            str(tmp_path),
            stdout=subprocess.PIPE,
            env={**os.environ},
        )
        assert process.stdout is not None
        for _ in range(40):
            epoch, seq = (await process.stdout.readline()).split()
            confirmed.append((epoch.decode(), seq.decode()))
        process.kill()
        rest = (await process.stdout.read()).decode().splitlines()
        confirmed += [(line.split()[0], line.split()[1]) for line in rest if line.count(" ") == 1]
        await process.wait()
    assert len({epoch for epoch, _ in confirmed}) == 1
    assert len(set(confirmed)) == len(confirmed)
    sled = Sled(settings(tmp_path))
    await sled.start()
    assert sled._outbox is not None
    held = sled._outbox.head.last_seq
    assert held >= max(int(seq) for _, seq in confirmed)
    assert held <= len(confirmed) + 3
    assert len(sled._outbox.read(1, held)) == held
    await sled.stop()
