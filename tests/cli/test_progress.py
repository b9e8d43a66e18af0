from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.gateway_process import Gateway, blocked

if TYPE_CHECKING:
    from tests.cli.conftest import Open, Run


def test_a_terminal_is_told_what_takes_long_and_a_pipe_is_not(
    gateway: Gateway, terminal: Open, huskies: Run, tmp_path: Path
) -> None:
    gateway.push(blocked(1))
    gateway.process.end()
    data = ("--data-dir", tmp_path / "data")
    screen = terminal("backup", tmp_path / "[bold]", *data, columns=200)
    assert screen.end() == 0
    assert b"copying " in screen.written
    lines = screen.shows("backed up 1 events")
    # What said so is gone.
    assert "copying" not in "\n".join(lines)
    restored = terminal("restore", tmp_path / "[bold]", "--data-dir", tmp_path / "new", columns=200)
    restored.shows("restored 1 events")
    assert b"[bold]" in restored.written
    assert huskies("backup", tmp_path / "again", *data).stderr == ""
