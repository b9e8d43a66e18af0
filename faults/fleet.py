"""The workload: sleds that publish numbered events to one gateway, and what is checked in the end."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from faults.checker import Identity, LossFoundError, check, check_identities, check_reader
from faults.journal import Journal
from faults.processes import Process, until, whole_log
from faults.proxy import Proxy
from faults.readers import StreamReader
from faults.setting import Setting
from faults.sleds import HEALING, SledProcess, drained


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
        self.sleds = [self.sled(projects[at : at + size]) for at in range(0, len(projects), size)]
        self.names = names
        self.readers: list[StreamReader] = []
        self.log: list[dict[str, Any]] = []
        # Whether readers may be told that the log is not the one they read before.
        self.was_restored = False
        self._held: dict[tuple[str, str], int] = {}
        self._held_to = "0"

    def sled(self, projects: Sequence[Path], *, values: str = "") -> SledProcess:
        """One process with these sleds, not started."""
        return SledProcess(self.setting, self.journals, [self.proxy.url], projects, values=values)

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
        self._read_on()
        if self.log:
            until(self._followed, "the subscribers have everything", HEALING)

    def _read_on(self) -> None:
        """Bring `log` up to date."""
        try:
            self.log += whole_log(self.url, after=self.log[-1]["cursor"] if self.log else "0")
        except urllib.error.HTTPError as error:
            # It is not the log any more that was read before.
            error.close()
            if error.code != HTTPStatus.CONFLICT:
                raise
            self.log = whole_log(self.url)

    def drain(self, *sleds: SledProcess) -> None:
        until(lambda: drained(sleds), "the outboxes drain", HEALING)

    def judge(self) -> None:
        """Checker C, after everything healed and drained."""
        self.settle()
        # All of it again: what was read before was read before some of the faults.
        self.log = whole_log(self.url)
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
