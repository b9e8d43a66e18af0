"""SIGKILL of either side under load: nothing acknowledged is lost, nothing is doubled (FAULTS 1 and 2)."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from faults.checker import check
from faults.processes import Process, free_port, get, post, until, whole_log

SLEDS = 3
KILLS = 6
EVENTS_BETWEEN_KILLS = 60


class Publisher(threading.Thread):
    """Publishes numbered events over a sled's HTTP, and writes down what was tried and what was confirmed."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(daemon=True)
        self.project = name
        self.url = f"http://127.0.0.1:{port}/api/events"
        self.attempted: list[int] = []
        self.acknowledged: list[int] = []
        self.enough = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            self.attempted.append(number)
            status, _ = post(
                self.url, {"type": "story_blocked", "story_id": f"{number}_story_x", "reason": str(number)}
            )
            if status == 201:
                self.acknowledged.append(number)


@pytest.fixture
def ports() -> list[int]:
    return [free_port() for _ in range(SLEDS + 1)]


def test_sigkill_of_gateway_and_sleds_under_load(tmp_path: Path, ports: list[int]) -> None:
    rng = random.Random(7)  # noqa: S311 - a run must be repeatable
    gateway_port, *sled_ports = ports
    url = f"http://127.0.0.1:{gateway_port}"

    def start_gateway() -> Process:
        process = Process("gateway", "--port", str(gateway_port), "--data-dir", str(tmp_path / "gateway"))
        process.find(url)
        return process

    def start_sled(number: int) -> Process:
        project = tmp_path / f"sled{number}"
        (project / ".huskies").mkdir(parents=True, exist_ok=True)
        process = Process("sled", str(project), "--gateway-url", url, "--port", str(sled_ports[number]))
        process.find(f"http://127.0.0.1:{sled_ports[number]}")
        return process

    gateway = start_gateway()
    sleds = [start_sled(number) for number in range(SLEDS)]
    publishers = [Publisher(f"sled{number}", port) for number, port in enumerate(sled_ports)]
    try:
        for publisher in publishers:
            publisher.start()
        for _ in range(KILLS):
            goal = sum(len(p.acknowledged) for p in publishers) + EVENTS_BETWEEN_KILLS
            until(lambda goal=goal: sum(len(p.acknowledged) for p in publishers) >= goal, "the load goes on")  # type: ignore[misc]  # mypy cannot infer a lambda's default
            if rng.random() < 0.5:
                gateway.kill()
                gateway = start_gateway()
            else:
                number = rng.randrange(SLEDS)
                sleds[number].kill()
                sleds[number] = start_sled(number)
        for publisher in publishers:
            publisher.enough.set()
        for publisher in publishers:
            publisher.join(30)
        until(lambda: _drained(sled_ports), "all outboxes drain", 60)
        log = [(entry["project"], int(entry["event"]["reason"])) for entry in whole_log(url)]
    finally:
        for process in (gateway, *sleds):
            process.kill()
    verdict = check(
        {p.project: p.attempted for p in publishers}, {p.project: p.acknowledged for p in publishers}, log
    )
    print(  # noqa: T201 - a fault test says what it did
        f"{KILLS} kills, {sum(len(p.attempted) for p in publishers)} attempted, {len(log)} in the log"
    )
    assert verdict.ok, verdict


def _drained(sled_ports: list[int]) -> bool:
    states = [get(f"http://127.0.0.1:{port}/healthz") for port in sled_ports]
    return all(state["relay"] == "connected" and state["unacked"] == 0 for state in states)
