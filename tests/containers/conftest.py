"""A gateway in this process that makes projects with a real engine, and what a test asks of both."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import docker
import pytest
from tests.gateway.conftest import StartGateway, starting
from tests.support.engine import BASE_IMAGE, missing, shared_engine
from tests.support.groups import INTERFACES

from huskies import config, logs
from huskies.containers.engine import Engine
from huskies.containers.images import Images
from huskies.containers.threads import GivenUp
from huskies.gateway.server import Gateway

_Test = TypeVar("_Test", bound=Callable[..., Any])

PATIENCE: Final = 60.0
# Marks, and no call of `skip`, so that what is missing is said in one line. The first that needs the engine
# waits while it is started, and an image is built.
WITH_ENGINE: Final = [
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.timeout(400),
    INTERFACES,
]
PROJECTS: Final = f'# kept as it is\n[containers]\nbase_image = "{BASE_IMAGE}"\n'
_numbers = itertools.count(1)


def with_engine(test: _Test) -> _Test:
    """Marks one test as `WITH_ENGINE`."""
    return reduce(lambda marked, mark: mark(marked), WITH_ENGINE, test)


@pytest.fixture(autouse=True)
def _nothing_left_from_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_registered", set())
    monkeypatch.setattr(config, "_warned", set())


@pytest.fixture(scope="session")
def engine_host(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """DOCKER_HOST of an engine that has an image with this Huskies."""
    own = tmp_path_factory.getbasetemp()
    with shared_engine(own if worker_id == "master" else own.parent) as host:
        before = os.environ.get("DOCKER_HOST")
        os.environ["DOCKER_HOST"] = host
        engine = Engine()
        try:
            Images(engine).ensure("base", BASE_IMAGE, say=lambda _: None, given_up=GivenUp())
        finally:
            engine.close()
            del os.environ["DOCKER_HOST"]
            if before is not None:
                os.environ["DOCKER_HOST"] = before
        yield host


@pytest.fixture
def engine(engine_host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[docker.APIClient]:
    """The engine as someone beside Huskies asks it; what was made in a test is gone after it."""
    monkeypatch.setenv("DOCKER_HOST", engine_host)
    client = docker.APIClient(engine_host, version="auto")
    yield client
    client.close()


@pytest.fixture
def name(engine: docker.APIClient) -> Iterator[str]:
    """A name for a project that no other test has; what the test left of its container goes."""
    one = f"p{os.getpid()}-{next(_numbers)}"
    yield one
    for found in engine.containers(all=True, filters={"name": f"huskies-{one}"}):
        engine.remove_container(found["Id"], force=True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private SSH key, its public half beside it."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", path], check=True)
    return path


@pytest.fixture
async def start_gateway(tmp_path: Path) -> AsyncIterator[StartGateway]:
    async with starting(tmp_path) as start_one:
        yield start_one


@pytest.fixture
async def gateway(start_gateway: StartGateway, engine: docker.APIClient) -> Gateway:
    del engine
    return await start_gateway(projects=PROJECTS)


class Asker:
    """Asks a gateway for projects over HTTP, with a token or without."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.steps: list[str] = []

    async def make(self, gateway: Gateway, name: str, **wanted: Any) -> dict[str, Any]:
        """The last line that comes: with a result, or an error."""
        self.steps = []
        body = {"name": name, **wanted}
        headers = {"Accept": "application/x-ndjson"}
        async with self.session.post(f"{gateway.url}/gateway/projects", json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            last: dict[str, Any] = {}
            async for raw in answer.content:
                last = json.loads(raw)
                if "step" in last:
                    assert last["done"] is False
                    self.steps.append(last["step"])
        return last

    async def result(self, gateway: Gateway, name: str, **wanted: Any) -> dict[str, Any]:
        """As `make`, where it works."""
        last = await self.make(gateway, name, **wanted)
        assert "result" in last, last
        found: dict[str, Any] = last["result"]
        return found

    async def ask(self, method: str, gateway: Gateway, path: str, **options: Any) -> tuple[int, Any]:
        """The status and the JSON, or the text."""
        async with self.session.request(method, f"{gateway.url}{path}", **options) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3 * PATIENCE)) as session:
        yield Asker(session)
