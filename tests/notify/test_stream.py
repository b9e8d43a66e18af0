"""Reading a gateway's stream, from a server that says what a gateway rarely says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.gateway.conftest import until
from tests.support.scripted_gateway import Script, event

from huskies.errors import ConfigError, GatewayUnreachableError
from huskies.notify.model import Gap
from huskies.notify.stream import EventSource, Item, RefusedError
from huskies.tls import Trust

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huskies.protocol.backoff.BACKOFF_FIRST", 0.01)


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


async def test_a_certificate_that_is_half_written_is_a_gateway_that_is_away_for_a_moment(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = [ConfigError("chain.pem", "expected a certificate in PEM")] * 3

    def trust() -> Trust:
        if wrong:
            raise wrong.pop()
        return True

    reader = EventSource(script.url, token=None, trust=trust, chance=lambda: 0.5)
    with pytest.raises(GatewayUnreachableError, match=r"chain\.pem: expected a certificate"):
        await reader.board()
    script.answers = [event(1)]
    taker = Taken()
    following = asyncio.create_task(reader.follow("a-0", taker))
    await until(lambda: "event 1" in taker.said)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert "expected a certificate in PEM" in caplog.text
    assert wrong == []


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
