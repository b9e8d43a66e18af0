"""A process that ends at any commit, before it or right after: what is told is told once all the same."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.file_channel import FileChannel
from tests.support.told import NOON, Teller, blocked, moved

from huskies.errors import StoreError
from huskies.notify.courier import Courier
from huskies.notify.desk import Desk
from huskies.notify.model import Received
from huskies.notify.rules import Rules, default_rules
from huskies.storage import notifications
from huskies.storage.notifications import Wanted, read_notifications

PATIENCE = 20.0


def events() -> list[Received]:
    teller = Teller()
    made = [blocked("1_bug_x"), blocked("2_bug_x"), moved("1_bug_x", at_ms=NOON + 1), blocked("3_bug_x")]
    return [teller.received(event) for event in made]


class Power:
    """Fails with the commit of this number, counted over all processes: before it, or after it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits = 0
        self.fails_at: int | None = None
        self.is_done_first = False
        whole = notifications.NotificationsFile.transaction
        power = self

        @contextlib.contextmanager
        def transaction(file: notifications.NotificationsFile) -> Iterator[sqlite3.Connection]:
            power.commits += 1
            fails = power.commits == power.fails_at
            with whole(file) as db:
                yield db
                if fails and not power.is_done_first:
                    raise StoreError("the power failed before the commit")
            if fails:
                raise StoreError("the power failed after the commit")

        monkeypatch.setattr(notifications.NotificationsFile, "transaction", transaction)


async def one_life(
    directory: Path, channel: FileChannel, all_events: list[Received], *, is_killed: bool
) -> bool:
    """A process that begins with what the file says; whether it came to the end of what there was to do."""
    desk = Desk(directory, Rules(default_rules(["a"]), zone=None), now_ms=lambda: NOON)
    tasks: list[asyncio.Task[None]] = []
    try:
        await desk.account(lambda ledger: ledger.recover())
        courier = Courier(channel, desk, doubtful="leave", chance=lambda: 0.5)
        desk.on_decided = lambda _: courier.wake()
        tasks.append(asyncio.create_task(courier.run()))
        for number, received in enumerate(all_events, 1):
            if number > int(desk.cursor or 0):
                await desk.take([received], str(number))
                # Let the courier begin, or go on without it: both happen.
                await asyncio.sleep(0)
        await desk.tick(at_rest=True)
        async with asyncio.timeout(PATIENCE):
            while not tasks[0].done():
                if {one.state for one in read_notifications(directory, Wanted(), None)} <= {
                    "acknowledged",
                    "overtaken",
                }:
                    return True
                await asyncio.sleep(0.002)
        tasks[0].result()
    except StoreError:
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if is_killed:
            # What is not kept is lost.
            desk._thread.shutdown()
            desk.ledger.close()
        else:
            with contextlib.suppress(StoreError):
                await desk.close()
    return False


@pytest.mark.parametrize("is_killed", [False, True], ids=["stops", "killed"])
@pytest.mark.parametrize("is_done_first", [False, True], ids=["before", "after"])
async def test_whichever_commit_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_done_first: bool,  # noqa: FBT001 - a parameter of the test
    is_killed: bool,  # noqa: FBT001 - so is this
) -> None:
    power, all_events = Power(monkeypatch), events()
    power.is_done_first = is_done_first
    number, ended = 0, False
    while not ended:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        channel = FileChannel("a", directory, can_look=True)
        power.commits, power.fails_at = 0, number
        lives = 1
        while not await one_life(directory, channel, all_events, is_killed=is_killed):
            lives += 1
            assert lives < 4
        # A run that got by without the failure had no commit of this number.
        ended = power.commits < number
        sent = Counter(one["delivery_id"] for one in channel.sent())
        assert set(sent.values()) == {1}
        found = {one.delivery_id: one.state for one in read_notifications(directory, Wanted(), None)}
        assert {name for name, state in found.items() if state == "acknowledged"} == set(sent)
        subjects = [one["subject"] for one in channel.sent()]
        # The first is told and changed, or was over before it was tried, as it happens.
        assert sorted(subjects)[-2:] == ["shop: 2 Login is blocked", "shop: 3 Login is blocked"]
        assert len(found) == 4
    assert number > 8
