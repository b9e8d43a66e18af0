"""What is asked of a container engine for one project. Pure.

`create_request` is the one place that says how a project's container is made; `run_arguments` says a request
in the words of `docker run`, so that what is shown is what is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from huskies.containers.wanted import (
    DEFAULT_CPUS,
    DEFAULT_MEMORY,
    DEFAULT_STACK,
    Wanted,
    memory_bytes,
)
from huskies.urls import is_loopback

# The name by which a container reaches the machine that its engine runs on.
HOST_ALIAS: Final = "host.docker.internal"
# What Docker takes for that machine's address, as it knows it best.
HOST_GATEWAY: Final = "host-gateway"
PREFIX: Final = "huskies-"
# What says that a container is one of ours, whatever it is called.
LABEL: Final = "huskies.project"
# And whose: an engine may serve several gateways.
GATEWAY_LABEL: Final = "huskies.gateway"
# Where the project's directory is in the container; who works there, and may log in.
WORK_DIR: Final = "/work"
USER: Final = "dev"
SLED_PORT: Final = 3001
SSH_PORT: Final = 2222
# Programs that the images bring.
HEALTH_COMMAND: Final = "huskies-health"
# What an agent's builds and tests need, and a runaway loop does not get beyond.
PIDS_MAX: Final = 4_096
LOG_SIZE: Final = "10m"
# Stands in a line that is shown for the secret that is not.
TOKEN_PLACEHOLDER: Final = "<sled-token>"  # noqa: S105 - it is none

_NANO: Final = 1_000_000_000
_ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - recognised, not listened on
# Seconds; a sled that starts has that long before its health counts.
_HEALTH_EVERY: Final = 15
_HEALTH_LIMIT: Final = 5
_HEALTH_START: Final = 30
_HEALTH_RETRIES: Final = 3


class Ports(msgspec.Struct, frozen=True):
    """Where the container's ports are published on the engine's machine."""

    address: str
    sled: int
    ssh: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides about a project's container; `cpus` in processors, `memory` in bytes.

    `via_host`: the gateway is reached by `HOST_ALIAS`, which is at `host_address`. `directory` is the
    engine's machine's.
    """

    name: str
    image: str
    directory: str
    gateway_url: str
    via_host: bool
    host_address: str = HOST_GATEWAY
    sled_token: str
    ports: Ports
    memory: int
    cpus: float
    git_name: str = ""
    git_email: str = ""
    ssh_key: str = ""
    gateway_id: str = ""

    def __repr__(self) -> str:
        # The token is a secret, and a repr ends up in logs.
        return f"Plan(name={self.name!r}, image={self.image!r}, directory={self.directory!r})"


def container_name(project: str) -> str:
    """What a project's container is called."""
    return PREFIX + project


def make_plan(
    wanted: Wanted,
    *,
    image: str,
    directory: str,
    gateway_url: str,
    host_address: str = HOST_GATEWAY,
    sled_token: str,
    ports: Ports,
    gateway_id: str = "",
) -> Plan:
    """What was asked for, with what was found out."""
    url, via_host = url_for_container(gateway_url)
    return Plan(
        name=wanted.name,
        image=image,
        directory=directory,
        gateway_url=url,
        via_host=via_host,
        host_address=host_address,
        sled_token=sled_token,
        ports=ports,
        memory=memory_bytes(wanted.memory or DEFAULT_MEMORY),
        cpus=wanted.cpus or DEFAULT_CPUS,
        git_name=wanted.git_name or "",
        git_email=wanted.git_email or "",
        ssh_key=(wanted.ssh_key or "").strip(),
        gateway_id=gateway_id,
    )


def stack_of(wanted: Wanted) -> str:
    """The stack whose image is taken."""
    return wanted.stack or DEFAULT_STACK


def is_this_machine(url: str) -> bool:
    """Whether a URL names the machine that it is used on."""
    host = urlsplit(url).hostname or ""
    return is_loopback(host) or host in _ANY_ADDRESS


def url_for_container(url: str) -> tuple[str, bool]:
    """The URL by which a container reaches a gateway, and whether that is by the name of its host.

    Within a container `localhost` is the container.
    """
    if not is_this_machine(url):
        return url, False
    parts = urlsplit(url)
    port = "" if parts.port is None else f":{parts.port}"
    return parts._replace(netloc=HOST_ALIAS + port).geturl(), True


def create_request(plan: Plan) -> dict[str, Any]:
    """The body of the engine's `POST /containers/create`, whose `name` is `container_name`."""
    ports = {SLED_PORT: plan.ports.sled, SSH_PORT: plan.ports.ssh}
    return {
        "Image": plan.image,
        "Env": [f"{name}={value}" for name, value in _environment(plan).items()],
        "Labels": {LABEL: plan.name, **({GATEWAY_LABEL: plan.gateway_id} if plan.gateway_id else {})},
        "ExposedPorts": {f"{port}/tcp": {} for port in ports},
        "Healthcheck": {
            "Test": ["CMD-SHELL", HEALTH_COMMAND],
            "Interval": _HEALTH_EVERY * _NANO,
            "Timeout": _HEALTH_LIMIT * _NANO,
            "StartPeriod": _HEALTH_START * _NANO,
            "Retries": _HEALTH_RETRIES,
        },
        "HostConfig": {
            "Mounts": [{"Type": "bind", "Source": plan.directory, "Target": WORK_DIR}],
            "PortBindings": {
                f"{port}/tcp": [{"HostIp": plan.ports.address, "HostPort": str(published)}]
                for port, published in ports.items()
            },
            "RestartPolicy": {"Name": "unless-stopped"},
            "Memory": plan.memory,
            "NanoCpus": round(plan.cpus * _NANO),
            "PidsLimit": PIDS_MAX,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE}},
            **({"ExtraHosts": [f"{HOST_ALIAS}:{plan.host_address}"]} if plan.via_host else {}),
        },
    }


def run_arguments(name: str, request: Mapping[str, Any]) -> list[str]:
    """The `docker run` that asks an engine for the same as `create_request` does, and starts it."""
    host, health = request["HostConfig"], request["Healthcheck"]
    flags = [
        ("--name", name),
        *(("--label", f"{key}={value}") for key, value in request["Labels"].items()),
        *(("-e", line) for line in request["Env"]),
        *(("--mount", _mount(mount)) for mount in host["Mounts"]),
        *(("-p", published) for published in _published(host["PortBindings"])),
        *(("--add-host", line) for line in host.get("ExtraHosts", ())),
        ("--restart", host["RestartPolicy"]["Name"]),
        ("--memory", str(host["Memory"])),
        ("--cpus", f"{host['NanoCpus'] / _NANO:.9f}".rstrip("0").rstrip(".")),
        ("--pids-limit", str(host["PidsLimit"])),
        *(("--cap-drop", capability) for capability in host["CapDrop"]),
        *(("--security-opt", option) for option in host["SecurityOpt"]),
        ("--log-driver", host["LogConfig"]["Type"]),
        *(("--log-opt", f"{key}={value}") for key, value in host["LogConfig"]["Config"].items()),
        ("--health-cmd", health["Test"][1]),
        ("--health-interval", _seconds(health["Interval"])),
        ("--health-timeout", _seconds(health["Timeout"])),
        ("--health-start-period", _seconds(health["StartPeriod"])),
        ("--health-retries", str(health["Retries"])),
    ]
    return ["docker", "run", "-d", *(word for flag in flags for word in flag), request["Image"]]


def _environment(plan: Plan) -> dict[str, str]:
    found = {
        "HUSKIES_GATEWAY_URL": plan.gateway_url,
        "HUSKIES_NAME": plan.name,
        "HUSKIES_SLED_TOKEN": plan.sled_token,
        "HUSKIES_GIT_NAME": plan.git_name,
        "HUSKIES_GIT_EMAIL": plan.git_email,
        "HUSKIES_SSH_KEY": plan.ssh_key,
    }
    return {name: value for name, value in found.items() if value}


def _mount(mount: Mapping[str, str]) -> str:
    return f"type={mount['Type']},source={mount['Source']},target={mount['Target']}"


def _published(bindings: Mapping[str, list[dict[str, str]]]) -> list[str]:
    found = []
    for port, places in bindings.items():
        for place in places:
            address = f"[{place['HostIp']}]" if ":" in place["HostIp"] else place["HostIp"]
            found.append(f"{address}:{place['HostPort']}:{port}")
    return found


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // _NANO}s"
