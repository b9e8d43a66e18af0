"""Two gateways and a sled under load: the first is killed, the second takes over, the first comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.checker import Identity, check, check_identities
from faults.processes import Process, get, post, until, whole_log

EVENTS = 60


class Publisher(threading.Thread):
    """Publishes numbered events over a sled's HTTP; `confirmed` are those that it answered for."""

    def __init__(self, api: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{api}/api/events"
        self.attempted: list[int] = []
        self.confirmed: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            number = len(self.attempted) + 1
            self.attempted.append(number)
            event = {"type": "story_blocked", "story_id": "1_story_x", "reason": str(number)}
            if post(self._url, event)[0] == 201:
                self.confirmed.append(number)

    def go_on(self) -> None:
        """Wait until there are `EVENTS` more."""
        goal = len(self.confirmed) + EVENTS
        until(lambda: len(self.confirmed) >= goal, "the load goes on")


class Setting:
    """The processes of one test; whatever runs at its end is killed."""

    def __init__(self, directory: Path, free_port: Callable[[], int]) -> None:
        self._directory = directory
        self._ports = {"a": free_port(), "b": free_port()}
        self._running: list[Process] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def gateway(self, name: str) -> Process:
        port, data = str(self._ports[name]), str(self._directory / name)
        process = self._started(Process("gateway", "--port", port, "--data-dir", data))
        process.find(self.url(name))
        return process

    def sled(self) -> str:
        """Where it answers."""
        project = self._directory / "shop"
        (project / ".huskies").mkdir(parents=True)
        urls = f"{self.url('a')}, {self.url('b')}"
        process = self._started(
            Process(
                *("sled", str(project), "--port", "0"),
                env={"HUSKIES_GATEWAY_URL": urls},
                planted=("--limit", "RETURN_INTERVAL=0.2", "--limit", "BACKOFF_FIRST=0.1"),
            )
        )
        assert process.find("relays to +(.*)")[1] == urls
        return process.find(r"answers at (http://127\.0\.0\.1:\d+)")[1]

    def _started(self, process: Process) -> Process:
        self._running.append(process)
        return process

    def end(self) -> None:
        for process in self._running:
            if process.popen.poll() is None:
                process.kill()


@contextmanager
def setting(directory: Path, free_port: Callable[[], int]) -> Iterator[Setting]:
    made = Setting(directory, free_port)
    try:
        yield made
    finally:
        made.end()


def numbers(log: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(entry["project"], int(entry["event"]["reason"])) for entry in log]


def identities(log: list[dict[str, Any]]) -> list[Identity]:
    return [Identity(entry["sled_id"], entry["epoch"], entry["seq"]) for entry in log]


def test_the_first_gateway_is_killed_under_load_and_returned_to(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with setting(tmp_path, free_port) as world:
        first = world.gateway("a")
        world.gateway("b")
        api = world.sled()
        publisher = Publisher(api)
        publisher.start()

        def relays_to(name: str) -> bool:
            health = get(f"{api}/healthz")
            return bool(health["gateway"] == world.url(name))

        until(lambda: relays_to("a"), "the first of the list is used")
        publisher.go_on()
        first.kill()
        until(lambda: relays_to("b"), "the second takes over")
        publisher.go_on()
        until(lambda: len(whole_log(world.url("b"))) >= EVENTS, "it gets the events")
        world.gateway("a")
        until(lambda: relays_to("a"), "the first is returned to")
        publisher.go_on()
        publisher.enough.set()
        publisher.join(30)
        until(lambda: relays_to("a") and get(f"{api}/healthz")["unacked"] == 0, "all is delivered")
        logs = {name: whole_log(world.url(name)) for name in ("a", "b")}
    verdict = check({"shop": publisher.attempted}, {"shop": publisher.confirmed}, numbers(logs["a"]))
    assert verdict.ok, verdict
    for log in logs.values():
        assert check_identities(identities(log)).ok
    # What both hold is the same under the same identities: together they hold nothing twice.
    named = [dict(zip(identities(log), numbers(log), strict=True)) for log in logs.values()]
    assert named[1].items() <= named[0].items()
    assert len({identity.epoch for identity in named[0]}) == 1
