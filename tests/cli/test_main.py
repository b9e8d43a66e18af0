from __future__ import annotations

import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from huskies.cli import client, main, runtime
from huskies.cli.options import Setting
from huskies.config import environment_name

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Start


def all_commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(main.cli)
    for name in main.cli.list_commands(context):
        command = main.cli.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", child) for sub, child in command.commands.items()]
    return found


COMMANDS = all_commands()
EXAMPLES = [
    line.strip()
    for _, command in [("", main.cli), *COMMANDS]
    for line in (command.epilog or "").splitlines()
    if line.strip().startswith("huskies ")
]


@pytest.mark.parametrize("name", ["", *(name for name, _ in COMMANDS)])
def test_every_command_explains_itself(huskies: Run, name: str) -> None:
    shown = huskies(*name.split(), "--help")
    assert shown.status == 0
    assert shown.stdout.startswith(f"Usage: huskies {name}".rstrip())
    assert shown.stderr == ""


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_command_teaches_by_example(name: str, command: click.Command) -> None:
    assert f"  huskies {name}" in (command.epilog or "")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_a_help_text_is_understood(example: str) -> None:
    for part in example.split("&&"):
        # What follows two blanks says what the example does; what follows | or > is another program's.
        words = shlex.split(re.split(r"  | \| | > ", part.strip(), maxsplit=1)[0])
        assert words[0] == "huskies"
        command: click.Command = main.cli
        context = main.cli.make_context("huskies", words[1:])
        while isinstance(command, click.Group):
            left = [*context._protected_args, *context.args]
            if command.invoke_without_command and not left:
                break
            name, child, rest = command.resolve_command(context, left)
            assert child is not None
            command, context = child, child.make_context(name, rest, parent=context)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_flag_has_the_variable_of_its_name(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert isinstance(parameter, Setting)
            flag = next(flag for flag in parameter.opts if flag.startswith("--"))
            assert parameter.envvar == environment_name(flag)
            assert environment_name(flag) in command.get_help(click.Context(command, info_name=name))


def test_an_unknown_command_is_a_usage_error(huskies: Run) -> None:
    outcome = huskies("stauts")
    assert outcome.status == 2
    assert "No such command 'stauts'" in outcome.stderr


def test_the_version_is_shown(huskies: Run) -> None:
    outcome = huskies("--version")
    assert outcome.status == 0
    assert outcome.stdout.startswith("huskies")


def test_an_error_is_one_line_without_escapes_or_secrets(huskies: Run, tmp_path: Path) -> None:
    missing = tmp_path / "a\x1b[31m\nb"
    outcome = huskies("init", missing)
    assert outcome.status == 2
    assert outcome.stderr == (
        f"huskies: {tmp_path}/a\\x1b[31m\\nb: "
        "expected the directory of a project; create it, or name another\n"
    )


def test_an_interrupt_is_no_traceback(huskies: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.LazyGroup, "get_command", interrupted)
    outcome = huskies("status")
    assert (outcome.status, outcome.stderr.strip()) == (130, "")


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text(
        "[sled_tokens]\n" + "".join(f"p{number} = 'secret-{number}'\n" for number in range(2_000))
    )
    (tmp_path / "projects.toml").chmod(0o600)
    listing = subprocess.Popen(
        [sys.executable, "-m", "huskies", "token", "list", "--data-dir", tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert listing.stdout is not None
    listing.stdout.close()
    assert listing.stderr is not None
    with listing.stderr:
        assert listing.stderr.read() == b""
    assert listing.wait(20) == 1


def test_init_lays_out_a_project_and_overwrites_nothing(huskies: Run, tmp_path: Path) -> None:
    assert huskies("init", tmp_path).status == 0
    assert (tmp_path / ".huskies" / "work" / "1_backlog").is_dir()
    assert "/state/" in (tmp_path / ".huskies" / ".gitignore").read_text()
    settings = tmp_path / ".huskies" / "project.toml"
    assert "gateway_url" in settings.read_text()
    settings.write_text('name = "mine"\n')
    assert huskies("init", tmp_path).status == 0
    assert settings.read_text() == 'name = "mine"\n'


def test_the_settings_that_init_suggests_are_valid(huskies: Run, tmp_path: Path) -> None:
    huskies("init", tmp_path)
    settings = tmp_path / ".huskies" / "project.toml"
    lines = settings.read_text().splitlines()
    settings.write_text(
        "\n".join(line.removeprefix("# ") for line in lines if " = " in line and "HUSKIES" not in line)
    )
    (tmp_path / "../web-shop.token").resolve().write_text("secret")
    started = huskies("sled", tmp_path, "--name", "not valid")
    assert "--name: expected a project name" in started.stderr


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"HUSKIES_PORT": "x"}, "'--port' (env var: 'HUSKIES_PORT')"),
        ({"HUSKIES_LOG_LEVEL": "loud"}, "'--log-level' (env var: 'HUSKIES_LOG_LEVEL')"),
    ],
)
def test_a_bad_variable_is_named(
    huskies: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = huskies("gateway")
    assert outcome.status == 2
    assert complaint in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("gateway", "--data-dir", ""),
        ("up", "--data-dir", ""),
        ("up", ""),
        ("sled", ""),
        ("init", ""),
        ("token", "list", "--data-dir", ""),
        ("emit", "-C", "", "blocked", "1", "x"),
        ("emit", "blocked", "1", "x", "-C", ""),
    ],
    ids=" ".join,
)
def test_an_empty_directory_is_not_the_current_one(
    huskies: Run, project: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(project)
    outcome = huskies(*arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    [line] = outcome.stderr.splitlines()
    assert "expected a directory, got an empty text; name one, or leave it out" in line
    assert list(project.iterdir()) == [project / ".huskies"]


@pytest.mark.parametrize("variable", [None, ""])
def test_the_data_directory_is_where_the_platform_has_it(
    huskies: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is not None:
        # Set but empty is not set.
        monkeypatch.setenv("HUSKIES_DATA_DIR", variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    places = {"darwin": "Library/Application Support/huskies", "win32": "huskies"}
    assert huskies("token", "make", "web-shop").status == 0
    assert (tmp_path / places.get(sys.platform, ".local/share/huskies") / "access.db").is_file()


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="the variable is of the XDG base directories")
def test_the_data_directory_follows_xdg(
    huskies: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert huskies("token", "make", "web-shop").status == 0
    assert (tmp_path / "share" / "huskies" / "access.db").is_file()


Launch = Callable[..., Any]


@pytest.fixture
def launched(huskies: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """The settings with which a server would run; it is not started."""
    seen: list[Any] = []
    monkeypatch.setattr(runtime, "run", lambda launch: seen.append(inspect.getclosurevars(launch).nonlocals))
    monkeypatch.setenv("HUSKIES_DATA_DIR", str(project / "data"))
    monkeypatch.chdir(project)

    def launch(*arguments: str) -> Any:
        assert huskies(*arguments).status == 0
        return seen[-1]["config" if arguments[0] == "sled" else "settings"]

    return launch


@pytest.mark.parametrize(("command", "port"), [("gateway", 3000), ("up", 3000), ("sled", 3001)])
def test_where_a_server_listens_unless_told_otherwise(launched: Launch, command: str, port: int) -> None:
    settings = launched(command)
    assert (settings.host, settings.port) == ("127.0.0.1", port)


def test_a_server_does_what_its_flags_say(launched: Launch, project: Path) -> None:
    listens = ("--host", "127.0.0.2", "--port", "4001")
    gateway = launched("gateway", *listens, "--data-dir", "elsewhere")
    assert (gateway.host, gateway.port, gateway.data_dir) == ("127.0.0.2", 4001, Path("elsewhere"))
    up = launched("up", "--port", "4001", "--data-dir", "elsewhere")
    assert (up.host, up.port, up.data_dir) == ("127.0.0.1", 4001, Path("elsewhere"))
    sled = launched("sled", ".", *listens, "--name", "shop", "--gateway-url", "http://gateway:3000/")
    assert (sled.host, sled.port, sled.project_dir) == ("127.0.0.2", 4001, project.resolve())
    assert (sled.name, sled.gateway_url) == ("shop", "http://gateway:3000")


@pytest.mark.parametrize(
    ("flags", "variable", "expected"),
    [
        ((), None, ("http://file",)),
        ((), "", ()),
        ((), " ", ()),
        ((), "http://a", ("http://a",)),
        ((), "http://b http://a", ("http://b", "http://a")),
        ((), "http://b, http://a,", ("http://b", "http://a")),
        (("http://c",), "http://b http://a", ("http://c",)),
        (("http://c", "http://b/"), "http://a", ("http://c", "http://b")),
        (("http://c,http://b",), None, ("http://c", "http://b")),
        (("",), "http://a", ()),
    ],
)
def test_a_sled_relays_to_one_gateway_several_or_none(  # noqa: PLR0917 - a case
    launched: Launch,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    variable: str | None,
    expected: tuple[str, ...],
) -> None:
    (project / ".huskies" / "project.toml").write_text('gateway_url = "http://file"\n')
    if variable is not None:
        monkeypatch.setenv("HUSKIES_GATEWAY_URL", variable)
    given = [argument for url in flags for argument in ("--gateway-url", url)]
    assert launched("sled", *given).gateway_urls == expected


@pytest.mark.parametrize(
    ("flags", "variable", "days"),
    [((), None, 2), ((), "", 2), ((), "3d", 3), (("--keep-acked", "4d"), "3d", 4)],
)
def test_how_long_a_sled_keeps_what_is_acknowledged(  # noqa: PLR0917 - a case
    launched: Launch,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    variable: str | None,
    days: int,
) -> None:
    (project / ".huskies" / "project.toml").write_text('keep_acked = "2d"\nkeep_until_held_by = 2\n')
    if variable is not None:
        monkeypatch.setenv("HUSKIES_KEEP_ACKED", variable)
    settings = launched("sled", *flags)
    assert (settings.keep_acked_ms, settings.keep_until_held_by) == (days * 86_400_000, 2)


def test_a_gateway_named_twice_is_one_clear_line(huskies: Run, project: Path) -> None:
    outcome = huskies("sled", project, "--gateway-url", "http://a", "--gateway-url", "http://a/")
    assert outcome.status == 2
    assert outcome.stderr == (
        "huskies: --gateway-url: expected each gateway once; leave out the repetition\n"
    )


@pytest.mark.parametrize("variable", ["http://a http://b", "http://a,http://b"])
def test_a_reader_asks_the_first_of_the_gateways_that_a_sled_relays_to(
    huskies: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    asked: list[str] = []

    def get(base_url: str, *_: object, **__: object) -> None:
        asked.append(base_url)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "get", get)
    monkeypatch.setenv("HUSKIES_GATEWAY_URL", variable)
    assert [huskies("status").status, huskies("tail").status] == [130, 0]
    assert asked == ["http://a"] * 2


def test_a_reader_asks_the_gateway_of_this_machine_unless_told_otherwise(
    huskies: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get(base_url: str, *_: object, **__: object) -> None:
        asked.append(base_url)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "get", get)
    assert [huskies("status").status, huskies("tail").status] == [130, 0]
    assert asked == ["http://127.0.0.1:3000"] * 2


@pytest.mark.parametrize(
    ("command", "path", "text", "problem"),
    [
        ("sled", ".huskies/project.toml", "port = 'x'", "port: expected a whole number, got a text"),
        ("sled", ".huskies/project.toml", "port = ", "expected TOML: "),
        ("up", ".huskies/project.toml", "name = 3", "name: expected a text, got a whole number"),
        ("up", "data/projects.toml", "[projects.a]\nopen = 1", "projects.a.open: expected true or false"),
        ("gateway", "data/projects.toml", "[other]", "other: unknown key; expected one of projects"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(  # noqa: PLR0917 - a case
    start: Start, project: Path, command: str, path: str, text: str, problem: str
) -> None:
    (project / "data").mkdir()
    (project / path).write_text(text)
    outcome = start(command, cwd=project, HUSKIES_DATA_DIR="data", HUSKIES_PORT="0").end(None)
    assert (outcome.status, outcome.stdout) == (2, "")
    [line] = outcome.stderr.splitlines()
    assert line.startswith("huskies: ")
    assert f"{path}: {problem}" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_gateway_ends_cleanly(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    gateway = start("gateway", "--port", "0", "--data-dir", tmp_path / "data")
    assert gateway.line("gateway").split()[1].startswith("http://127.0.0.1:")
    outcome = gateway.end(number, patience=5)
    assert outcome.status == 0
    assert "Traceback" not in outcome.stderr


def test_a_gateway_that_cannot_start_says_why(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "projects.toml").write_text("[projects.web-shop]\nurl = 3\n")
    outcome = start("gateway", "--port", "0", HUSKIES_DATA_DIR=str(tmp_path / "data")).end(None)
    assert outcome.status == 2
    assert outcome.stderr.endswith(
        "projects.toml: projects.web-shop.url: expected a text, got a whole number"
    )
