"""Completion as a shell asks for it, of a real gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.gateway_process import Gateway, blocked

from huskies.cli import main

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Start


def completed(line: str, url: str) -> list[str]:
    """What bash is offered behind this line."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", "from huskies.cli.main import main; main()"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(main.__file__).parents[2]),
            "_HUSKIES_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "HUSKIES_GATEWAY_URL": url,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    # Each line is a kind and what is offered; one that is empty offers nothing.
    return [each.partition(",")[2] for each in done.stdout.splitlines() if each]


def test_commands_projects_and_stories_are_completed(start: Start, gateway: Gateway) -> None:
    hostile = {**blocked(7), "story_id": "7_$(touch x)"}
    gateway.push(blocked(1), blocked(12), hostile)
    gateway.push(blocked(13), project="billing")
    start("tail", "--gateway-url", gateway.url, "--after", "0", "--project", "billing").line("13_story_x")
    assert completed("huskies sta", gateway.url) == ["status"]
    assert completed("huskies tail --project w", gateway.url) == ["web-shop"]
    assert completed("huskies project stop w", gateway.url) == ["web-shop"]
    assert completed("huskies show 1", gateway.url) == ["12_story_x", "13_story_x", "1_story_x"]
    assert completed("huskies show --project billing ", gateway.url) == ["13_story_x"]
    # The shell would carry it out.
    assert completed("huskies show 7", gateway.url) == []


def test_without_a_gateway_nothing_is_offered(unused_tcp_port: int) -> None:
    assert completed("huskies show ", f"http://127.0.0.1:{unused_tcp_port}") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(huskies: Run, shell: str) -> None:
    outcome = huskies("completion", shell)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "_HUSKIES_COMPLETE" in outcome.stdout


def test_another_shell_is_refused(huskies: Run) -> None:
    outcome = huskies("completion", "csh")
    assert outcome.status == 2
    assert "'bash', 'zsh', 'fish'" in outcome.stderr
