"""The processes that are measured: started as users start them, ended by their handle."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

_STOP_LIMIT: Final = 20.0
_START_LIMIT: Final = 60.0
_POLL: Final = 0.002
_BIN: Final = Path(sys.executable).parent


def huskies_command() -> list[str]:
    """`huskies` as installed here, or the module where it is not."""
    script = _BIN / "huskies"
    return [str(script)] if script.exists() else [sys.executable, "-m", "huskies"]


def find_program(name: str) -> str | None:
    """A program of this environment or of the machine."""
    return shutil.which(name, path=os.pathsep.join((str(_BIN), os.environ.get("PATH", ""))))


def free_port() -> int:
    """A port that is free now, for servers that cannot choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def until(ready: Callable[[], bool], what: str, seconds: float = _START_LIMIT, poll: float = _POLL) -> None:
    deadline = time.perf_counter() + seconds
    while not ready():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(poll)


class Process:
    """One started process; its output goes to a file."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile("w+b"), (directory / "stderr.log").open("ab")]  # noqa: SIM115 - closed below
        env = {key: value for key, value in os.environ.items() if not key.startswith("HUSKIES_")}
        self.name = Path(command[0]).name
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._files[0], stderr=self._files[1], env=env
        )

    @property
    def output(self) -> str:
        return os.pread(self._files[0].fileno(), 1 << 20, 0).decode(errors="replace")

    def find(self, pattern: str, seconds: float = _START_LIMIT) -> re.Match[str]:
        """The first match in what the process prints, waited for."""
        self.stays_up_until(lambda: re.search(pattern, self.output) is not None, seconds)
        match = re.search(pattern, self.output)
        assert match is not None
        return match

    def stays_up_until(self, ready: Callable[[], bool], seconds: float = _START_LIMIT) -> None:
        """Wait for something that the process does; raises when it ends before."""

        def checked() -> bool:
            ended = self.popen.poll() is not None
            if ready():
                return True
            if ended:
                raise RuntimeError(f"{self.name} ended with {self.popen.returncode}: {self.output}")
            return False

        until(checked, self.name, seconds)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def stop(self) -> None:
        """SIGTERM, and after a while SIGKILL."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(_STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(_STOP_LIMIT)
        assert self.popen.stdin is not None
        for file in (*self._files, self.popen.stdin):
            file.close()

    def rss_kib(self) -> int | None:
        """VmRSS; None where there is no /proc."""
        try:
            status = Path(f"/proc/{self.popen.pid}/status").read_text("ascii")
        except OSError:
            return None
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) if match else None


@contextmanager
def running(command: Sequence[str], directory: Path) -> Iterator[Process]:
    process = Process(command, directory)
    try:
        yield process
    finally:
        process.stop()


class Gateway:
    """A running gateway; `startup` is the seconds from its start until /readyz answered 200."""

    def __init__(self, process: Process, url: str, startup: float) -> None:
        self.process = process
        self.url = url
        self.startup = startup

    def metric(self, name: str) -> int:
        """A metric without labels."""
        match = re.search(rf"^{name} ([0-9.e+]+)$", get(self.url, "/metrics")[1].decode(), re.MULTILINE)
        return int(float(match[1])) if match else 0


@contextmanager
def gateway(
    data_dir: Path, arguments: Sequence[str] = (), huskies: Sequence[str] | None = None
) -> Iterator[Gateway]:
    """`huskies gateway` on a free port, ready; `huskies` is the command where it is not the usual one."""
    started = time.perf_counter()
    command = [*(huskies or huskies_command()), "gateway", "--port", "0", "--data-dir", str(data_dir)]
    command += arguments
    with running(command, data_dir.with_name(data_dir.name + "-output")) as process:
        url = process.find(r"(http://\S+)")[1]
        until(lambda: get(url, "/readyz")[0] == 200, "/readyz")
        yield Gateway(process, url, time.perf_counter() - started)


def get(url: str, path: str, seconds: float = 10.0) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextmanager
def subscriber(
    url: str, expected: int, project: str | None, directory: Path
) -> Iterator[Callable[[], float]]:
    """A counting SSE reader; call what it gives for when the last event came.

    The call raises `AssertionError` where events are missing or doubled.
    """
    command = [sys.executable, "-m", "bench.subscriber", url, str(expected), *([project] if project else [])]
    with running(command, directory) as process:
        process.find("open")

        def finished() -> float:
            answer = json.loads(process.find(r"\{.*\}\n", 120)[0])
            if answer["events"] != expected:
                raise AssertionError(f"a subscriber got {answer['events']} events of {expected}")
            last: float = answer["last"]
            return last

        yield finished
