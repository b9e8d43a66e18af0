"""A gateway in this process, its log alone, and a client for its HTTP side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiohttp
import pytest
from tests.support.ports import reserved

from huskies import config, logs
from huskies.config import GatewaySettings
from huskies.errors import StoreError
from huskies.events.model import RelayedEvent, StoredStoryBlocked
from huskies.gateway.server import Gateway
from huskies.gateway.store.appends import Append
from huskies.gateway.store.blocks import Block, Stream
from huskies.gateway.store.history import History
from huskies.gateway.store.index import Index, IndexReader, rows_of
from huskies.gateway.store.log import Log

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def _nothing_left_from_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_registered", set())
    monkeypatch.setattr(config, "_warned", set())


class Eventually(Protocol):
    async def __call__(self, holds: Callable[[], Awaitable[object] | object]) -> None: ...


async def until(holds: Callable[[], Awaitable[object] | object]) -> None:
    """Wait until a condition holds, or fail after `PATIENCE`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            held = holds()
            if await held if isinstance(held, Awaitable) else held:
                return
            await asyncio.sleep(0.005)


@pytest.fixture
def eventually() -> Eventually:
    return until


# --- the log alone -----------------------------------------------------------------------------------


def stored(reason: str, story_id: str = "1_bug_x", timestamp_ms: int = 1) -> RelayedEvent:
    return StoredStoryBlocked(story_id=story_id, reason=reason, timestamp_ms=timestamp_ms)


class Owner:
    """Keeps what it is told of its appends."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.batches = 0

    def on_committed(self, last_seq: int, batches: int, events: int) -> None:  # noqa: ARG002 - AppendOwner's
        self.told.append(("ack", last_seq))
        self.batches += batches

    def on_gap(self, expected: int, batches: int, events: int) -> None:  # noqa: ARG002 - AppendOwner's
        self.told.append(("gap", expected))
        self.batches += batches

    def on_conflict(self, seq: int, batches: int, events: int) -> None:  # noqa: ARG002 - AppendOwner's
        self.told.append(("conflict", seq))
        self.batches += batches


class OpenLog:
    """A log with what it published."""

    def __init__(self, directory: Path) -> None:
        self.index = Index(directory)
        self._lookup = IndexReader(self.index)
        self.published: list[Block] = []
        self.failures: list[StoreError] = []
        self.log = Log(
            directory,
            lookup=self._lookup,
            published=self.published.extend,
            failed=self.failures.append,
            now_ms=lambda: 1_000,
        )
        self.history = History(self.log.path, self.log.log_id, self.index, self.log.streams, self.log.damaged)

    async def admit(self, sled_id: str = "aa", epoch: str = "e1", project: str = "shop") -> Stream:
        admitted = await self.log.admit(sled_id, epoch, project)
        assert not isinstance(admitted, str)
        return admitted[0]

    def append(
        self, stream: Stream, first_seq: int, *events: RelayedEvent, owner: Owner, replayed: int = 0
    ) -> None:
        size = sum(len(event.story_id) + 100 for event in events)
        self.log.append(Append(stream, first_seq, list(events), 1_000, replayed, owner, len(events), size))

    async def settled(self) -> None:
        """Until everything handed over so far is committed and told."""
        async with asyncio.timeout(PATIENCE):
            await self.log.call(lambda _: None)

    def next_block(self) -> None:
        """What is appended next goes into another block."""
        self.log.later(lambda _: None)

    def index_blocks(self, blocks: list[Block]) -> None:
        self.index.write(rows_of(blocks, self.log.streams))

    def held(self) -> list[RelayedEvent]:
        return [event for block in self.published for event in block.events()]

    async def close(self) -> None:
        await self.log.stop()
        self.history.close()
        self._lookup.close()
        self.index.close()


class OpenLogs(Protocol):
    async def __call__(self, name: str = "data") -> OpenLog: ...


@pytest.fixture
async def open_log(tmp_path: Path) -> AsyncIterator[OpenLogs]:
    """Opens the log of the test's directory; one that was closed may be opened again."""
    opened: list[OpenLog] = []

    async def open_one(name: str = "data") -> OpenLog:
        (tmp_path / name).mkdir(exist_ok=True)
        opened.append(OpenLog(tmp_path / name))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


# --- a whole gateway ---------------------------------------------------------------------------------


class StartGateway(Protocol):
    async def __call__(
        self,
        *,
        projects: str = ...,
        host: str = ...,
        port: int = ...,
        slow_after: float = ...,
        name: str = ...,
        peers: Sequence[str] = ...,
        retain_ms: int | None = ...,
        quota_bytes: int | None = ...,
    ) -> Gateway: ...


@asynccontextmanager
async def starting(tmp_path: Path) -> AsyncIterator[StartGateway]:
    """Starts gateways on any free port; `projects` is written to projects.toml first.

    A gateway that was stopped may be started again on its port: nobody else gets it meanwhile.
    """
    started: list[Gateway] = []
    ports = ExitStack()

    async def start_one(
        *,
        projects: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        slow_after: float = 10.0,
        name: str = "gw",
        peers: Sequence[str] = (),
        retain_ms: int | None = None,
        quota_bytes: int | None = None,
    ) -> Gateway:
        directory = tmp_path / name
        if projects:
            directory.mkdir(exist_ok=True)
            path = directory / "projects.toml"
            path.write_text(projects)
            path.chmod(0o600)
        settings = GatewaySettings(
            host=host,
            port=port or ports.enter_context(reserved()),
            data_dir=directory,
            peers=tuple(peers),
            retain_ms=retain_ms,
            quota_bytes=quota_bytes,
        )
        gateway = Gateway(settings, slow_after=slow_after)
        await gateway.start()
        started.append(gateway)
        return gateway

    try:
        yield start_one
    finally:
        for gateway in started:
            await stop(gateway)
        ports.close()


@pytest.fixture
async def start_gateway(tmp_path: Path) -> AsyncIterator[StartGateway]:
    async with starting(tmp_path) as start_one:
        yield start_one


async def stop(gateway: Gateway) -> None:
    """Stop a gateway once, however often it is asked for."""
    if gateway.url:
        gateway.url = ""
        await gateway.stop()


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Http(Protocol):
    async def __call__(
        self, url: str, *, method: str = ..., headers: Mapping[str, str] | None = ..., **query: Any
    ) -> Answer: ...


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    """One request; the body is decoded where it is JSON."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:

        async def ask(
            url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, **query: Any
        ) -> Answer:
            async with session.request(method, url, params=query, headers=headers) as response:
                json_body = response.content_type == "application/json"
                body = await (response.json() if json_body else response.text())
                return Answer(response.status, body, response.headers)

        yield ask
