"""What goes wrong on the way leaves nothing behind, or names it; and a second try works."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp
import docker
import pytest
from tests.containers.conftest import WITH_ENGINE, Asker
from tests.gateway.conftest import Eventually, StartGateway, stop, until
from tests.support.engine import until as engine_until

from huskies.containers import launch
from huskies.containers.engine import Engine
from huskies.containers.errors import EngineError
from huskies.containers.images import image_tag
from huskies.containers.plan import Ports
from huskies.containers.threads import GivenUp
from huskies.gateway.server import Gateway

pytestmark = WITH_ENGINE


@pytest.fixture
def eventually() -> Eventually:
    return until


def nothing_left(gateway: Gateway, engine: docker.APIClient, name: str) -> bool:
    """No container, no token, no entry, no directory."""
    directory = gateway._making.settings().directory / name
    return not (
        engine.containers(all=True, filters={"name": f"huskies-{name}"})
        or gateway.guard.takes_tokens(name)
        or name in gateway.policy().projects
        or directory.exists()
    )


async def test_a_name_that_is_taken(
    start_gateway: StartGateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    gateway = await start_gateway(projects='[projects.web-shop]\nurl = "http://web-shop:3001"\n')
    path = "/gateway/projects"
    assert await asker.ask("POST", gateway, path, json={"name": "web-shop"}) == (
        409,
        {"error": "there is a project web-shop already: it stands in projects.toml", "left": []},
    )
    # A container that is not ours is left alone, whoever asks.
    made = engine.create_container(image_tag("base"), name=f"huskies-{name}")
    status, body = await asker.ask("POST", gateway, path, json={"name": name})
    assert status == 409
    assert f"there is a container huskies-{name} already: take another name" in body["error"]
    assert (await asker.ask("DELETE", gateway, f"{path}/{name}"))[0] == 404
    assert engine.inspect_container(made["Id"])["Id"] == made["Id"]
    assert not (gateway._making.settings().directory / name).exists()


async def test_of_two_at_once_one_wins(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    asks = [asker.ask("POST", gateway, "/gateway/projects", json={"name": name}) for _ in range(2)]
    found = sorted(await asyncio.gather(*asks), key=lambda each: each[0])
    assert [status for status, _ in found] == [201, 409]
    assert found[0][1]["name"] == name
    assert len(engine.containers(filters={"name": f"huskies-{name}"})) == 1


async def test_an_engine_that_does_not_answer(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/d.sock")
    status, body = await asker.ask("POST", gateway, "/gateway/projects", json={"name": name})
    assert status == 503
    assert body["error"].startswith("no container engine answers at unix:///nowhere/d.sock: No such file")
    assert "DOCKER_HOST" in body["error"]
    assert nothing_left(gateway, engine, name)
    for method, path in (("GET", "/gateway/containers"), ("DELETE", f"/gateway/projects/{name}")):
        assert (await asker.ask(method, gateway, path))[0] == 503


async def test_an_image_that_is_not_there(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    last = await asker.make(gateway, name, image="no-such-image:1")
    assert last["error"].startswith("there is no image no-such-image:1 here")
    assert last["left"] == []
    assert nothing_left(gateway, engine, name)
    assert (await asker.result(gateway, name))["name"] == name


async def test_a_base_image_that_cannot_be_had(
    start_gateway: StartGateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    # No pull is tried for a name that no registry can have.
    gateway = await start_gateway(projects='[containers]\nbase_image = "scratch"\n')
    status, body = await asker.ask("POST", gateway, "/gateway/projects", json={"name": name})
    assert status == 502
    assert body["error"].startswith(f"image {image_tag('base')} was not built: ")
    assert nothing_left(gateway, engine, name)


def test_a_build_that_is_given_up_ends_at_once(engine: docker.APIClient) -> None:
    steps: queue.SimpleQueue[str] = queue.SimpleQueue()
    given_up, own, context = GivenUp(), Engine(), BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        # Nothing is said meanwhile.
        text = b"FROM huskies-tests-debian\nRUN sleep 1234\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, BytesIO(text))
    context.seek(0)

    def build() -> None:
        own.build(
            context,
            tag="huskies-never:1",
            file="Dockerfile",
            arguments={},
            labels={},
            say=steps.put,
            given_up=given_up,
        )

    def sleeps() -> bool:
        return any("sleep 1234" in str(row["Command"]) for row in engine.containers())

    with ThreadPoolExecutor() as threads:
        building = threads.submit(build)
        while "sleep" not in steps.get(timeout=60):
            pass
        engine_until(sleeps, "it sleeps")
        given_up.set()
        with pytest.raises(EngineError):
            building.result(timeout=20)
    own.close()
    engine_until(lambda: not sleeps(), "the engine gave it up")
    assert engine.images("huskies-never") == []


async def test_ports_that_someone_takes_meanwhile(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tries = launch.free_ports, []

    def taken_at_first(address: str) -> Ports:
        ports = found(address)
        tries.append(ports)
        return Ports(address, used, ports.ssh) if len(tries) < 3 else ports

    with socket.socket() as someone:
        someone.bind(("127.0.0.1", 0))
        someone.listen()
        used = someone.getsockname()[1]
        monkeypatch.setattr(launch, "free_ports", taken_at_first)
        made = await asker.result(gateway, name)
        assert len(tries) == 3
        assert made["url"] != f"http://127.0.0.1:{used}"
        tries.clear()
        monkeypatch.setattr(launch, "free_ports", lambda address: Ports(address, used, found(address).ssh))
        last = await asker.make(gateway, f"{name}-b")
    assert f"a port for container huskies-{name}-b is in use" in last["error"]
    assert nothing_left(gateway, engine, f"{name}-b")


async def test_a_container_that_does_not_stay_up(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    # An image that is none of ours: what it runs ends at once.
    last = await asker.make(gateway, name, image="huskies-tests-debian")
    assert "could not start container" in last["error"] or "No command" in last["error"]
    assert nothing_left(gateway, engine, name)


async def test_a_sled_that_does_not_connect_in_time(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    gateway.new_projects.launcher.connect_limit = 4.0
    # RFC 5737 gives this address to nobody.
    last = await asker.make(gateway, name, gateway_url="http://192.0.2.77:9")
    assert f"the sled of {name} did not connect within 4 s" in last["error"]
    assert "the gateway listens for containers on " in last["error"]
    assert "its log ends: " in last["error"]
    assert nothing_left(gateway, engine, name)


async def test_whoever_asked_leaves(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, eventually: Eventually
) -> None:
    body = {"name": name, "gateway_url": "http://192.0.2.77:9"}
    headers = {"Accept": "application/x-ndjson"}
    url = f"{gateway.url}/gateway/projects"
    async with asker.session.post(url, json=body, headers=headers) as answer:
        async for raw in answer.content:
            if json.loads(raw)["step"] == "sled":
                break
        assert not nothing_left(gateway, engine, name)
        answer.close()
    await eventually(lambda: name not in gateway.new_projects.launcher._under_way)
    assert nothing_left(gateway, engine, name)
    assert (await asker.result(gateway, name))["name"] == name


async def test_a_gateway_that_stops_gives_up_what_it_makes(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    body = {"name": name, "gateway_url": "http://192.0.2.77:9"}
    asking = asyncio.create_task(asker.ask("POST", gateway, "/gateway/projects", json=body))
    async with asyncio.timeout(60):
        while not engine.containers(filters={"name": f"huskies-{name}", "status": "running"}):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    directory = gateway._making.settings().directory / name
    await stop(gateway)
    # On a machine that is too slow for it, the answer is cut off, and the rest is done all the same.
    with suppress(aiohttp.ClientError):
        status, answer = await asking
        assert (status, answer["left"]) == (502, [])
    await until(lambda: not engine.containers(all=True, filters={"name": f"huskies-{name}"}))
    await until(lambda: not directory.exists())


async def test_what_cannot_be_removed_is_named(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(container: str) -> bool:
        raise EngineError(f"the engine could not remove container {container}")

    removes = gateway.new_projects._engine.remove
    monkeypatch.setattr(gateway.new_projects._engine, "remove", fails)
    gateway.new_projects.launcher.connect_limit = 0.1
    last = await asker.make(gateway, name, gateway_url="http://192.0.2.77:9")
    assert last["left"] == [f"container huskies-{name}"]
    monkeypatch.setattr(gateway.new_projects._engine, "remove", removes)
    status, body = await asker.ask("DELETE", gateway, f"/gateway/projects/{name}")
    assert (status, body) == (200, {"removed": [f"container huskies-{name}"]})
    assert nothing_left(gateway, engine, name)


# --- repositories --------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A repository with a story in it, to be cloned by HTTP; `/private` asks for a password."""
    source = tmp_path / "source"
    story = source / ".huskies/work/3_qa/7_bug_x.md"
    story.parent.mkdir(parents=True)
    story.write_text("# X\n")
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@team.example"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, tmp_path / "web/shop.git"], check=True)
    subprocess.run(["git", "-C", tmp_path / "web/shop.git", "update-server-info"], check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "web")) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_repository_is_cloned(
    gateway: Gateway, asker: Asker, name: str, served: str, eventually: Eventually
) -> None:
    made = await asker.result(gateway, name, git=f"{served}/shop.git")
    assert (Path(made["directory"]) / ".huskies/work/3_qa/7_bug_x.md").exists()

    def shown() -> list[str]:
        views = [view for view in gateway.project_views() if view.name == name]
        return [story.story_id for view in views for story in view.stories]

    await eventually(lambda: shown() == ["7_bug_x"])


async def test_a_clone_that_is_refused(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, served: str
) -> None:
    status, body = await asker.ask(
        "POST", gateway, "/gateway/projects", json={"name": name, "git": f"{served}/none.git"}
    )
    assert status == 502
    assert body["error"].startswith("git clone failed: fatal: repository ")
    assert nothing_left(gateway, engine, name)
    # Where something stands already, nothing is cloned into it.
    directory = gateway._making.settings().directory / name
    directory.mkdir(parents=True)
    (directory / "mine").touch()
    body = {"name": name, "git": f"{served}/shop.git"}
    status, answer = await asker.ask("POST", gateway, "/gateway/projects", json=body)
    assert status == 409
    assert "is there and not empty" in answer["error"]
    assert [each.name for each in directory.iterdir()] == ["mine"]
