"""Gateways that replicate through proxies, which can cut each of their links, and sleds of all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from faults.checker import Identity, LossFoundError, check, check_identities, check_reader
from faults.fleet import value_of
from faults.journal import Journal
from faults.processes import Process, get, until, whole_log
from faults.proxy import Proxy
from faults.readers import StreamReader
from faults.setting import Setting
from faults.sleds import HEALING, SledProcess, drained

Shape = Literal["chain", "ring"]
Digests = dict[tuple[str, str], tuple[int, str]]


class Gateway:
    """One gateway: `front` is where sleds reach it, `links` lead to those that it dials, by their names."""

    def __init__(self, setting: Setting, name: str) -> None:
        self.name = name
        self.data = setting.directory / name
        self.front, self._readers_way = Proxy(), Proxy(blind=True)
        self.links: dict[str, Proxy] = {}
        self.process: Process | None = None
        self.starts = 0
        self._setting = setting
        self._entrances = [self.front, self._readers_way]
        self.reader = StreamReader(self._readers_way.url, keep=False)

    def dial(self, other: Gateway) -> None:
        """From its next start on."""
        self.links[other.name] = way = Proxy(blind=True)
        other._entrances.append(way)

    @property
    def proxies(self) -> list[Proxy]:
        return [self.front, self._readers_way, *self.links.values()]

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    @property
    def url(self) -> str:
        """The gateway itself, past the proxies."""
        return f"http://127.0.0.1:{self._readers_way.target}"

    def launch(self) -> Process:
        """Start it on a free port; it may not come to listen."""
        self.starts += 1
        peers = [f"--peer={way.url}" for way in self.links.values()]
        arguments = ("--port", "0", "--data-dir", str(self.data), *peers)
        self.process = Process("gateway", *arguments, planted=self._setting.planted_limits)
        return self.process

    def start(self) -> None:
        self.launch()
        self.opened()

    def opened(self) -> None:
        """Wait until it listens, and lead everyone there. Raises `EndedError` where it ended."""
        port = int(self.running.find(r"http://127\.0\.0\.1:(\d+)", 60)[1])
        for way in self._entrances:
            way.target = port

    def kill(self) -> None:
        self._closed()
        self.running.kill()

    def end(self) -> None:
        """Let it end by itself, so that all it holds lies in its main file."""
        self._closed()
        assert self.running.terminate(20) == 0, self.running.output

    def lose_disk(self) -> None:
        """It must be dead."""
        shutil.rmtree(self.data)

    def digests(self) -> Digests:
        answer = get(f"{self.url}/gateway/digests")
        return {
            (each["sled_id"], each["epoch"]): (each["last_seq"], each["digest"])
            for each in answer["sequences"]
            if each["last_seq"]
        }

    def quarantined(self) -> list[dict[str, Any]]:
        """What it says it keeps in quarantine."""
        return [
            lost
            for project in get(f"{self.url}/gateway/projects")["projects"]
            for lost in project["quarantined"]
        ]

    def stop(self) -> None:
        self.reader.enough.set()
        if self.process is not None:
            self.process.kill()
        for way in self.proxies:
            way.stop()

    def _closed(self) -> None:
        for way in self._entrances:
            way.target = None


class Mesh:
    """Gateways in a chain or a ring, and sleds that each prefer another of them."""

    def __init__(self, setting: Setting, gateways: int, shape: Shape) -> None:
        self.setting = setting
        self.journals = setting.directory / "journals"
        self.gateways = [Gateway(setting, f"gateway{number}") for number in range(gateways)]
        for one, other in zip(self.gateways[1:], self.gateways, strict=False):
            one.dial(other)
        if shape == "ring":
            self.gateways[0].dial(self.gateways[-1])
        self.names = [f"sled{number}" for number in range(setting.sizes.sleds)]
        projects = [setting.directory / "projects" / name for name in self.names]
        for project in projects:
            (project / ".huskies").mkdir(parents=True)
        size = min(setting.sizes.sleds_per_process, max(1, len(projects) // gateways))
        self.sleds: list[SledProcess] = []
        for at in range(0, len(projects), size):
            first = len(self.sleds) % gateways
            urls = [one.front.url for one in (*self.gateways[first:], *self.gateways[:first])]
            self.sleds.append(SledProcess(setting, self.journals, urls, projects[at : at + size]))
        # Acknowledged by a gateway whose branch of them lost against another.
        self.excused: dict[str, set[int]] = {}

    def start(self) -> None:
        for gateway in self.gateways:
            gateway.start()
            gateway.reader.start()
        for sled in self.sleds:
            sled.start()

    # --- links -------------------------------------------------------------------------------------

    def links_of(self, gateway: Gateway | None) -> list[Proxy]:
        """Those that lead to or from it; all where it is None."""
        return [
            way
            for one in self.gateways
            for name, way in one.links.items()
            if gateway is None or gateway is one or gateway.name == name
        ]

    def cut(self, gateway: Gateway | None, mode: Literal["refuse", "black hole"]) -> None:
        """Cut it off from the other gateways; None: each from each."""
        for way in self.links_of(gateway):
            way.mode = mode
            if mode == "refuse":
                way.reset()

    def heal(self) -> None:
        """What fell into a black hole stays there: gateways have to get out by themselves."""
        for way in self.links_of(None):
            way.mode = "pass"

    # --- sleds -------------------------------------------------------------------------------------

    def aim(self, goal: int) -> None:
        for sled in self.sleds:
            sled.aim(goal)

    def drain(self) -> None:
        for sled in self.sleds:
            sled.reached()
        until(lambda: drained(self.sleds), "the outboxes drain", HEALING)

    # --- the end -----------------------------------------------------------------------------------

    def converge(self, gateways: Sequence[Gateway] | None = None) -> None:
        """Wait until these, or all, hold the same of every sequence."""
        compared = gateways or self.gateways

        def same() -> bool:
            first, *others = [gateway.digests() for gateway in compared]
            return all(other == first for other in others)

        until(same, "the gateways come to hold the same", HEALING)

    def settle(self) -> None:
        """Heal, drain, and wait until all gateways and their subscribers have everything."""
        self.heal()
        self.drain()
        self.converge()

    def judge(self) -> None:
        """Checker C for each gateway, after everything healed and drained."""
        self.settle()
        attempted = {name: Journal(self.journals, name).all_attempted() for name in self.names}
        acknowledged = {
            name: [
                told.number
                for told in Journal(self.journals, name).all_acknowledged()
                if told.number not in self.excused.get(name, ())
            ]
            for name in self.names
        }
        report = self.setting.report
        report.count("attempted", sum(map(len, attempted.values())))
        report.count("acknowledged", sum(map(len, acknowledged.values())))
        for gateway in self.gateways:
            log = whole_log(gateway.url)
            report.count(f"found at {gateway.name}", len(log))
            self._judge_log(log, attempted, acknowledged)
            self._judge_reader(gateway, [event["cursor"] for event in log])

    def _judge_log(
        self,
        log: Sequence[dict[str, Any]],
        attempted: Mapping[str, list[int]],
        acknowledged: Mapping[str, list[int]],
    ) -> None:
        verdict = check(attempted, acknowledged, [value_of(event) for event in log])
        if verdict.lost:
            raise LossFoundError(verdict)
        assert verdict.ok, verdict
        identities = check_identities(
            [Identity(event["sled_id"], event["epoch"], event["seq"]) for event in log]
        )
        assert identities.ok, identities

    def _judge_reader(self, gateway: Gateway, cursors: list[str]) -> None:
        reader = gateway.reader
        until(
            lambda: reader.cursors[-1:] == cursors[-1:], f"the subscriber of {gateway.name} has all", HEALING
        )
        # What it saw before another branch won; positions never change.
        known, hidden = (
            set(cursors),
            sum(lost["last_seq"] + 1 - lost["first_seq"] for lost in gateway.quarantined()),
        )
        seen = [cursor for cursor in reader.cursors if cursor in known]
        problem = check_reader(cursors, reader.opened_at, seen)
        assert not problem, f"the subscriber of {gateway.name}: {problem}"
        assert len(reader.cursors) - len(seen) <= hidden, (
            f"the subscriber of {gateway.name} saw what is not there"
        )
        assert not reader.other, f"the subscriber of {gateway.name}: {reader.other}"
        self.setting.report.count("seen by subscribers", len(reader.cursors))

    def stop(self) -> None:
        for sled in self.sleds:
            if sled.process is not None:
                sled.kill()
        for gateway in self.gateways:
            gateway.stop()


@contextmanager
def running_mesh(setting: Setting, gateways: int, shape: Shape) -> Iterator[Mesh]:
    """A mesh whose processes end with the block."""
    mesh = Mesh(setting, gateways, shape)
    try:
        yield mesh
    finally:
        mesh.stop()
