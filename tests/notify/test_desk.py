"""The desk: what is decided is committed whole, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.support.told import NOON, Teller, blocked

from huskies.errors import StoreError
from huskies.notify.core import Core
from huskies.notify.desk import Desk
from huskies.notify.rules import Rules, default_rules
from huskies.storage.notifications import FILE_NAME, Wanted, read_notifications


@asynccontextmanager
async def desk_in(directory: Path, *channels: str) -> AsyncIterator[Desk]:
    """A desk that is closed as a process that ends closes it."""
    desk = Desk(directory, Rules(default_rules(channels or ["a"]), zone=None), now_ms=lambda: NOON)
    try:
        yield desk
    finally:
        await desk.close()


async def test_a_commit_that_failed_is_made_up_for_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.storage.notifications._BUSY_SECONDS", 0.01)
    event = Teller().received(blocked())
    async with desk_in(tmp_path) as desk:
        await desk.take([], "c-0")
        await desk.tick(at_rest=True)
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as reader:
            # Who reads holds up who commits.
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM deliveries").fetchall()
            with pytest.raises(StoreError, match="locked"):
                await desk.take([event], "c-1")
        with pytest.raises(StoreError, match="goes on no more"):
            await desk.tick(at_rest=True)
    async with desk_in(tmp_path) as desk:
        assert desk.cursor == "c-0"
        await desk.take([event], "c-1")
        assert len(read_notifications(tmp_path, Wanted(), None)) == 1
    # What was remembered of it was kept, too.
    async with desk_in(tmp_path) as desk:
        await desk.take([event], "c-1")
        assert len(desk._core.state.problems) == 1
        assert len(read_notifications(tmp_path, Wanted(), None)) == 1


async def test_half_of_a_decision_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event, whole = Teller().received(blocked()), Core._tell_at_once

    def half(core: Core, channel: str, *rest: object) -> None:
        if channel == "b":
            raise ValueError("a bug")
        whole(core, channel, *rest)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(Core, "_tell_at_once", half)
    async with desk_in(tmp_path, "a", "b") as desk:
        with pytest.raises(ValueError, match="a bug"):
            await desk.take([event], "c-1")
    assert read_notifications(tmp_path, Wanted(), None) == []
    monkeypatch.setattr(Core, "_tell_at_once", whole)
    async with desk_in(tmp_path, "a", "b") as desk:
        await desk.take([event], "c-1")
    assert [one.channel for one in read_notifications(tmp_path, Wanted(), None)] == ["b", "a"]
