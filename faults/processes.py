"""Real huskies processes: started on free ports, waited for by what they print, ended by their id."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 20.0


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The condition's value once it is true; fails after `patience` seconds, naming what did not come."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not happen in {patience:.0f} s: {what}")


class Process:
    """A `huskies` command whose output is read as it comes."""

    def __init__(self, *args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HUSKIES_")}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "huskies", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**clean, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def find(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """The first match in what the process prints, waited for."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output)
            if match is None and self.popen.poll() is not None:
                self._reader.join(1)
                match = re.search(pattern, self.output)
                assert match is not None, f"ended with {self.popen.returncode}: {self.output}"
            return match

        match: re.Match[str] = until(found, f"{pattern!r} in the output", patience)
        return match

    def kill(self) -> None:
        self.popen.kill()
        self._close()

    def terminate(self, patience: float = 5.0) -> int:
        """SIGTERM; the exit status, within `patience` seconds."""
        self.popen.send_signal(signal.SIGTERM)
        status = self.popen.wait(patience)
        self._close()
        return status

    def _close(self) -> None:
        self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


@contextmanager
def running(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[Process]:
    process = Process(*args, env=env, cwd=cwd)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.kill()
        else:
            process._close()


def get(url: str, **headers: str) -> Any:
    """The JSON that answers a GET."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def post(url: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON that answer a POST; 0 where no one answered."""
    data = b"" if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method="POST", headers={"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (OSError, ValueError):
        return 0, None


def whole_log(url: str, query: str = "") -> list[dict[str, Any]]:
    """Every event of a gateway, page by page."""
    events: list[dict[str, Any]] = []
    after: str | None = "0"
    while after is not None:
        page = get(f"{url}/gateway/events?limit=1000&after={after}{query}")
        events += page["events"]
        after = page["next"]
    return events


def gateway_url(process: Process) -> str:
    return process.find(r"http://127\.0\.0\.1:\d+")[0]


def free_port() -> int:
    """A port that a process which is restarted can take again."""
    import socket  # noqa: PLC0415 - here alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
