"""One simulation: the loop, the network, who lives where, and what is noted of it."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from huskies.errors import StoreError
from huskies.testing.fleet import GatewayNode, Node, ReaderNode, SledNode, draw_subset
from huskies.testing.loop import CURRENT, SimulatedLoop
from huskies.testing.network import Network

_GATEWAYS: Final = (2, 2, 2, 3)
_SLEDS: Final = (1, 2, 2, 3)
_MUTUAL: Final = 0.75


class World:
    """Everything of one seed, which lives in `directory`; `trace` is called with each line noted."""

    def __init__(self, seed: int, directory: Path, trace: Callable[[str], None] | None = None) -> None:
        self._seed = seed
        self.directory = directory
        self._trace = trace
        self._hash = hashlib.sha256()
        # What no program here asks of a loop raises `NotImplementedError`.
        self.loop = SimulatedLoop(self.random_of("loop"))  # type: ignore[abstract]
        self.network = self.loop.network = Network(self.loop, self.random_of("network"))
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.gateways: dict[str, GatewayNode] = {}
        self.sleds: dict[str, SledNode] = {}
        self.readers: dict[str, ReaderNode] = {}
        # Whether gateways that are connected name each other: one that lost its disk then knows whom to ask.
        self.are_mutual = True
        # Acknowledged, and allowed to be in no log: (sled, number).
        self.excused: set[tuple[str, int]] = set()
        # Allowed to be in a log under two epochs; see `faults`.
        self.may_double: set[tuple[str, int]] = set()

    def populate(self) -> None:
        """Draw who there is, and start everyone."""
        random = self.random_of("population")
        for number in range(1, random.choice(_GATEWAYS) + 1):
            name = f"g{number}"
            self.gateways[name] = GatewayNode(self, name, f"10.0.0.{number}")
            self.readers[f"r{number}"] = ReaderNode(
                self, f"r{number}", f"10.0.2.{number}", self.gateways[name]
            )
        self._connect_gateways(random)
        urls = [gateway.url for gateway in self.gateways.values()]
        for number in range(1, random.choice(_SLEDS) + 1):
            name = f"s{number}"
            mine = draw_subset(random, urls)
            copies = random.randint(1, len(urls))
            self.sleds[name] = SledNode(self, name, f"10.0.1.{number}", mine, copies)
        for node in self.nodes:
            node.boot()

    def _connect_gateways(self, random: Random) -> None:
        """Any graph in which each reaches each; now and then only one of two names the other."""
        gateways = list(self.gateways.values())
        dialed: dict[GatewayNode, dict[str, None]] = {gateway: {} for gateway in gateways}
        for number, gateway in enumerate(gateways[1:], 1):
            pair = [gateway, random.choice(gateways[:number])]
            random.shuffle(pair)
            dialed[pair[0]][pair[1].url] = None
        if random.random() < 0.5:  # noqa: PLR2004 - as often as not
            one, other = random.sample(gateways, 2)
            dialed[one][other.url] = None
        self.are_mutual = random.random() < _MUTUAL
        if self.are_mutual:
            for gateway, urls in list(dialed.items()):
                for other in gateways:
                    if other.url in urls:
                        dialed[other][gateway.url] = None
        for gateway, urls in dialed.items():
            gateway.peers = tuple(urls)

    def end(self) -> None:
        """Everyone is gone."""
        for node in self.nodes:
            node.held_down = True
            node.kill()
        self.loop.close()

    @property
    def nodes(self) -> list[Node]:
        """Everyone."""
        return [*self.gateways.values(), *self.sleds.values(), *self.readers.values()]

    # --- what is drawn, and what is noted ----------------------------------------------------------

    def random_of(self, topic: str) -> Random:
        """Chance of its own for each topic, so that one does not depend on how often another draws."""
        return Random(f"{self._seed} {topic}")  # noqa: S311 - must be repeatable

    def note(self, text: str) -> None:
        """Something happened that must happen again when the seed is run again."""
        line = f"{self.loop.time():12.6f} {text}"
        self._hash.update(line.encode() + b"\n")
        if self._trace is not None:
            self._trace(line)

    def show(self, text: str) -> None:
        """Something for a person who reads the trace."""
        if self._trace is not None:
            shown = text.replace(str(self.directory), "…")
            self._trace(f"{self.loop.time():12.6f} {shown}")

    @property
    def trace_hash(self) -> str:
        """The digest of all that was noted, and of how much happened in between."""
        ends = f"{self.loop.callbacks} {self.network.bytes}"
        digest = self._hash.copy()
        digest.update(ends.encode())
        return digest.hexdigest()

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] += 1

    def violated(self, text: str) -> None:
        """Something that must never be."""
        self.note(f"VIOLATION {text}")
        self.violations.append(text)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Let the driver do something after so many seconds."""
        self.loop.call_later(seconds, what, context=self.loop.root.context)


class LogWatch(logging.Handler):
    """Shows the programs' logs in the trace, and takes an unexpected error in them for a violation."""

    def __init__(self, world: World, *, shows: bool) -> None:
        super().__init__(logging.INFO if shows else logging.ERROR)
        self._world = world
        self._shows = shows

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line."""
        process = CURRENT.get(self._world.loop.root)
        if not process.alive:
            # Being thrown away; it says nothing any more.
            return
        text = f"{process.name}: {record.levelname.lower()}: {record.getMessage()}"
        error = None if record.exc_info is None else record.exc_info[1]
        # aiohttp says so of handlers whose client went away, and of those it gives up on while it stops.
        if error is not None and not isinstance(error, StoreError) and not record.name.startswith("aiohttp"):
            self._world.violated(f"{text}: {error!r}")
        elif self._shows:
            self._world.show(text)
