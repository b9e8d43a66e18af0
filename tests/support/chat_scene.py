"""A real gateway whose directory has a bot.toml, and what the bot it starts says in a room."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nio import Event
from tests.cli.conftest import SOURCES, Process
from tests.support.matrix_person import Person
from tests.support.synapse import PASSWORD


class Scene:
    """A gateway's directory with a bot in it, and processes that serve it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._processes: list[Process] = []
        self.url = ""

    def set_up(self, homeserver: str, username: str, room: str, allowed: str, projects: str = "") -> None:
        self.data_dir.mkdir(mode=0o700)
        lines = (
            f'homeserver = "{homeserver}"',
            f'username = "{username}"',
            'password_file = "password"',
            f'room_ids = ["{room}"]',
            f'allowed_users = ["{allowed}"]',
        )
        (self.data_dir / "projects.toml").write_text(projects)
        (self.data_dir / "projects.toml").chmod(0o600)
        (self.data_dir / "bot.toml").write_text("\n".join(lines) + "\n")
        (self.data_dir / "password").write_text(PASSWORD)
        (self.data_dir / "password").chmod(0o600)

    def start(self, *, program: Sequence[str] = ("huskies",), **environment: str) -> Process:
        """A gateway with its bot; `program`: the module that runs it, and what that is told first."""
        arguments = (
            "gateway",
            "--port",
            self.url.rpartition(":")[2] or "0",
            "--data-dir",
            str(self.data_dir),
        )
        usual = {name: value for name, value in os.environ.items() if not name.startswith("HUSKIES_")}
        environment = {**usual, "PYTHONPATH": str(SOURCES), **environment}
        process = Process(arguments, environment, self.data_dir, program)
        self._processes.append(process)
        self.url = process.line("gateway").split()[1]
        process.line("chat")
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()


def edits(events: list[Event]) -> list[Event]:
    """Those that change an earlier one."""
    return [
        event
        for event in events
        if event.source["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
    ]


def told(person: Person, room: str, bot: str) -> list[str]:
    """The messages of the bot that are no change of an earlier one."""
    heard = person.heard(room, bot)
    changes = edits(heard)
    return [event.body for event in heard if event not in changes]
