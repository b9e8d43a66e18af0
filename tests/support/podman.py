"""Podman serving Docker's API: storage and socket are its own, and what it did to the network is undone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock
from tests.support.engine import PATH, answers, until

# Podman's own network, as Debian 12 has it.
_BRIDGE: Final = "cni-podman0"
_NETWORK: Final = "10.214."
_PREFIX: Final = "huskies-podman-"
_FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_SETTINGS: Final = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_config_dir = "{directory}/networks"
default_subnet = "10.214.{number}.0/24"
"""
_PROGRAMS: Final = ("podman", "runc", "iptables-save")


def missing() -> str | None:
    """What keeps Podman from being started here, in one line; None: nothing."""
    lacking = [program for program in _PROGRAMS if shutil.which(program, path=PATH) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed: `make needs` installs it"
    shown = subprocess.run(
        ["ip", "-4", "-br", "addr", "show", _BRIDGE],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": PATH},
    )
    is_anothers = shown.returncode == 0 and _NETWORK not in shown.stdout
    return "a Podman of this machine's own uses its network" if is_anothers else None


@contextmanager
def podman(docker_host: str, image: str) -> Iterator[str]:
    """DOCKER_HOST of a Podman that has this image of Docker's; one at a time on a machine."""
    with FileLock(Path(tempfile.gettempdir()) / "huskies-podman.lock"):
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/"):
            _end_left_behind(left)
        with _podman(docker_host, image) as host:
            yield host


def _end_left_behind(directory: Path) -> None:
    """What a run left that was killed before it could end it."""
    with suppress(OSError, ValueError):
        pid = int((directory / "pid").read_text())
        if str(directory) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    _restore_network(set())
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (place := line.split()[1]).startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", place], check=False, env={"PATH": PATH})
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _podman(docker_host: str, image: str) -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (directory / "containers.conf").write_text(
        _SETTINGS.format(directory=directory, number=os.getpid() % 250)
    )
    environment = {**os.environ, "PATH": PATH, "CONTAINERS_CONF": str(directory / "containers.conf")}
    command = ["podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run"]
    before, forwarding = _chains(), _FORWARDING.read_text()
    try:
        _load(docker_host, image, command, environment)
        host = f"unix://{directory}/p.sock"
        with (directory / "log").open("wb") as log:
            service = subprocess.Popen(
                [*command, "system", "service", "--time=0", host], env=environment, stdout=log, stderr=log
            )
        (directory / "pid").write_text(str(service.pid))
        try:
            until(lambda: answers(host), "Podman answers")
            yield host
        finally:
            subprocess.run(
                [*command, "rm", "--all", "--force"], check=True, env=environment, capture_output=True
            )
            service.terminate()
            service.wait()
    finally:
        _restore_network(before)
        _FORWARDING.write_text(forwarding)
        subprocess.run(
            [*command, "system", "reset", "--force"], check=False, env=environment, capture_output=True
        )
        shutil.rmtree(directory, ignore_errors=True)


def _load(docker_host: str, image: str, command: list[str], environment: dict[str, str]) -> None:
    with subprocess.Popen(
        ["docker", "save", image], env={**environment, "DOCKER_HOST": docker_host}, stdout=subprocess.PIPE
    ) as saving:
        subprocess.run(
            [*command, "load"], stdin=saving.stdout, check=True, env=environment, capture_output=True
        )


def _chains() -> set[tuple[str, str]]:
    """The chains of the packet filter, each with its table."""
    found, table = set(), ""
    saved = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True, env={"PATH": PATH})
    for line in saved.stdout.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            found.add((table, line[1:].split()[0]))
    return found


def _restore_network(before: set[tuple[str, str]]) -> None:
    new = sorted(_chains() - before)
    ours = {chain for _, chain in new if chain.startswith("CNI-")}
    saved = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True, env={"PATH": PATH})
    table = ""
    for line in saved.stdout.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A") and line.split()[-1] in ours:
            arguments = line.replace('"', "").split()
            comment = arguments.index("--comment") if "--comment" in arguments else None
            if comment is not None:
                end = arguments.index("-j")
                arguments[comment + 1 : end] = [" ".join(arguments[comment + 1 : end])]
            _iptables(table, "-D", *arguments[1:])
    for table, chain in new:
        if chain in ours:
            _iptables(table, "-F", chain)
    for table, chain in new:
        if chain in ours:
            _iptables(table, "-X", chain)
    if Path(f"/sys/class/net/{_BRIDGE}").exists():
        subprocess.run(["ip", "link", "delete", _BRIDGE], check=True, env={"PATH": PATH})


def _iptables(table: str, *arguments: str) -> None:
    subprocess.run(["iptables", "-w", "-t", table, *arguments], check=True, env={"PATH": PATH})
