"""Reading a gateway's stream, from a server that says what a gateway rarely says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.told import NOON

from huskies.errors import GatewayUnreachableError
from huskies.notify.desk import Desk
from huskies.notify.model import Gap
from huskies.notify.notifier import Notifier
from huskies.notify.rules import Rules, default_rules
from huskies.notify.stream import EventSource, Item, RefusedError
from huskies.storage.notifications import Wanted, read_notifications

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huskies.protocol.backoff.BACKOFF_FIRST", 0.01)


class Script:
    """Gives the scripted answers to who asks for the stream, one a connection, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[bytes | int] = []
        self.asked: list[str | None] = []
        self.tokens: list[str | None] = []
        self.board: Any = {"projects": [], "cursor": "a-0"}
        self.over = asyncio.Event()
        self.end = asyncio.Event()
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/gateway/events", self._events)
        app.router.add_get("/gateway/projects", self._projects)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Last-Event-ID"))
        self.tokens.append(request.headers.get("Authorization"))
        if not self.answers:
            self.over.set()
            await self.end.wait()
            return web.Response(status=503)
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return web.Response(status=answer, text="no")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(answer)
        return response

    async def _projects(self, _: web.Request) -> web.Response:
        return web.json_response(self.board)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    found = Script()
    runner = await found.start()
    yield found
    found.end.set()
    await runner.cleanup()


class Taken:
    """Keeps what was read."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def take(self, items: list[Item], cursor: str | None) -> None:
        for item in items:
            self.said.append(
                f"gap {item.first}-{item.last}" if isinstance(item, Gap) else f"event {item.seq}"
            )
        self.said.append(f"cursor {cursor}")

    async def reset(self) -> None:
        self.said.append("reset")

    async def connected(self) -> None:
        self.said.append("connected")

    def disconnected(self) -> None:
        self.said.append("disconnected")


def event(seq: int, kind: str = "story_blocked") -> bytes:
    said = {
        "cursor": f"a-{seq}", "project": "shop", "sled_id": "aa", "epoch": "e1", "seq": seq,
        "received_ms": NOON, "replayed": False, "more": 1,
        "event": {"type": kind, "story_id": "1_x", "reason": "x", "timestamp_ms": NOON},
    }  # fmt: skip
    return b"id: a-%d\nevent: status\ndata: %b\n\n" % (seq, json.dumps(said).encode())


def source(script: Script, token: str | None = None) -> EventSource:
    return EventSource(script.url, token=token, trust=lambda: True, chance=lambda: 0.5)


async def read(script: Script, *answers: bytes | int, cursor: str = "a-0") -> list[str]:
    script.answers += answers
    taken = Taken()
    following = asyncio.create_task(source(script, "its-token").follow(cursor, taken))
    ended = asyncio.create_task(script.over.wait())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({following, ended}, return_when=asyncio.FIRST_COMPLETED)
    if following.done():
        following.result()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return taken.said


async def test_it_resumes_behind_the_last_whole_block(script: Script) -> None:
    said = await read(script, event(1) + event(2) + event(3)[:-10], 503, event(3))
    assert script.asked == ["a-0", "a-2", "a-2", "a-3"]
    assert set(script.tokens) == {"Bearer its-token"}
    assert [one for one in said if one.startswith("event")] == ["event 1", "event 2", "event 3"]
    assert said.count("disconnected") == 3
    assert said[-2:] == ["cursor a-3", "disconnected"]


async def test_a_gap_and_a_reset_come_in_their_place(script: Script) -> None:
    gap = b'id: a-5\nevent: gap\ndata: {"from": 3, "to": 5}\n\n'
    reset = b'id: b-0\nevent: reset\ndata: {"reason": "another log"}\n\n'
    said = await read(script, event(1) + gap + event(6) + reset + event(1))
    kept = [one for one in said if not one.endswith("connected") and not one.startswith("cursor")]
    assert kept == ["event 1", "gap 3-5", "event 6", "reset", "event 1"]
    # What is before the reset is no place to resume in the other log.
    assert said[said.index("reset") - 1] == "cursor None"


async def test_what_is_unknown_is_passed_over_and_said(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    said = await read(script, event(1, "sled_melted") + b"event: status\ndata: {\n\n" + event(2))
    assert [one for one in said if one.startswith("event")] == ["event 2"]
    assert len([one for one in caplog.messages if "unknown here is passed over" in one]) == 2


async def test_a_gateway_that_is_away_is_said_once(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await read(script, 503, 502, 500, event(1), 503)
    said = [one for one in caplog.messages if "not to be had" in one or "come again" in one]
    assert said == [
        "the gateway's events are not to be had: it answered 503",
        "the gateway's events come again",
        "the gateway's events are not to be had: it ended the stream",
    ]


async def test_who_is_refused_is_so_again_and_ends(script: Script) -> None:
    with pytest.raises(RefusedError, match=r"answered 403: no; set HUSKIES_TOKEN to a token that reads"):
        await read(script, 403)


@pytest.mark.parametrize("board", [[], {"projects": [{}]}, {"projects": []}])
async def test_a_board_that_is_none_is_no_board(script: Script, board: Any) -> None:
    script.board = board
    with pytest.raises(GatewayUnreachableError, match="its answer is unknown here"):
        await source(script).board()


async def test_heads_are_not_needed(script: Script) -> None:
    # It has no digests to tell: 404.
    with pytest.raises(GatewayUnreachableError):
        await source(script).heads()


async def test_a_gap_is_told_with_what_the_board_shows(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huskies.notify.collecting.GAP_REST_MS", 0)
    monkeypatch.setattr("huskies.notify.notifier.TICK_INTERVAL", 0.02)
    story = {"story_id": "7_bug_z", "story_name": "Z", "blocked": "why", "blocked_since_ms": NOON}
    script.board = {"projects": [{"name": "shop", "stories": [story]}], "cursor": "a-5"}
    script.answers.append(b'id: a-5\nevent: gap\ndata: {"from": 3, "to": 5}\n\n')
    desk = Desk(tmp_path, Rules(default_rules(["a"]), zone=None), now_ms=lambda: NOON)
    desk.cursor = "a-2"
    notifier = Notifier(desk, source(script), {}, doubtful={})
    monkeypatch.setattr(Notifier, "_fail_lost", _nothing)
    await notifier.start()
    await until(lambda: bool(read_notifications(tmp_path, Wanted(), None)))
    await until(lambda: "7 Z" in " ".join(one.text for one in read_notifications(tmp_path, Wanted(), None)))
    texts = [one.text for one in read_notifications(tmp_path, Wanted(), None)]
    assert any("positions 3 to 5 of the log are kept no more, or damaged" in text for text in texts)
    await notifier.stop()


async def _nothing(_: Notifier) -> None:
    """Whoever is told has no courier here."""


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)
