"""README is true: its tutorial and its make targets do what it says, its table of settings is complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from faults.processes import gateway_url, running, until

from huskies.cli.main import cli
from huskies.config import ProjectFile
from huskies.events.model import STAGES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def tutorial() -> tuple[list[str], list[str]]:
    """The commands of the tutorial's two terminals."""
    section = README.partition("## Ten lines to your first event")[2].partition("\n## ")[0]
    blocks = re.findall(r"((?:^    .+\n)+)", section, re.MULTILINE)
    first, second = ([line.strip() for line in block.splitlines()] for block in blocks[:2])
    return first, second


def test_the_tutorial_has_ten_lines() -> None:
    first, second = tutorial()
    assert len(first) + len(second) == 10


def test_the_tutorial_ends_with_an_event_seen(tmp_path: Path, free_port: Callable[[], int]) -> None:
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
        follow, move, block, status = second
        with subprocess.Popen(
            ["bash", "-em"],
            cwd=shop,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as shell:
            assert shell.stdin is not None
            assert shell.stdout is not None
            seen = []
            # As someone types it, who waits for what each line brings.
            for typed in (f"{follow}\n{move}\n", f"{block}\n"):
                shell.stdin.write(typed)
                shell.stdin.flush()
                seen.append(shell.stdout.readline())
            shown, _ = shell.communicate(f"{status}\nkill %1\n")
        assert shell.returncode == 0
        assert "2_current" in seen[0]
        assert "BLOCKED: needs the API key" in seen[1]
        for text in ("42_story_login", "Login", "needs the API key"):
            assert text in shown
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


# --- from a fresh clone --------------------------------------------------------------------------------


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a directory that holds what a fresh clone has of it."""
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.lock")):
        shutil.copy(path, directory)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("setup", set()),
        ("run", {".venv/bin/huskies up ."}),
        ("test", {".venv/bin/python -m pytest"}),
        ("lint", {".venv/bin/ruff check", ".venv/bin/ruff format --check", ".venv/bin/mypy"}),
        ("bench", {".venv/bin/python -m bench"}),
    ],
)
def test_make_sets_everything_up_first(tmp_path: Path, target: str, commands: set[str]) -> None:
    planned = make(tmp_path, "--dry-run", target).stdout.splitlines()
    steps = [
        next(number for number, line in enumerate(planned) if part in line)
        for part in (
            "-m venv .venv",
            "pip install --quiet --require-hashes -r requirements.lock",
            "pip install --quiet --no-deps --no-build-isolation --editable .",
        )
    ]
    assert steps == sorted(steps)
    setting_up = re.compile(r"touch|#|.*(pip install|-m venv)")
    asked = {line for line in planned[steps[-1] + 1 :] if not setting_up.match(line)}
    # What is asked for may be done in several steps, with options that do not matter here.
    assert {re.sub(r"(pytest).*", r"\1", line) for line in asked} == commands


def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old").chmod(0o755)
    made = make(tmp_path, "setup", "PYTHON=./old")
    assert made.returncode != 0
    assert made.stderr.startswith(
        "huskies needs Python 3.11 or newer; name one with make PYTHON=python3.12\n"
    )
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11"


def test_this_repository_has_stories_of_its_own() -> None:
    stories = [path for stage in STAGES for path in (ROOT / ".huskies" / "work" / stage).glob("*.md")]
    assert stories
    assert all(re.fullmatch(r"\d+_(story|bug|spike|refactor)_\w+", path.stem) for path in stories)


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 failed")])
def test_on_ci_nothing_is_skipped(tmp_path: Path, ci: str, outcome: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\ndef test_one():\n    pytest.skip('no engine; `make engine` brings it')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--rootdir", ".", "."],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout
    assert "no engine; `make engine` brings it" in done.stdout


# --- settings ------------------------------------------------------------------------------------------


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


def test_the_one_flag_whose_short_name_has_another_variable_is_told() -> None:
    [row] = [line for line in README.splitlines() if line.startswith("| `--story-name` |")]
    assert "also `--name` (`HUSKIES_NAME` is the project's)" in row


@pytest.mark.parametrize("key", ProjectFile.__struct_fields__)
def test_every_key_of_project_toml_stands_in_the_table(key: str) -> None:
    assert re.search(rf"^\|.*\|.*\| `{key}` \|", README, re.MULTILINE)
