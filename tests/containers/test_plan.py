from __future__ import annotations

import shlex
import subprocess
import sys
import zipfile
from functools import partial
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from huskies.containers import wheels
from huskies.containers.plan import (
    Ports,
    create_request,
    is_this_machine,
    make_plan,
    run_arguments,
    url_for_container,
)
from huskies.containers.undo import Undo
from huskies.containers.wanted import STACKS, Wanted

IMAGES = Path(str(resources.files("huskies.containers"))) / "images"


def request(url: str = "http://127.0.0.1:3000", address: str = "127.0.0.1", **wanted: Any) -> dict[str, Any]:
    plan = make_plan(
        Wanted(name="web-shop", **wanted),
        image="huskies-base:1",
        directory="/srv/web-shop",
        gateway_url=url,
        sled_token="husky_s",
        ports=Ports(address, 40_001, 40_002),
    )
    return create_request(plan)


@pytest.mark.parametrize(
    ("url", "inside", "via_host"),
    [
        ("http://127.0.0.1:3000", "http://host.docker.internal:3000", True),
        ("http://localhost:3000/huskies", "http://host.docker.internal:3000/huskies", True),
        ("https://[::1]", "https://host.docker.internal", True),
        ("ws://0.0.0.0:80", "ws://host.docker.internal:80", True),
        ("http://[::]:3000", "http://host.docker.internal:3000", True),
        ("http://127.9.9.9:1", "http://host.docker.internal:1", True),
        ("https://gateway.example", "https://gateway.example", False),
        ("http://192.0.2.1:3000", "http://192.0.2.1:3000", False),
    ],
)
def test_the_url_by_which_a_container_reaches_a_gateway(url: str, inside: str, via_host: bool) -> None:  # noqa: FBT001
    assert url_for_container(url) == (inside, via_host)
    assert is_this_machine(url) == via_host
    made = request(url)
    assert f"HUSKIES_GATEWAY_URL={inside}" in made["Env"]
    assert ("ExtraHosts" in made["HostConfig"]) == via_host


def test_what_is_asked_of_an_engine() -> None:
    made = request(memory="1g", cpus=1.5, git_name="Ann", ssh_key="ssh-ed25519 A\n")
    host = made["HostConfig"]
    assert made["Env"] == [
        "HUSKIES_GATEWAY_URL=http://host.docker.internal:3000",
        "HUSKIES_NAME=web-shop",
        "HUSKIES_SLED_TOKEN=husky_s",
        "HUSKIES_GIT_NAME=Ann",
        "HUSKIES_SSH_KEY=ssh-ed25519 A",
    ]
    assert host["PortBindings"] == {
        "3001/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40001"}],
        "2222/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40002"}],
    }
    assert (host["Memory"], host["NanoCpus"]) == (1 << 30, 1_500_000_000)
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert "Privileged" not in host
    assert "docker.sock" not in str(made)
    assert [mount["Source"] for mount in host["Mounts"]] == ["/srv/web-shop"]


def test_the_line_of_docker_run() -> None:
    line = shlex.join(
        run_arguments("huskies-web-shop", request("https://gateway.example", "::1", git_name="A 'B'"))
    )
    assert line.startswith("docker run -d --name huskies-web-shop ")
    assert line.endswith(" huskies-base:1")
    assert " -e HUSKIES_GATEWAY_URL=https://gateway.example " in line
    assert """ -e 'HUSKIES_GIT_NAME=A '"'"'B'"'"'' """ in line
    assert " -p '[::1]:40001:3001/tcp' " in line
    assert " --cpus 2 " in line
    assert "--add-host" not in line
    assert "--privileged" not in line


def test_every_stack_has_its_image() -> None:
    assert {path.suffix[1:] for path in IMAGES.glob("Dockerfile.*")} == set(STACKS)
    for path in IMAGES.glob("*.sh"):
        subprocess.run(["bash", "-n", path], check=True)
    for path in IMAGES.glob("Dockerfile.*"):
        text = path.read_text()
        assert "ARG BASE_IMAGE=" in text
        # Whatever a step of the build does as root, the container is someone else's.
        assert [line for line in text.splitlines() if line.startswith("USER ")][-1] == "USER dev"


def test_this_installation_as_wheels(tmp_path: Path) -> None:
    own = wheels.own_wheel()
    assert own == wheels.own_wheel()
    names = zipfile.ZipFile(BytesIO(own.content)).namelist()
    assert {"huskies/gateway/static/index.html", "huskies/containers/images/Dockerfile.base"} < set(names)
    assert not [name for name in names if "__pycache__" in name]
    (tmp_path / own.name).write_bytes(own.content)
    for wheel in wheels.dependency_wheels():
        if wheel.name.startswith(("msgspec-", "click-")):
            (tmp_path / wheel.name).write_bytes(wheel.content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*pip, str(tmp_path / "lib"), *map(str, tmp_path.glob("*.whl"))], check=True)
    assert (tmp_path / "lib/huskies/py.typed").exists()
    listed = wheels.requirements()
    assert any(line.startswith("aiohttp==") for line in listed)
    # What an extra that is asked for brings, too; and nothing that is there for the tests alone.
    assert any(line.startswith("vodozemac==") for line in listed)
    assert not any(line.startswith(("pytest==", "ruff==")) for line in listed)


def test_a_gateway_that_makes_no_projects_knows_no_engine() -> None:
    program = "import sys, huskies.gateway.server; print({'docker', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


async def test_what_was_made_is_removed_in_the_opposite_order() -> None:
    undo, removed = Undo(), []

    async def remove(what: str) -> None:
        removed.append(what)
        if what == "two":
            raise OSError("in use")

    for what in ("one", "two", "three"):
        undo.add(what, partial(remove, what))
    assert await undo.run() == ("two",)
    assert removed == ["three", "two", "one"]
    assert await undo.run() == ()
