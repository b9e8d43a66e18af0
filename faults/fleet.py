"""The workload: sleds that publish numbered events to one gateway, and what is checked in the end."""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from faults.checker import Identity, LossFoundError, check, check_identities, check_reader
from faults.journal import Journal
from faults.processes import Process, get, until, whole_log
from faults.proxy import Proxy
from faults.readers import StreamReader
from faults.setting import Setting
from huskies.sled.broadcast import Receipt

# What everything may take to heal and drain, on a machine that others use as well.
HEALING = 240.0


class SledProcess:
    """One process with some publishing sleds."""

    def __init__(self, fleet: Fleet, projects: Sequence[Path], *, values: str = "") -> None:
        self._fleet = fleet
        self._values = values
        self.projects = projects
        self.names = [project.name for project in projects]
        self.goal = 0
        self.starts = 0
        # Further options of `faults.process`.
        self.planted: list[str] = []
        self.process: Process | None = None

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def start(self) -> None:
        self.starts += 1
        arguments = ("--gateway-url", self._fleet.proxy.url, "--journal", str(self._fleet.journals))
        options = (f"--values={self._values}", f"--padding={self._fleet.padding}")
        self.process = Process(
            "publish",
            *arguments,
            *options,
            *map(str, self.projects),
            planted=[*self._fleet.setting.planted_limits, *self.planted],
        )
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
        journal = Journal(self._fleet.journals, self.names[0])
        number = journal.last_attempted() + 1
        journal.attempted(number)
        event = ("blocked", f"{number % 200}_story_x", f"{self.names[0]} emitted {number}")
        command = Process("emit", "-C", str(self.projects[0]), *event, planted=self.planted)
        assert command.wait() == 0, command.output
        journal.acknowledged(number, Receipt(sled_id="", epoch="", seq=0))

    def restart(self) -> None:
        self.kill()
        self.start()


class Fleet:
    """A gateway, a proxy in front of it, sleds, and subscribers who follow through a proxy of their own."""

    def __init__(self, setting: Setting, *, sleds_per_process: int | None = None) -> None:
        self.setting = setting
        self.data = setting.directory / "gateway"
        self.journals = setting.directory / "journals"
        self.proxy, self.readers_proxy = Proxy(), Proxy()
        self.gateway: Process | None = None
        self.gateway_planted: list[str] = []
        self.gateway_starts = 0
        names = [f"sled{number}" for number in range(setting.sizes.sleds)]
        projects = [setting.directory / "projects" / name for name in names]
        for project in projects:
            (project / ".huskies").mkdir(parents=True)
        size = sleds_per_process or setting.sizes.sleds_per_process
        self.sleds = [SledProcess(self, projects[at : at + size]) for at in range(0, len(projects), size)]
        self.names = names
        self.readers: list[StreamReader] = []
        self.log: list[dict[str, Any]] = []
        # Whether readers may be told that the log is not the one they read before.
        self.was_restored = False
        # How much longer than it need be each event is.
        self.padding = 0
        self._held: dict[tuple[str, str], int] = {}
        self._held_to = "0"

    # --- processes ---------------------------------------------------------------------------------

    @property
    def running(self) -> Process:
        assert self.gateway is not None
        return self.gateway

    def start_gateway(self, *, open_to_sleds: bool = True) -> None:
        """Start it on a free port, which the proxies then lead to."""
        self.gateway_starts += 1
        planted = [*self.setting.planted_limits, *self.gateway_planted]
        self.gateway = Process("gateway", "--port", "0", "--data-dir", str(self.data), planted=planted)
        port = int(self.gateway.find(r"http://127\.0\.0\.1:(\d+)", 60)[1])
        self.readers_proxy.target = port
        if open_to_sleds:
            self.proxy.target = port

    def open_to_sleds(self) -> None:
        self.proxy.target = self.readers_proxy.target

    @property
    def url(self) -> str:
        """The gateway itself, past the proxies."""
        return f"http://127.0.0.1:{self.readers_proxy.target}"

    def kill_gateway(self) -> None:
        self.proxy.target = self.readers_proxy.target = None
        self.running.kill()

    def start_sleds(self) -> None:
        for sled in self.sleds:
            sled.start()

    def sled_of(self, project: str) -> SledProcess:
        return next(sled for sled in self.sleds if project in sled.names)

    def follow(self, count: int = 2) -> None:
        """Subscribers: the first from the beginning, the others from now on."""
        for number in range(count):
            reader = StreamReader(self.readers_proxy.url, "" if number else "after=0", keep=False)
            reader.start()
            self.readers.append(reader)

    def aim(self, goal: int) -> None:
        for sled in self.sleds:
            sled.aim(goal)

    # --- the end -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until all that was aimed at is published, acknowledged by the gateway and seen by everyone."""
        for sled in self.sleds:
            sled.reached()
        self.drain(*self.sleds)
        self.log = whole_log(self.url)
        if self.log:
            until(self._followed, "the subscribers have everything", HEALING)

    def drain(self, *sleds: SledProcess) -> None:
        until(lambda: self._drained(sleds), "the outboxes drain", HEALING)

    def judge(self) -> None:
        """Checker C, after everything healed and drained."""
        self.settle()
        self.judge_log()

    def judge_log(self) -> None:
        report = self.setting.report
        attempted, acknowledged = self.attempted(), self.acknowledged()
        report.count("attempted", sum(map(len, attempted.values())))
        report.count("acknowledged", sum(map(len, acknowledged.values())))
        report.count("found", len(self.log))
        verdict = check(attempted, acknowledged, [value_of(event) for event in self.log])
        if verdict.lost:
            raise LossFoundError(verdict)
        assert verdict.ok, verdict
        identities = check_identities(
            [Identity(event["sled_id"], event["epoch"], event["seq"]) for event in self.log]
        )
        assert identities.ok, identities
        cursors = [event["cursor"] for event in self.log]
        for number, reader in enumerate(self.readers):
            problem = check_reader(cursors, reader.opened_at, reader.cursors)
            assert not problem, f"subscriber {number}: {problem}"
            assert not reader.other, f"subscriber {number}: {reader.other}"
            assert self.was_restored or not reader.resets, f"subscriber {number}: {reader.resets}"
            report.count("seen by subscribers", len(reader.cursors))

    def attempted(self) -> dict[str, list[int]]:
        return {name: Journal(self.journals, name).all_attempted() for name in self.names}

    def acknowledged(self) -> dict[str, list[int]]:
        return {
            name: [told.number for told in Journal(self.journals, name).all_acknowledged()]
            for name in self.names
        }

    def held(self) -> dict[tuple[str, str], int]:
        """The newest seq that the gateway holds of each history, found in its log."""
        try:
            events = whole_log(self.url, after=self._held_to)
        except urllib.error.HTTPError as error:
            # The log lost what was read of it before.
            error.close()
            if error.code != HTTPStatus.CONFLICT:
                raise
            self._held.clear()
            events = whole_log(self.url)
        for event in events:
            self._held[event["sled_id"], event["epoch"]] = event["seq"]
            self._held_to = event["cursor"]
        return dict(self._held)

    def check_what_gateway_acknowledged(self) -> None:
        """All that the proxy saw acknowledged is held, before any sled could send it again."""
        held = self.held()
        missing = {
            origin: (held.get(origin, 0) + 1, seq)
            for origin, seq in self.proxy.acked.items()
            if seq > held.get(origin, 0)
        }
        if missing:
            raise LossFoundError(f"acknowledged by the gateway and not in its log: {missing}")

    def stop(self) -> None:
        for reader in self.readers:
            reader.enough.set()
        processes = [self.gateway, *(sled.process for sled in self.sleds)]
        for process in processes:
            if process is not None:
                process.kill()
        self.proxy.stop()
        self.readers_proxy.stop()
        for reader in self.readers:
            reader.join(10)

    def _drained(self, sleds: Sequence[SledProcess]) -> bool:
        return all(
            state["relay"] == "connected" and state["unacked"] == 0
            for sled in sleds
            for state in sled.health()
        )

    def _followed(self) -> bool:
        last = self.log[-1]["cursor"]
        return all(reader.last_id == last or reader.cursors[-1:] == [last] for reader in self.readers)


@contextmanager
def running_fleet(setting: Setting, *, sleds_per_process: int | None = None) -> Iterator[Fleet]:
    """A fleet whose processes end with the block."""
    fleet = Fleet(setting, sleds_per_process=sleds_per_process)
    try:
        yield fleet
    finally:
        fleet.stop()


def value_of(event: dict[str, Any]) -> tuple[str, int]:
    """The sled and the number that an event's value names."""
    name, _, number = event["event"]["reason"].split(" ")
    return name, int(number)
