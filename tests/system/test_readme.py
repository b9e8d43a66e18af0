"""README is true: its tutorial runs as it stands, and its table of settings is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from huskies.cli.main import cli
from huskies.config import ProjectFile
from tests.system.processes import free_port, gateway_url, running, until

README = (Path(__file__).parents[2] / "README.md").read_text()


def tutorial() -> tuple[list[str], list[str]]:
    """The commands of the tutorial's two terminals."""
    section = README.partition("## Ten lines to your first event")[2].partition("\n## ")[0]
    blocks = re.findall(r"((?:^    .+\n)+)", section, re.MULTILINE)
    first, second = ([line.strip() for line in block.splitlines()] for block in blocks[:2])
    return first, second


def test_the_tutorial_has_ten_lines() -> None:
    first, second = tutorial()
    assert len(first) + len(second) == 10


def test_the_tutorial_ends_with_an_event_seen(tmp_path: Path) -> None:
    first, second = tutorial()
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HUSKIES_PORT": str(port),
        "HUSKIES_DATA_DIR": str(tmp_path / "data"),
        "HUSKIES_GATEWAY_URL": f"http://127.0.0.1:{port}",
    }
    assert first[0].startswith("make setup")
    assert first[1].startswith("export PATH")
    assert first[-1].startswith("huskies up")
    subprocess.run(["bash", "-ec", "\n".join(first[2:-1])], cwd=tmp_path, env=environment, check=True)
    shop = tmp_path / "shop"
    with running("up", "--data-dir", str(tmp_path / "data"), "--port", str(port), cwd=shop) as up:
        assert gateway_url(up) == f"http://127.0.0.1:{port}"
        up.find(r"shop +http://")
        script = "\n".join([*second, "kill %1"])
        done = subprocess.run(
            ["bash", "-emc", script], cwd=shop, env=environment, check=True, capture_output=True, text=True
        )
        assert "needs the API key" in done.stdout
        assert "42_story_login" in done.stdout
        assert "Login" in done.stdout
        tail = subprocess.Popen(
            ["huskies", "tail", "--after", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert tail.stdout is not None
        lines = [tail.stdout.readline() for _ in range(2)]
        tail.terminate()
        tail.communicate()
        assert "BLOCKED: needs the API key" in "".join(lines)
        assert "2_current" in "".join(lines)
        assert up.terminate() == 0
        until(lambda: up.popen.poll() is not None, "it has ended")


def options() -> Iterator[tuple[str, str]]:
    """The long flag and the variable of every option that has one."""

    def walk(command: click.Command) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
                flag = next(name for name in parameter.opts if name.startswith("--"))
                yield flag, parameter.envvar
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from walk(found)

    return walk(cli)


@pytest.mark.parametrize(("flag", "variable"), sorted(set(options())))
def test_every_flag_with_a_variable_stands_in_the_table(flag: str, variable: str) -> None:
    assert f"| `{flag}` | `{variable}` |" in README


@pytest.mark.parametrize("key", ProjectFile.__struct_fields__)
def test_every_key_of_project_toml_stands_in_the_table(key: str) -> None:
    assert re.search(rf"^\|.*\|.*\| `{key}` \|", README, re.MULTILINE)
