from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from huskies import limits
from huskies.cli import runtime
from huskies.cli.runtime import Services, run
from huskies.errors import ConfigError, HuskiesError, StoreError


class Server:
    """A server that does what a test tells it to, and writes down what was done with it."""

    def __init__(
        self, name: str, done: list[str], *, fails: Exception | None = None, ends: bool = False
    ) -> None:
        self._name = name
        self._done = done
        self._fails = fails
        self._ends = ends

    async def start(self) -> None:
        self._done.append(f"start {self._name}")
        if isinstance(self._fails, ConfigError):
            raise self._fails

    async def stop(self) -> None:
        self._done.append(f"stop {self._name}")
        if isinstance(self._fails, OSError):
            raise self._fails

    async def wait(self) -> None:
        if isinstance(self._fails, StoreError):
            raise self._fails
        if not self._ends:
            await asyncio.Event().wait()


def serve(*servers: Server, number: signal.Signals | None = None) -> None:
    async def launch(services: Services) -> None:
        for server in servers:
            await services.start(server)
        if number is not None:
            os.kill(os.getpid(), number)

    run(launch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_signal_stops_everything_the_first_started_last(
    number: signal.Signals, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop does not exist for this platform")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    done: list[str] = []
    before = signal.getsignal(number)
    serve(Server("gateway", done), Server("a", done), Server("b", done), number=number)
    assert done == ["start gateway", "start a", "start b", "stop a", "stop b", "stop gateway"]
    assert signal.getsignal(number) == before


def test_a_signal_during_the_start_stops_what_was_started() -> None:
    done: list[str] = []

    async def launch(services: Services) -> None:
        await services.start(Server("gateway", done))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    run(launch)
    assert done == ["start gateway", "stop gateway"]


def test_a_server_that_cannot_start_stops_those_before_it() -> None:
    done: list[str] = []
    with pytest.raises(ConfigError, match="--port: in use"):
        serve(Server("gateway", done), Server("a", done, fails=ConfigError("--port", "in use")))
    assert done == ["start gateway", "start a", "stop gateway"]


def test_a_server_that_fails_stops_all_and_says_why() -> None:
    done: list[str] = []
    with pytest.raises(StoreError, match="disk full"):
        serve(Server("gateway", done), Server("a", done, fails=StoreError("disk full")))
    assert done[2:] == ["stop a", "stop gateway"]


def test_a_server_that_just_ends_is_a_failure() -> None:
    done: list[str] = []
    with pytest.raises(HuskiesError, match="ended without being told to"):
        serve(Server("gateway", done, ends=True))
    assert done[1:] == ["stop gateway"]


def test_a_server_that_cannot_stop_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    with caplog.at_level(logging.ERROR):
        serve(Server("gateway", done), Server("a", done, fails=OSError("stuck")), number=signal.SIGTERM)
    assert done[2:] == ["stop a", "stop gateway"]
    assert "could not stop cleanly: stuck" in caplog.text


def test_the_end_comes_within_five_seconds_whatever_hangs() -> None:
    assert runtime._STOP_LIMIT < limits.SHUTDOWN_LIMIT == 5


HANGING = """
import asyncio, os, signal, time
from huskies.cli import runtime

runtime._STOP_LIMIT = 0.1

class Hanging:
    async def start(self):
        os.kill(os.getpid(), signal.SIGTERM)
    async def stop(self):
        time.sleep(60)
    async def wait(self):
        await asyncio.Event().wait()

runtime.run(lambda services: services.start(Hanging()))
"""


def test_a_server_that_hangs_is_ended_by_force() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING],
        env={**os.environ, "PYTHONPATH": str(Path(runtime.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "huskies: not stopped within 0.1 s, ended by force\n")
