"""Fixtures: a command in this process, and real processes whose output a test waits for."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import pytest
from tests.support.gateway_process import Gateway
from tests.support.ports import reserved

from huskies import config, logs
from huskies.cli import main

if TYPE_CHECKING:
    from tests.support.terminal import Terminal

SOURCES = Path(__file__).parents[2] / "src"
# A bound for what hangs, and no measurement: the machine may be busy with other tests.
PATIENCE = 60.0


class Outcome(NamedTuple):
    status: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


class Process:
    """A running `huskies`; its output is read as it comes, so that a test can wait for a line."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        cwd: Path,
        program: Sequence[str] = ("huskies",),
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *program, *arguments],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # What is to be kept for it until the end of the test.
        self.kept = ExitStack()
        self.seen: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._lines: dict[str, queue.SimpleQueue[str | None]] = {}
        self._readers: list[threading.Thread] = []
        for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            assert stream is not None
            self._lines[name] = queue.SimpleQueue()
            reader = threading.Thread(target=self._read, args=(stream, self._lines[name]))
            reader.start()
            self._readers.append(reader)

    @staticmethod
    def _read(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    def line(self, containing: str = "", stream: str = "stdout") -> str:
        """The next line that contains the text; fails when there can be none any more."""
        while (line := self._lines[stream].get(timeout=PATIENCE)) is not None:
            self.seen[stream].append(line)
            if containing in line:
                return line
        raise AssertionError(f"no line with {containing!r} on {stream}; seen: {self.seen}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int | None = signal.SIGTERM, patience: float = PATIENCE) -> Outcome:
        """Send the signal, wait for the end, and take what output is left."""
        if number is not None:
            self._process.send_signal(number)
        status = self._process.wait(patience)
        for name, lines in self._lines.items():
            while (line := lines.get(timeout=PATIENCE)) is not None:
                self.seen[name].append(line)
        return Outcome(status, "\n".join(self.seen["stdout"]), "\n".join(self.seen["stderr"]))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        self.kept.close()


Start = Callable[..., Process]


@pytest.fixture(autouse=True)
def _nothing_left_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("HUSKIES_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(logs, "_registered", set())
    monkeypatch.setattr(config, "_warned", set())


@pytest.fixture
def huskies(capsys: pytest.CaptureFixture[str]) -> Run:
    """One command line, carried out in this process."""

    def run(*arguments: str | Path) -> Outcome:
        status = main.run([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `huskies` with these arguments; ended with the test."""
    processes: list[Process] = []

    def start_one(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> Process:
        environment = {**os.environ, "PYTHONPATH": str(SOURCES), **variables}
        processes.append(Process(tuple(map(str, arguments)), environment, cwd or tmp_path))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()


Open = Callable[..., "Terminal"]


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Start `huskies` under a pseudo-terminal; ended with the test."""
    from tests.support.terminal import Terminal  # noqa: PLC0415 - pseudo-terminals are POSIX's alone

    terminals: list[Terminal] = []

    def open_one(*arguments: str | Path, columns: int = 80, rows: int = 24, **variables: str) -> Terminal:
        given = tuple(map(str, arguments))
        terminals.append(Terminal(*given, columns=columns, rows=rows, **variables))
        return terminals[-1]

    yield open_one
    for each in terminals:
        each.close()


@pytest.fixture
def unused_tcp_port() -> Iterator[int]:
    """At which nobody listens, until the end of the test."""
    with reserved() as port:
        yield port


@pytest.fixture
def gateway(start: Start, tmp_path: Path) -> Gateway:
    """A gateway that has no projects yet."""
    return Gateway(start, tmp_path / "data")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is laid out, and nothing more."""
    directory = tmp_path / "web-shop"
    (directory / ".huskies" / "work").mkdir(parents=True)
    return directory
