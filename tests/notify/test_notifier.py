"""The notifier: what its two questions, the stream and the board, say together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import until
from tests.support.scripted_gateway import Script, event
from tests.support.told import HELD_UP, HOUR, MINUTE, NOON, Teller, blocked

from huskies.notify.desk import Desk
from huskies.notify.notifier import Notifier
from huskies.notify.rules import Escalation, Rule, Rules
from huskies.notify.stream import EventSource
from huskies.storage.notifications import Wanted, read_notifications

PATIENCE = 20.0
STEPS = (Escalation(30 * MINUTE, "phone"),)
RULE = Rule(events=HELD_UP, channels=("a",), escalate=STEPS)
MOVE = {"from_stage": "2_current", "to_stage": "3_qa"}


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huskies.protocol.backoff.BACKOFF_FIRST", 0.01)
    monkeypatch.setattr("huskies.notify.collecting.GAP_REST_MS", 0)
    monkeypatch.setattr("huskies.notify.notifier.TICK_INTERVAL", 0.02)
    monkeypatch.setattr("huskies.notify.notifier._ASK_PAUSE", 0.02)
    monkeypatch.setattr("huskies.notify.footing.REST", 0.2)
    # Whoever is told has no courier here.
    monkeypatch.setattr(Notifier, "_fail_lost", _nothing)


async def _nothing(_: Notifier) -> None:
    pass


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    found = Script()
    found.stays = True
    runner = await found.start()
    yield found
    found.end.set()
    await runner.cleanup()


def desk_in(directory: Path, now_ms: int) -> Desk:
    return Desk(directory, Rules((RULE,), zone=None), now_ms=lambda: now_ms)


@asynccontextmanager
async def notifying(script: Script, desk: Desk) -> AsyncIterator[Notifier]:
    source = EventSource(script.url, token=None, trust=lambda: True, chance=lambda: 0.5)
    notifier = Notifier(desk, source, {}, doubtful={})
    await notifier.start()
    try:
        yield notifier
    finally:
        await notifier.stop()


def told(directory: Path) -> list[str]:
    found = read_notifications(directory, Wanted(), None)[::-1]
    return [f"{one.channel}: {one.subject}" for one in found if one.state == "queued"]


def board(*stories: dict[str, Any]) -> dict[str, Any]:
    return {"projects": [{"name": "shop", "stories": list(stories)}], "cursor": "a-5"}


def shown(story: str, reason: str = "why", since_ms: int = NOON) -> dict[str, Any]:
    return {"story_id": story, "story_name": "Z", "blocked": reason, "blocked_since_ms": since_ms}


async def left_blocked(directory: Path) -> None:
    """An earlier process told of a block, and ended."""
    desk = desk_in(directory, NOON)
    await desk.take([Teller().received(blocked("1_x"))], "a-1")
    await desk.close()


async def test_a_gap_is_told_with_what_the_board_shows(script: Script, tmp_path: Path) -> None:
    script.board = board(shown("7_bug_z"))
    script.answers.append(b'id: a-5\nevent: gap\ndata: {"from": 3, "to": 5}\n\n')
    desk = desk_in(tmp_path, NOON)
    desk.cursor = "a-2"
    async with notifying(script, desk):
        await until(lambda: bool(told(tmp_path)))
    [found] = read_notifications(tmp_path, Wanted(), None)
    assert "positions 3 to 5 of the log are kept no more, or damaged" in found.text
    assert "7 Z" in found.text


async def test_an_escalation_that_is_overdue_after_a_start_waits_for_what_was_missed(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.notify.footing.REST", HOUR)
    await left_blocked(tmp_path)
    script.board = board(shown("1_x"))
    script.answers.append(b"id: a-1\n\n")
    async with notifying(script, desk_in(tmp_path, NOON + HOUR)) as notifier:
        await until(lambda: script.stream is not None)
        assert script.stream is not None
        for _ in range(3):
            await notifier._decide()
        # Not before the stream has come to rest, and what ended the block comes before that.
        assert script.boards == 0
        await script.stream.write(event(2, "stage_transition", **MOVE))
        await until(lambda: not len(notifier.desk._core.state.problems))
        monkeypatch.setattr("huskies.notify.footing.REST", 0)
        await until(lambda: notifier._footing._has_asked)
        await notifier._decide()
    assert read_notifications(tmp_path, Wanted(channel="phone"), None) == []


async def test_the_board_calls_off_an_escalation_that_is_overdue_after_a_start(
    script: Script, tmp_path: Path
) -> None:
    await left_blocked(tmp_path)
    script.board = board()
    script.answers.append(b"id: a-1\n\n")
    async with notifying(script, desk_in(tmp_path, NOON + HOUR)) as notifier:
        await until(lambda: script.boards >= 1)
        await until(lambda: notifier._footing._has_asked)
        await notifier._decide()
    assert read_notifications(tmp_path, Wanted(channel="phone"), None) == []


async def test_an_escalation_that_is_needed_is_told_after_a_start(script: Script, tmp_path: Path) -> None:
    await left_blocked(tmp_path)
    script.board = board(shown("1_x"))
    script.answers.append(b"id: a-1\n\n")
    async with notifying(script, desk_in(tmp_path, NOON + HOUR)):
        await until(lambda: len(told(tmp_path)) == 2)
    assert told(tmp_path)[1] == "phone: shop: 1 Login is still blocked after 1 h"


async def test_a_gateway_that_is_away_holds_no_escalation_up_for_ever(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.notify.footing.LONGEST", 0.3)
    await left_blocked(tmp_path)
    script.board = []
    async with notifying(script, desk_in(tmp_path, NOON + HOUR)):
        await until(lambda: len(told(tmp_path)) == 2)


async def test_what_the_board_alone_shows_is_told_though_nothing_is_known_to_be_held_up(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_COMPARE_INTERVAL", "_CONFIRM_INTERVAL"):
        monkeypatch.setattr(f"huskies.notify.notifier.{name}", 0.05)
    monkeypatch.setattr("huskies.notify.notifier._SHARE_OF_TIME", 1)
    script.board = board()
    script.answers.append(b"id: a-1\n\n")
    desk = desk_in(tmp_path, NOON)
    desk.cursor = "a-1"
    async with notifying(script, desk):
        await until(lambda: script.boards >= 2)
        script.board = board(shown("7_bug_z"))
        await until(lambda: bool(told(tmp_path)))
    assert told(tmp_path) == ["a: shop: 7 Z is blocked"]


async def test_a_fleet_whose_board_takes_long_is_asked_for_it_less(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.board = board()
    desk = desk_in(tmp_path, NOON)
    desk.cursor = "a-1"
    async with notifying(script, desk) as notifier:
        with monkeypatch.context() as quick:
            # Whatever a busy machine takes for it counts as a moment.
            quick.setattr("huskies.notify.notifier._SHARE_OF_TIME", 1)
            assert await notifier._compare() == 60
        script.board = board(shown("7_bug_z"))
        script.board_waits = 0.2
        assert 20 <= await notifier._compare() <= 600
