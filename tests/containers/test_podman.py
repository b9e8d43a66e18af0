"""The same with Podman, which serves Docker's API; it runs no health checks here."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from tests.containers.conftest import WITH_ENGINE, Asker
from tests.containers.test_made import in_container
from tests.gateway.conftest import StartGateway
from tests.support.podman import missing, podman

from huskies.containers.images import image_tag

pytestmark = [*WITH_ENGINE, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
NAME = "with-podman"


@pytest.fixture
def client(engine_host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[docker.APIClient]:
    with podman(engine_host, image_tag("base")) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        one = docker.APIClient(host, version="auto")
        yield one
        one.close()


async def test_a_project_is_made_with_podman(
    client: docker.APIClient, start_gateway: StartGateway, asker: Asker
) -> None:
    gateway = await start_gateway()
    # Nothing is built here: Podman has the image from the other engine.
    made = await asker.result(gateway, NAME, image=f"localhost/{image_tag('base')}", memory="512m")
    assert gateway.sessions.state(NAME).connected
    assert gateway.bridge.describe().startswith("the gateway listens for containers on 10.214.")
    host = client.inspect_container(made["container"])["HostConfig"]
    assert (host["Privileged"], host["Memory"], host["PidsLimit"]) == (False, 512 << 20, 4_096)
    output = await in_container(client, NAME, "id -u; grep -hE 'CapBnd|NoNewPrivs' /proc/self/status")
    assert output.splitlines() == ["1000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    _, listed = await asker.ask("GET", gateway, "/gateway/containers")
    assert [(row["name"], row["state"]) for row in listed["containers"]] == [(NAME, "running")]
    path = f"/gateway/projects/{NAME}"
    assert (await asker.ask("POST", gateway, f"{path}/stop"))[1]["state"] == "exited"
    assert (await asker.ask("POST", gateway, f"{path}/start"))[1]["state"] == "running"
    assert "relays to" in (await asker.ask("GET", gateway, f"{path}/logs"))[1]
    assert (await asker.ask("DELETE", gateway, path))[0] == 200
    assert client.containers(all=True) == []
