"""A Docker engine of the tests' own: its network, directory and socket are its own, and gone afterwards.

One serves all workers of a run; the first that needs it starts it, the last one ends it. It changes no packet
filter, so that it and another engine of this machine do not meet; containers reach this machine, and nothing
beyond it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import docker
from filelock import FileLock
from platformdirs import user_cache_path

BASE_IMAGE: Final = "huskies-tests-debian"
# Debian has programs where only root's PATH looks.
PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# Which Debian has the Python that runs here: then what is installed here fits there.
_SUITES: Final = {(3, 11): "bookworm", (3, 13): "trixie"}
_PACKAGES: Final = ("python3", "python3-venv", "python3-pip", "git", "openssh-server", "ca-certificates")
_PROGRAMS: Final = ("dockerd", "docker", "debootstrap", "git", "ssh", "ssh-keygen", "ip")
_PATIENCE: Final = 60.0
_SUBNETS: Final = 250
_PREFIX: Final = "huskies-engine-"
_STATE: Final = "state.json"


def missing() -> str | None:
    """What keeps an engine from being started here, in one line; None: nothing."""
    lacking = [program for program in _PROGRAMS if shutil.which(program, path=PATH) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed: `make needs` installs it"
    if os.geteuid() != 0:
        return "an engine of the tests' own takes root"
    if sys.version_info[:2] not in _SUITES:
        return "no Debian has this Python; use 3.11 or 3.13 for the tests with an engine"
    return None


@contextmanager
def shared_engine(directory: Path) -> Iterator[str]:
    """DOCKER_HOST of an engine that has `BASE_IMAGE`; `directory` is the same for all workers."""
    record, lock = directory / "engine.json", FileLock(directory / "engine.lock")
    with lock:
        state = json.loads(record.read_text()) if record.exists() else _start()
        state["users"].append(os.getpid())
        _write(record, state)
    try:
        yield state["host"]
    finally:
        with lock:
            state = json.loads(record.read_text())
            state["users"].remove(os.getpid())
            if state["users"]:
                _write(record, state)
            else:
                record.unlink()
                _stop(state)


def _write(record: Path, state: dict[str, Any]) -> None:
    for path in (record, Path(state["directory"]) / _STATE):
        path.write_text(json.dumps(state))


def _end_those_left_behind() -> None:
    """End the engines of runs that were killed before they could."""
    place = Path(tempfile.gettempdir())
    with FileLock(place / "huskies-engines.lock"):
        for path in place.glob(f"{_PREFIX}*/{_STATE}"):
            state = json.loads(path.read_text())
            if not any(_runs(pid) for pid in state["users"]):
                _stop(state)


def _start() -> dict[str, Any]:
    _end_those_left_behind()
    # A socket's path must be short.
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    bridge, address = _make_bridge()
    host = f"unix://{directory}/d.sock"
    words = [
        "dockerd",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/d.pid",
        f"--host={host}",
        f"--bridge={bridge}",
        f"--host-gateway-ip={address}",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--storage-driver=overlay2",
    ]
    # No child of this process: another worker may end it.
    subprocess.run(
        [
            "sh",
            "-c",
            'log=$1; shift; setsid "$@" >"$log" 2>&1 </dev/null &',
            "sh",
            f"{directory}/log",
            *words,
        ],
        check=True,
        env={**os.environ, "PATH": PATH},
    )
    state: dict[str, Any] = {"host": host, "directory": str(directory), "bridge": bridge, "users": []}
    try:
        until(lambda: answers(host), "the engine answers")
        client = docker.APIClient(host, version="auto")
        client.import_image(src=str(_root_file_system()), repository=BASE_IMAGE, tag="latest")
        client.close()
    except BaseException:
        sys.stderr.write((directory / "log").read_text()[-2_000:])
        _stop(state)
        raise
    return state


def _stop(state: dict[str, Any]) -> None:
    directory = Path(state["directory"])
    with suppress(ProcessLookupError, FileNotFoundError):
        pid = int((directory / "d.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        until(lambda: not _runs(pid), "the engine ended")
    subprocess.run(
        ["ip", "link", "delete", state["bridge"]], check=False, capture_output=True, env={"PATH": PATH}
    )
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if (place := line.split()[1]).startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", place], check=False, env={"PATH": PATH})
    shutil.rmtree(directory)


def _make_bridge() -> tuple[str, str]:
    """A network interface of the engine's own, and this machine's address on it."""
    name = f"hsk{os.getpid()}"
    used = subprocess.run(
        ["ip", "-4", "addr"], check=True, capture_output=True, text=True, env={"PATH": PATH}
    )
    number = next(
        each
        for each in range(os.getpid() % _SUBNETS, 2 * _SUBNETS)
        if f"10.213.{each % _SUBNETS}." not in used.stdout
    )
    address = f"10.213.{number % _SUBNETS}.1"
    for words in (
        ("link", "add", "name", name, "type", "bridge"),
        ("addr", "add", f"{address}/24", "dev", name),
        ("link", "set", name, "up"),
    ):
        subprocess.run(["ip", *words], check=True, env={"PATH": PATH})
    return name, address


def _root_file_system() -> Path:
    """A tar of a small Debian; made once, and kept where a user's caches are."""
    suite = _SUITES[sys.version_info[:2]]
    cache = user_cache_path("huskies-tests", appauthor=False, ensure_exists=True)
    kept = cache / f"{suite}-{'-'.join(_PACKAGES)}.tar"
    with FileLock(cache / "lock"):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=cache) as work:
                _make_root(Path(work) / "root", suite)
                made = Path(work) / "root.tar"
                subprocess.run(["tar", "-C", f"{work}/root", "-cf", made, "."], check=True)
                made.rename(kept)
    return kept


def _make_root(root: Path, suite: str) -> None:
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", suite, root],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PATH": PATH},
    )
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()


def answers(host: str) -> bool:
    """Whether an engine answers there."""
    if not Path(host.removeprefix("unix://")).exists():
        return False
    try:
        client = docker.APIClient(host, version="auto")
    except docker.errors.DockerException:
        return False
    client.close()
    return True


def _runs(pid: int) -> bool:
    """Whether a process is there, and not only what is left of it until someone asks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition; fails after `_PATIENCE`."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {what}"
        time.sleep(0.05)
