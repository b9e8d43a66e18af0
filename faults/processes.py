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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE = 20.0
_ROOT = Path(__file__).parent.parent


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The condition's value once it is true; fails after `patience` seconds, naming what did not come."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not happen in {patience:.0f} s: {what}")


class EndedError(AssertionError):
    """A process has ended that was to do something."""


class Process:
    """A `huskies` command whose output is read as it comes; `planted` are options of `faults.process`."""

    def __init__(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        planted: Sequence[str] | None = None,
    ) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HUSKIES_")}
        command = ["huskies"] if planted is None else ["faults.process", *planted, "--"]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *command, *args],
            stdin=subprocess.DEVNULL if planted is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **clean,
                "PYTHONUNBUFFERED": "1",
                **({} if planted is None else {"PYTHONPATH": _python_path()}),
                **(env or {}),
            },
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
                if match is None:
                    raise EndedError(f"ended with {self.popen.returncode}: {self.output}")
            return match

        match: re.Match[str] = until(found, f"{pattern!r} in the output", patience)
        return match

    def tell(self, line: str) -> None:
        """Write a line to the standard input of a process that was started with `planted`."""
        assert self.popen.stdin is not None
        with suppress(BrokenPipeError):
            self.popen.stdin.write(f"{line}\n")
            self.popen.stdin.flush()

    def kill(self) -> None:
        self.popen.kill()
        self.close()

    def wait(self, patience: float = PATIENCE) -> int:
        """The exit status of a process that ends by itself, within `patience` seconds."""
        status = self.popen.wait(patience)
        self.close()
        return status

    def pause(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def memory_kib(self) -> int:
        """VmRSS; 0 where there is no /proc."""
        match = re.search(r"VmRSS:\s+(\d+) kB", self._proc("status"))
        return int(match[1]) if match else 0

    def descriptors(self) -> int:
        """How many files are open; 0 where there is no /proc."""
        try:
            return len(list(Path(f"/proc/{self.popen.pid}/fd").iterdir()))
        except OSError:
            return 0

    def _proc(self, name: str) -> str:
        try:
            return Path(f"/proc/{self.popen.pid}/{name}").read_text("ascii")
        except OSError:
            return ""

    def terminate(self, patience: float = 5.0) -> int:
        """SIGTERM; the exit status, within `patience` seconds."""
        self.popen.send_signal(signal.SIGTERM)
        status = self.popen.wait(patience)
        self.close()
        return status

    def close(self) -> None:
        """Take the last output of a process that has ended."""
        self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        if self.popen.stdin is not None:
            with suppress(BrokenPipeError):
                self.popen.stdin.close()


def _python_path() -> str:
    """So that a process finds `faults`, wherever it is started."""
    return os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))


@contextmanager
def running(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[Process]:
    process = Process(*args, env=env, cwd=cwd)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.kill()
        else:
            process.close()


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


def whole_log(url: str, *, after: str | None = "0") -> list[dict[str, Any]]:
    """Every event of a gateway, or those after a cursor, page by page."""
    events: list[dict[str, Any]] = []
    while after is not None:
        page = get(f"{url}/gateway/events?limit=1000&after={after}")
        events += page["events"]
        after = page["next"]
    return events


def gateway_url(process: Process) -> str:
    return process.find(r"http://127\.0\.0\.1:\d+")[0]
