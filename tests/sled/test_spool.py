from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from huskies.errors import ConfigError, InvalidEventError
from huskies.events.model import RateLimitWarning, StoryBlocked
from huskies.sled import spool
from huskies.sled.layout import Layout
from huskies.sled.spool_drain import SpoolDrain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sled.conftest import Opened, OpenOutbox

EMIT = """
import sys
from pathlib import Path
from huskies.events.model import StoryBlocked
from huskies.sled import spool
from huskies.sled.layout import Layout
for number in range(int(sys.argv[3])):
    spool.write(Layout(Path(sys.argv[1])), StoryBlocked(story_id=sys.argv[2], reason=str(number)))
"""
RATE_LIMITED = {
    "type": "rate_limit_hard_block",
    "story_id": "s",
    "agent_name": "coder",
    "timestamp_ms": 1,
}
HEAVY = ("aiohttp", "cryptography", "watchfiles", "yaml", "sqlite3", "asyncio", "filelock")


def blocked(reason: str) -> StoryBlocked:
    return StoryBlocked(story_id="s", reason=reason)


def drain_of(opened: Opened, layout: Layout, drained: set[str] | None = None) -> SpoolDrain:
    return SpoolDrain(layout, opened.outbox, "shop", drained or set())


async def test_what_was_emitted_before_the_sled_ran_is_drained_in_order(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    before_ms = time.time_ns() // 1_000_000
    for number in range(5):
        spool.write(layout, blocked(str(number)))
    opened = await open_outbox(layout)
    await drain_of(opened, layout).drain()
    held = opened.held()
    assert [event["reason"] for event in held] == ["0", "1", "2", "3", "4"]
    assert all(before_ms <= event["timestamp_ms"] <= time.time_ns() // 1_000_000 for event in held)
    assert opened.announced == [blocked(str(number)) for number in range(5)]
    assert not list(layout.spool_new.iterdir())


async def test_an_emitted_event_has_the_time_at_which_it_was_emitted(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
        spool.write(layout, blocked("long ago"))
    opened = await open_outbox(layout)
    await drain_of(opened, layout).drain()
    assert [event["timestamp_ms"] for event in opened.held()] == [1_700_000_000_123]


async def test_many_processes_emit_at_once(layout: Layout, open_outbox: OpenOutbox) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", EMIT, str(layout.project_dir), f"{number}_story", "20"
        )
        for number in range(8)
    ]
    opened = await open_outbox(layout)
    drain = drain_of(opened, layout)
    ended = asyncio.gather(*(process.wait() for process in processes))
    while not ended.done():
        await drain.drain()
        await asyncio.sleep(0)
    assert set(await ended) == {0}
    await drain.drain()
    by_story: dict[str, list[str]] = {}
    for event in opened.held():
        by_story.setdefault(event["story_id"], []).append(event["reason"])
    assert by_story == {f"{number}_story": [str(n) for n in range(20)] for number in range(8)}


async def test_a_drain_killed_after_the_commit_records_nothing_twice(
    layout: Layout, open_outbox: OpenOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = spool.write(layout, blocked("once"))
    opened = await open_outbox(layout)
    killed = drain_of(opened, layout)
    monkeypatch.setattr(killed, "_remove", lambda _: [])
    await killed.drain()
    assert (layout.spool_new / name).exists()
    restarted = drain_of(opened, layout, {name})
    await restarted.tidy()
    await restarted.drain()
    assert [event["reason"] for event in opened.held()] == ["once"]
    assert not (layout.spool_new / name).exists()
    assert opened.outbox._store.drained() == set()


async def test_a_drain_killed_after_the_removal_forgets_the_name(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    spool.write(layout, blocked("once"))
    opened = await open_outbox(layout)
    await drain_of(opened, layout).drain()
    drained = opened.outbox._store.drained()
    assert len(drained) == 1
    await drain_of(opened, layout, drained).tidy()
    assert opened.outbox._store.drained() == set()


async def test_bad_entries_are_put_away(
    layout: Layout, open_outbox: OpenOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    beyond = {**RATE_LIMITED, "reset_at": "0001-01-01T00:00:00+01:00"}
    bad = {
        "0-empty": b"",
        "1-no-json": b"{",
        "2-no-time": json.dumps({"type": "story_blocked"}).encode(),
        "3-beyond-the-calendar": json.dumps(beyond).encode(),
    }
    for name, data in bad.items():
        (layout.spool_new / name).write_bytes(data)
    (layout.spool_new / "4-directory").mkdir()
    spool.write(layout, blocked("good"))
    opened = await open_outbox(layout)
    await drain_of(opened, layout).drain()
    assert [event["reason"] for event in opened.held()] == ["good"]
    assert {path.name for path in layout.spool_bad.iterdir()} == {*bad, "4-directory"}
    assert len(caplog.records) == 5


async def test_rate_limits_are_announced_and_relayed_only_where_asked_for(
    layout: Layout, open_outbox: OpenOutbox
) -> None:
    event = RateLimitWarning(story_id="s", agent_name="coder")
    spool.write(layout, event)
    opened = await open_outbox(layout)
    await drain_of(opened, layout).drain()
    assert (opened.announced, opened.held()) == ([event], [])


def test_emitting_makes_the_state_directory_owner_only(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    spool.write(layout, blocked("first"))
    assert layout.gitignore.read_text() == "/state/\n"
    assert layout.state.stat().st_mode & 0o777 == 0o700
    assert next(layout.spool_new.iterdir()).stat().st_mode & 0o777 == 0o600


def test_an_emitted_event_is_fsynced_before_it_is_confirmed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    entry = layout.spool_new / spool.write(layout, blocked("x"))
    assert synced == [entry.stat().st_ino, layout.spool_new.stat().st_ino]


def test_what_cannot_be_emitted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory"):
        spool.write(Layout(tmp_path / "missing"), blocked("x"))
    with pytest.raises(InvalidEventError):
        spool.write(Layout(tmp_path), StoryBlocked(story_id="", reason="x"))
    assert not (tmp_path / ".huskies").exists()


def test_emitting_imports_nothing_heavy() -> None:
    code = f"import sys, huskies.sled.spool; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
