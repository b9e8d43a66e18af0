"""What `docker run` is shown to do is what the engine is asked for: real command and real API agree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest
from tests.containers.conftest import WITH_ENGINE

from huskies.containers.engine import Engine
from huskies.containers.images import image_tag
from huskies.containers.launch import free_ports
from huskies.containers.plan import Plan, create_request, make_plan, run_arguments
from huskies.containers.wanted import Wanted

pytestmark = WITH_ENGINE

IMAGE = image_tag("base")
# What the engine writes down of how a container was made; names, times and places apart.
CONFIG = (
    "Image",
    "Env",
    "Labels",
    "ExposedPorts",
    "Healthcheck",
    "User",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "Volumes",
)


def plan(directory: Path, name: str, url: str, **wanted: Any) -> Plan:
    return make_plan(
        Wanted(name=name, **wanted),
        image=IMAGE,
        directory=str(directory),
        gateway_url=url,
        sled_token="husky_a b'c\"d$e",
        ports=free_ports("127.0.0.1"),
    )


def plans(directory: Path, name: str) -> list[Plan]:
    key = "ssh-ed25519 " + "A" * 68 + " ann's key"
    return [
        plan(directory, name, "http://127.0.0.1:3000"),
        plan(
            directory,
            name,
            "https://gateway.example",
            memory="512m",
            cpus=0.75,
            ssh_key=key,
            git_name="Ann, née $B",
        ),
    ]


def description(engine: docker.APIClient, name: str) -> dict[str, Any]:
    found = engine.inspect_container(f"huskies-{name}")
    config = {key: found["Config"].get(key) for key in CONFIG}
    # The image's own are added to what was asked for, in whatever order.
    config["Env"] = sorted(config["Env"])
    return {"config": config, "host": found["HostConfig"]}


@pytest.mark.parametrize("number", [0, 1])
def test_the_command_and_the_request_make_the_same_container(
    engine: docker.APIClient, name: str, tmp_path: Path, number: int
) -> None:
    made = plans(tmp_path, name)[number]
    request = create_request(made)
    own = Engine()
    own.create(f"huskies-{name}", request)
    asked = description(engine, name)
    engine.remove_container(f"huskies-{name}")
    own.close()
    # With a space as they are, it is all that a shell would have to be told.
    words = run_arguments(f"huskies-{name}", request)
    assert words[:3] == ["docker", "run", "-d"]
    words[1:3] = ["create"]
    path = f"{os.environ['PATH']}:/usr/local/bin:/usr/bin"
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": path})
    shown = description(engine, name)
    assert shown["config"] == asked["config"]
    assert without_defaults(shown["host"]) == without_defaults(asked["host"])


def without_defaults(found: Any) -> Any:
    """What the command says although it is what holds anyway, and an empty list for none."""
    if not isinstance(found, dict):
        return found
    kept = {key: without_defaults(value) for key, value in found.items()}
    return {
        key: value
        for key, value in kept.items()
        if value not in (None, 0, "", [], {}, False, [0, 0], -1, "default")
    }


def test_a_plan_shows_no_secret(tmp_path: Path) -> None:
    made = plan(tmp_path, "web-shop", "http://127.0.0.1:3000")
    assert made.sled_token not in repr(made)
    assert msgspec.structs.replace(made, sled_token="x") != made
