"""`huskies project`, without a gateway and with one that makes real containers; see `tests/containers`."""

from __future__ import annotations

import json
import shlex
import signal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.containers.conftest import PROJECTS, engine, engine_host, key, name, with_engine
from tests.support.engine import until
from tests.support.gateway_process import Gateway

if TYPE_CHECKING:
    import docker
    from tests.cli.conftest import Run, Start

# Fixtures by their names.
__all__ = ["engine", "engine_host", "key", "name"]


def option(words: list[str], flag: str) -> list[str]:
    return [after for word, after in pairwise(words) if word == flag]


def test_a_dry_run_prints_the_command_and_asks_nobody(
    huskies: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/d.sock")
    (tmp_path / ".gitconfig").write_text("[user]\nname = Ann Example\nemail = ann@team.example\n")
    (tmp_path / ".ssh").mkdir()
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHSoOu1mnKl4FqVYIbxfOvzDqRIFLsUyDFtsqWmVgCXF ann"
    (tmp_path / ".ssh/id_ed25519.pub").write_text(public + "\n")
    outcome = huskies(
        "project", "new", "web-shop", "--dry-run", "--gateway-url", "https://gateway.example/",
        "--stack", "node", "--memory", "1g", "--cpus", "1.5", "--projects-dir", tmp_path / "projects",
    )  # fmt: skip
    assert outcome.status == 0
    words = shlex.split(outcome.stdout)
    assert words[:3] == ["docker", "run", "-d"]
    assert words[-1] == "huskies-node:0.1.0"
    assert option(words, "--name") == ["huskies-web-shop"]
    assert option(words, "-e") == [
        "HUSKIES_GATEWAY_URL=https://gateway.example",
        "HUSKIES_NAME=web-shop",
        "HUSKIES_SLED_TOKEN=<sled-token>",
        "HUSKIES_GIT_NAME=Ann Example",
        "HUSKIES_GIT_EMAIL=ann@team.example",
        f"HUSKIES_SSH_KEY={public}",
    ]
    assert option(words, "--mount") == [f"type=bind,source={tmp_path}/projects/web-shop,target=/work"]
    assert option(words, "--memory") == [str(1 << 30)]
    assert option(words, "--cap-drop") == ["ALL"]
    published = [port.split(":") for port in option(words, "-p")]
    assert [(address, inside) for address, _, inside in published] == [
        ("127.0.0.1", "3001/tcp"),
        ("127.0.0.1", "2222/tcp"),
    ]
    assert not (tmp_path / "projects").exists()


def test_a_gateway_on_this_machine_is_another_name_in_a_container(huskies: Run) -> None:
    words = shlex.split(huskies("project", "new", "web-shop", "--dry-run").stdout)
    assert "HUSKIES_GATEWAY_URL=http://host.docker.internal:3000" in option(words, "-e")
    assert option(words, "--add-host") == ["host.docker.internal:host-gateway"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--", "--privileged"), "name: expected a name for a project"),
        (("../x",), "name: expected a name for a project"),
        (("a;b", "--dry-run"), "name: expected a name for a project"),
        (
            ("a", "--stack", "perl"),
            "stack: expected a stack: one of base, python, node, rust, go; got 'perl'",
        ),
        (("a", "--git", "ext::sh -c id"), "git: expected a repository's URL"),
        (("a", "--memory", "lots"), "memory: expected how much memory"),
        (("a", "--dry-run", "--projects-dir", "/a,readonly"), "--projects-dir: expected an absolute path"),
        (("a", "--gateway-url", "ftp://x"), "--gateway-url: expected a URL"),
        (("a", "--ssh-key", "/nowhere.pub"), "/nowhere.pub: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(
    huskies: Run, arguments: tuple[str, ...], problem: str
) -> None:
    outcome = huskies("project", "new", *arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"huskies: {problem}")
    assert outcome.stderr.count("\n") == 1


def test_a_private_key_is_not_taken_nor_shown(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\n")
    outcome = huskies("project", "new", "a", "--dry-run", "--ssh-key", tmp_path / "key")
    assert outcome.status == 2
    assert "expected one OpenSSH public key" in outcome.stderr
    assert "b3Blb" not in outcome.stderr


def test_without_a_gateway_or_an_engine(start: Start, huskies: Run, tmp_path: Path) -> None:
    outcome = huskies("project", "list", "--gateway-url", "http://127.0.0.1:1")
    assert outcome.status == 1
    assert "no gateway answers at http://127.0.0.1:1" in outcome.stderr
    process = start(
        "gateway", "--port", "0", "--data-dir", tmp_path / "data", DOCKER_HOST="unix:///nowhere/d.sock"
    )
    url = process.line("gateway").split()[1]
    for arguments in (("new", "web-shop"), ("list",), ("remove", "web-shop"), ("logs", "web-shop")):
        outcome = huskies("project", *arguments, "--gateway-url", url)
        assert outcome.status == 1
        assert "no container engine answers at unix:///nowhere/d.sock" in outcome.stderr
        assert "DOCKER_HOST" in outcome.stderr
    # What it is for is served all the same.
    assert huskies("status", "--gateway-url", url).status == 0


@pytest.fixture
def making(start: Start, tmp_path: Path, engine: docker.APIClient) -> Gateway:
    """A gateway in a process of its own, that makes projects with the engine."""
    del engine
    (tmp_path / "data").mkdir()
    (tmp_path / "data/projects.toml").write_text(PROJECTS)
    return Gateway(start, tmp_path / "data")


@with_engine
def test_a_project_from_its_first_command_to_its_last(
    huskies: Run, making: Gateway, name: str, key: Path
) -> None:
    at = ("--gateway-url", making.url)
    outcome = huskies("project", "new", name, "--ssh-key", key.with_suffix(".pub"), *at)
    assert outcome.status == 0, outcome.stderr
    told = [line.split()[0] for line in outcome.stderr.splitlines()]
    assert told == ["engine", "directory", "image", "container", "sled"]
    first, *rows = outcome.stdout.splitlines()
    assert first == f"{name} is there, and its sled is connected"
    shown = {row[: len("directory")].strip(): row.split("  ")[-1].strip() for row in rows}
    assert shown["log in"].startswith("ssh -p ")
    assert shown["log in"].endswith(" dev@127.0.0.1")
    assert shown["container"] == f"huskies-{name}"
    assert f"{name} connected" in " ".join(huskies("status", *at).stdout.split())
    again = huskies("project", "new", name, *at)
    assert (again.status, again.stdout) == (1, "")
    assert f"there is a project {name} already" in again.stderr
    [row] = [
        json.loads(line)
        for line in huskies("project", "list", "--json", *at).stdout.splitlines()
        if name in line
    ]
    assert (row["state"], row["ssh"]) == ("running", shown["log in"])
    assert f"{name} running" in " ".join(huskies("project", "list", *at).stdout.split())
    assert huskies("project", "stop", name, *at).stdout.startswith(f"{name} is stopped")
    assert huskies("project", "start", name, *at).stdout == f"{name} is started: {row['url']}\n"
    assert "relays to" in huskies("project", "logs", name, *at).stdout
    removed = huskies("project", "remove", name, "--directory", *at)
    assert removed.stdout == f"removed container huskies-{name}\nremoved directory {shown['directory']}\n"
    assert huskies("project", "remove", name, *at).status == 1
    # What its sleds said can go when all the rest is gone.
    assert huskies("project", "remove", name, "--history", *at).stdout == "removed 0 events of its history\n"
    assert name not in huskies("status", *at).stdout


@with_engine
def test_what_is_broken_off_is_undone(
    start: Start, making: Gateway, name: str, engine: docker.APIClient, tmp_path: Path
) -> None:
    # An address that nobody has (RFC 5737): the sled goes on trying.
    with (tmp_path / "data/projects.toml").open("a") as file:
        file.write('gateway_url = "http://192.0.2.77:9"\n')
    command = start("project", "new", name, "--gateway-url", making.url)
    command.line("sled", "stderr")
    assert command.end(signal.SIGINT).status == 130
    until(lambda: not engine.containers(all=True, filters={"name": f"huskies-{name}"}), "it is gone")
    until(lambda: not (tmp_path / "data/projects" / name).exists(), "its directory is gone")
