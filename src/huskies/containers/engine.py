"""The container engine: Docker's API, which Podman serves as well. Every call blocks; use a thread."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import IO, Any, Final

import msgspec

from huskies.containers.errors import EngineError, EngineUnreachableError, NameTakenError
from huskies.containers.plan import GATEWAY_LABEL, HOST_GATEWAY, LABEL, SLED_PORT, SSH_PORT, WORK_DIR
from huskies.containers.threads import GivenUp
from huskies.sockets import clean

# Where the library looks where nothing is said.
_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
# Seconds for each step of an answer; while an image is built it may say nothing for a while.
_LIMIT: Final = 60.0
_BUILD_LIMIT: Final = 900.0
# How long a container has to end by itself: a sled takes no more than five seconds.
_STOP_SECONDS: Final = 8
# How much is told of a step of a Dockerfile.
_STEP_SHOWN: Final = 80
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_PORT_TAKEN: Final = ("port is already allocated", "address already in use")
_NEXT: Final = (
    "start Docker or Podman's socket (`podman system service`), or name one with DOCKER_HOST, where the "
    "gateway runs"
)
# The engine's own network, by the names that Docker and Podman have for it.
_NETWORKS: Final = ("bridge", "podman")


class PortTakenError(EngineError):
    """A port that was to be published is in use; another may be free."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A project's container as it is now.

    `state` is the engine's word: created, running, restarting, exited, …; `health` too, empty where none is
    known. `sled`, `ssh`: where its ports are published, as ADDRESS:PORT, empty where they are not.
    """

    name: str
    project: str
    state: str
    health: str
    image: str
    directory: str
    sled: str
    ssh: str
    restarts: int = 0
    gateway_id: str = ""


class Engine:
    """One engine, the one that DOCKER_HOST names or the system's own; connects when it is first asked."""

    def __init__(self) -> None:
        self._client: Any = None
        self._connecting = threading.Lock()

    def check(self) -> None:
        """Raises `EngineUnreachableError` where none answers."""
        with self._asking("find the engine") as client:
            client.ping()

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # --- images ------------------------------------------------------------------------------------

    def image_labels(self, tag: str) -> Mapping[str, str] | None:
        """What an image says of itself; None where there is none of this name."""
        with self._asking(f"look for image {tag}") as client:
            try:
                found = client.inspect_image(tag)
            except _api_error() as error:
                if error.status_code == _NOT_FOUND:
                    return None
                raise
        return dict(found["Config"].get("Labels") or {})

    def build(
        self,
        context: IO[bytes],
        *,
        tag: str,
        file: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        say: Callable[[str], None],
        given_up: GivenUp,
    ) -> None:
        """Build an image of a tar with this Dockerfile in it; `say` hears each step.

        Raises `EngineError`, with what the engine said last.
        """
        settings = {"dockerfile": file, "buildargs": dict(arguments), "labels": dict(labels)}
        said = ""
        with self._asking(f"build image {tag}"), _building() as (client, end), given_up.ends(end):
            for line in client.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=_BUILD_LIMIT,
                **settings,
            ):
                if given_up.is_set:
                    break
                heard = clean(line.get("stream", ""))
                if "error" in line:
                    raise EngineError(f"image {tag} was not built: {clean(str(line['error']))} ({said})")
                said = heard or said
                if heard.lower().startswith("step "):
                    say(heard[:_STEP_SHOWN])
        if given_up.is_set:
            raise EngineError(f"image {tag} was not built: it was given up")

    def drop_unused_images(self, label: str) -> None:
        """Remove images that have no name any more, no container, and this label. Raises `EngineError`."""
        with self._asking("remove images of earlier builds") as client:
            client.prune_images(filters={"dangling": True, "label": label})

    # --- containers --------------------------------------------------------------------------------

    def create(self, name: str, request: Mapping[str, Any]) -> None:
        """Make a container; raises `NameTakenError` and `EngineError`."""
        with self._asking(f"make container {name}") as client:
            try:
                client.create_container_from_config(dict(request), name)
            except _api_error() as error:
                if error.status_code == _NOT_FOUND:
                    raise EngineError(
                        f"there is no image {request['Image']} here: pull or build it, or leave --image out"
                    ) from None
                if error.status_code == _CONFLICT:
                    raise NameTakenError(f"there is a container {name} already") from None
                raise

    def start(self, name: str) -> None:
        """Start a container; raises `PortTakenError` and `EngineError`."""
        with self._asking(f"start container {name}") as client:
            try:
                client.start(name)
            except _api_error() as error:
                text = str(error.explanation or error)
                if any(words in text for words in _PORT_TAKEN):
                    raise PortTakenError(f"a port for container {name} is in use: {clean(text)}") from None
                raise

    def stop(self, name: str) -> None:
        """Have a container end; it is not started again by itself. Raises `EngineError`."""
        with self._asking(f"stop container {name}") as client:
            client.stop(name, timeout=_STOP_SECONDS)

    def remove(self, name: str) -> bool:
        """Remove a container, running or not; False where there is none. Raises `EngineError`."""
        with self._asking(f"remove container {name}") as client:
            try:
                client.remove_container(name, v=True, force=True)
            except _api_error() as error:
                if error.status_code == _NOT_FOUND:
                    return False
                raise
        return True

    def find(self, name: str) -> Container | None:
        """How a container is; None where there is none. Raises `EngineError`."""
        with self._asking(f"look at container {name}") as client:
            try:
                return _container(client.inspect_container(name))
            except _api_error() as error:
                if error.status_code == _NOT_FOUND:
                    return None
                raise

    def all(self) -> list[Container]:
        """The containers of projects, running or not, by name. Raises `EngineError`."""
        with self._asking("list containers") as client:
            rows = client.containers(all=True, filters={"label": LABEL})
        found = [self.find(row["Id"]) for row in rows]
        return sorted((each for each in found if each is not None), key=lambda each: each.name)

    def logs(self, name: str, lines: int) -> str:
        """The last lines that a container wrote. Raises `EngineError`."""
        with self._asking(f"read the log of container {name}") as client:
            return bytes(client.logs(name, tail=lines)).decode("utf-8", "replace")

    # --- the network -------------------------------------------------------------------------------

    def bridge_address(self) -> str | None:
        """The engine's machine's own address in the containers' network; None where the engine has none.

        That it is an address of this machine, too, is for who listens there to find out.
        """
        with self._asking("look at its network") as client:
            for row in client.networks(names=list(_NETWORKS)):
                for pool in row.get("IPAM", {}).get("Config") or ():
                    if row.get("Name") in _NETWORKS and (found := _gateway_of(pool)) is not None:
                        return found
        return None

    def host_address(self) -> str:
        """What a container is told as the address of the engine's machine. Raises `EngineError`."""
        with self._asking("say what it is") as client:
            parts = client.version().get("Components") or ()
        # Older ones leave Docker's word for it out without saying so.
        is_podman = any("Podman" in part.get("Name", "") for part in parts)
        return (self.bridge_address() if is_podman else None) or HOST_GATEWAY

    @contextlib.contextmanager
    def _asking(self, aim: str) -> Iterator[Any]:
        """A client; what goes wrong becomes an `EngineError` that says what could not be done."""
        # Most gateways make no projects, and need none of this.
        import docker  # noqa: PLC0415 - see above
        import requests  # noqa: PLC0415 - see above
        import urllib3  # noqa: PLC0415 - see above

        unreachable = (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        )
        try:
            yield self._connected()
        except docker.errors.APIError as error:
            raise EngineError(
                f"the engine could not {aim}: {clean(str(error.explanation or error))}"
            ) from None
        except unreachable as error:
            self.close()
            where = clean(os.environ.get("DOCKER_HOST") or "the system's own socket")
            raise EngineUnreachableError(
                f"no container engine answers at {where}: {_reason(error)}; {_NEXT}"
            ) from None

    def _connected(self) -> Any:  # noqa: ANN401 - the library has no types
        with self._connecting:
            if self._client is None:
                self._client = _connect()
            return self._client


def _connect() -> Any:  # noqa: ANN401 - the library has no types
    import docker  # noqa: PLC0415 - see `_asking`

    settings = docker.utils.kwargs_from_env()
    scheme, _, path = settings.get("base_url", _DEFAULT_HOST).partition("://")
    if scheme == "unix" and hasattr(socket, "AF_UNIX"):
        # What the library does where nobody listens leaves a socket open.
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(_LIMIT)
            trial.connect(path)
    return docker.APIClient(**settings, version="auto", timeout=_LIMIT)


@contextlib.contextmanager
def _building() -> Iterator[tuple[Any, Callable[[], None]]]:
    """A client for one build, and what ends its answer, from any thread; the engine gives up then, too."""
    from docker.types import CancellableStream  # noqa: PLC0415 - see `_asking`

    client = _connect()
    answers: list[Any] = []
    client.hooks["response"].append(lambda answer, *_, **__: answers.append(answer))

    def end() -> None:
        for answer in answers:
            # What was read to its end has no connection any more.
            with contextlib.suppress(AttributeError, OSError):
                CancellableStream(iter(()), answer).close()

    try:
        yield client, end
    finally:
        for answer in answers:
            answer.close()
        client.close()


def _api_error() -> type[Any]:
    import docker  # noqa: PLC0415 - see `_asking`

    error: type[Any] = docker.errors.APIError
    return error


def _reason(error: BaseException) -> str:
    """The innermost cause, which says it in the fewest words."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return clean(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _container(found: Mapping[str, Any]) -> Container:
    state, config = found["State"], found["Config"]
    labels = config.get("Labels") or {}
    mounts = {mount.get("Destination"): mount.get("Source", "") for mount in found.get("Mounts") or ()}
    # What was asked for: a container that does not run publishes nothing just now.
    bindings = found.get("HostConfig", {}).get("PortBindings") or {}
    return Container(
        name=found["Name"].lstrip("/"),
        project=labels.get(LABEL, ""),
        gateway_id=labels.get(GATEWAY_LABEL, ""),
        state=state.get("Status", ""),
        health=(state.get("Health") or state.get("Healthcheck") or {}).get("Status", ""),
        image=config.get("Image", ""),
        directory=mounts.get(WORK_DIR, ""),
        sled=_published(bindings, SLED_PORT),
        ssh=_published(bindings, SSH_PORT),
        restarts=found.get("RestartCount", 0),
    )


def _gateway_of(pool: Mapping[str, str]) -> str | None:
    """The address that the engine's machine has in a network, where it is one of IPv4."""
    network = ip_network(pool.get("Subnet") or "::/0", strict=False)
    if network.version != 4:  # noqa: PLR2004 - the protocol's own number
        return None
    # Nobody said which: it is the first one.
    return pool.get("Gateway") or str(network[1])


def _published(bindings: Mapping[str, Any], port: int) -> str:
    for place in bindings.get(f"{port}/tcp") or ():
        return f"{place['HostIp']}:{place['HostPort']}"
    return ""
