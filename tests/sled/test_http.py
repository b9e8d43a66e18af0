from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from huskies import limits
from huskies.config import SledSettings
from huskies.errors import ConfigError
from huskies.events.model import RateLimitWarning, StoryBlocked
from huskies.sled.service import Sled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TRANSITION = {"type": "stage_transition", "story_id": "s", "from_stage": "2_current", "to_stage": "3_qa"}


@pytest.fixture
async def sled(tmp_path: Path) -> AsyncIterator[Sled]:
    sled = Sled(SledSettings(project_dir=tmp_path, name="shop", port=0))
    await sled.start()
    yield sled
    await sled.stop()


@pytest.fixture
async def client(sled: Sled) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sled.url) as client:
        yield client


async def answer(request: Any) -> tuple[int, Any]:
    async with request as response:
        return response.status, await response.json()


async def test_publishing_answers_once_it_is_durable(sled: Sled, client: aiohttp.ClientSession) -> None:
    with sled.broadcaster.subscribe() as subscription:
        status, body = await answer(client.post("/api/events", json=TRANSITION))
        assert status == 201
        assert (body["sled_id"], body["seq"]) == (sled.sled_id, 1)
        assert (await anext(subscription)).story_id == "s"  # type: ignore[union-attr]
    _, events = await answer(client.get("/api/events"))
    timestamp_ms = events[0].pop("timestamp_ms")
    assert events == [{**TRANSITION, "story_name": ""}]
    assert (await answer(client.get("/api/events", params={"since": timestamp_ms})))[1] != []
    assert (await answer(client.get("/api/events", params={"since": timestamp_ms + 1})))[1] == []


async def test_a_rate_limit_is_accepted_without_a_seq(sled: Sled, client: aiohttp.ClientSession) -> None:
    event = {"type": "rate_limit_warning", "story_id": "s", "agent_name": "coder"}
    status, body = await answer(client.post("/api/events", json=event))
    assert (status, body["seq"]) == (201, None)
    assert (await answer(client.get("/api/events")))[1] == []
    receipt = await sled.broadcaster.publish(RateLimitWarning(story_id="s", agent_name="coder"))
    assert receipt is not None
    assert receipt.seq is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "truncated"),
        (b"{", ""),
        (b"\xff", ""),
        (b"[]", "object"),
        (b"[" * 100_000, ""),
        (b'{"type":"nothing","story_id":"s"}', "nothing"),
        (b'{"type":"story_blocked","story_id":"s"}', "reason"),
        (
            b'{"type":"story_blocked","story_id":"","reason":"x"}',
            "story_id: expected a text that is not empty",
        ),
        (b'{"type":"StoryBlocked","story_id":"s","reason":"x"}', "StoryBlocked"),
        (
            b'{"type":"stage_transition","story_id":"s","from_stage":"qa","to_stage":"3_qa"}',
            "expected one of 1_backlog",
        ),
    ],
)
async def test_what_is_no_event_is_refused(client: aiohttp.ClientSession, body: bytes, problem: str) -> None:
    status, said = await answer(client.post("/api/events", data=body))
    assert status == 422
    assert problem in said["error"]
    assert not set("`$") & set(said["error"].replace("`qa`", "qa"))


async def test_a_body_that_is_too_large(client: aiohttp.ClientSession) -> None:
    status, said = await answer(client.post("/api/events", data=b"x" * (limits.EVENT_BODY_BYTES_MAX + 1)))
    assert status == 422
    assert said["error"]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("http://[broken", 403),
        (None, 201),
        ("own", 201),
    ],
)
async def test_requests_from_another_origin(
    sled: Sled, client: aiohttp.ClientSession, origin: str | None, expected: int
) -> None:
    headers = {} if origin is None else {"Origin": sled.url if origin == "own" else origin}
    assert (await answer(client.post("/api/events", json=TRANSITION, headers=headers)))[0] == expected


@pytest.mark.parametrize("since", ["x", "-1", "1.5", "9" * 40, "\u0661"])
async def test_a_since_that_is_no_time(client: aiohttp.ClientSession, since: str) -> None:
    assert (await answer(client.get("/api/events", params={"since": since})))[0] == 422


async def test_health(sled: Sled, client: aiohttp.ClientSession) -> None:
    await sled.broadcaster.publish(StoryBlocked(story_id="s", reason="x"))
    status, said = await answer(client.get("/healthz"))
    assert status == 200
    assert said.pop("epoch")
    assert said == {
        "status": "ok",
        "name": "shop",
        "sled_id": sled.sled_id,
        "relay": "off",
        "gateway": None,
        "protocol": None,
        "last_seq": 1,
        "unacked": 1,
        "set_aside": 0,
        "last_error": None,
    }


async def test_other_paths_and_methods(client: aiohttp.ClientSession) -> None:
    assert (await answer(client.get("/nothing")))[0] == 404
    assert (await answer(client.delete("/api/events")))[0] == 405


async def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sled = Sled(SledSettings(project_dir=tmp_path, port=port))
        with pytest.raises(ConfigError, match=f"{port} is in use"):
            await sled.start()
    again = Sled(SledSettings(project_dir=tmp_path, port=0))
    await again.start()
    await again.stop()
