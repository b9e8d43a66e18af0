"""Processes with sleds that publish numbered events, started, told how far, and ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.journal import Journal
from faults.processes import Process, get
from faults.setting import Setting
from huskies.sled.broadcast import Receipt

# What everything may take to heal and drain, on a machine that others use as well.
HEALING = 240.0


class SledProcess:
    """One process with some publishing sleds."""

    def __init__(
        self,
        setting: Setting,
        journals: Path,
        urls: Sequence[str],
        projects: Sequence[Path],
        *,
        values: str = "",
    ) -> None:
        self._setting = setting
        self._journals = journals
        # The gateways', in order of preference.
        self.urls = urls
        self.values = values
        self.projects = projects
        self.names = [project.name for project in projects]
        self.goal = 0
        self.starts = 0
        # How much longer than it need be each event is.
        self.padding = 0
        # Further options of `faults.process`.
        self.planted: list[str] = []
        self.process: Process | None = None

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def start(self) -> None:
        self.starts += 1
        options = [*(f"--gateway-url={url}" for url in self.urls), f"--journal={self._journals}"]
        options += [f"--values={self.values}", f"--padding={self.padding}"]
        planted = [*self._setting.planted_limits, *self.planted]
        self.process = Process("publish", *options, *map(str, self.projects), planted=planted)
        for name in self.names:
            self.process.find(rf"(?m)^sled {re.escape(name)} (http\S+)$", 60)
        self.process.tell(str(self.goal))

    def aim(self, goal: int) -> None:
        """Let each sled publish up to this number."""
        self.goal = goal
        self.running.tell(str(goal))

    def reached(self) -> None:
        """Wait until all up to the goal is confirmed, or was attempted by a process that died."""
        for name in self.names:
            self.running.find(rf"(?m)^reached {re.escape(name)} {self.goal}$", HEALING)

    def health(self) -> list[dict[str, Any]]:
        urls = [self.running.find(rf"(?m)^sled {re.escape(name)} (http\S+)$")[1] for name in self.names]
        return [get(f"{url}/healthz") for url in urls]

    def kill(self) -> None:
        self.running.kill()

    def emit(self) -> None:
        """The next event of the first of these sleds, by a command and while no sled runs."""
        journal = Journal(self._journals, self.names[0])
        number = journal.last_attempted() + 1
        journal.attempted(number)
        event = ("blocked", f"{number % 200}_story_x", f"{self.names[0]} emitted {number}")
        command = Process("emit", "-C", str(self.projects[0]), *event, planted=self.planted)
        assert command.wait() == 0, command.output
        journal.acknowledged(number, Receipt(sled_id="", epoch="", seq=0))

    def restart(self) -> None:
        self.kill()
        self.start()


def drained(sleds: Sequence[SledProcess]) -> bool:
    """Whether all that these recorded is acknowledged."""
    return all(
        state["relay"] == "connected" and state["unacked"] == 0 for sled in sleds for state in sled.health()
    )
