"""The projects that a gateway made, once they are there: stopped, started, looked at and removed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from huskies.containers import repository
from huskies.containers.engine import Container, Engine
from huskies.containers.errors import InvalidProjectError, NameTakenError, UnknownProjectError
from huskies.containers.launch import Gateway, Launcher
from huskies.containers.plan import USER, container_name
from huskies.containers.threads import in_thread


class ProjectContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A project's container as `huskies project list` shows it.

    `state` and `health` are the engine's words; health is empty where none is known.
    """

    name: str
    container: str
    state: str
    health: str
    image: str
    directory: str
    url: str
    ssh: str


class Projects:
    """Works on containers that this gateway made, and on no others. Everything raises `ProjectError`."""

    def __init__(self, gateway: Gateway, engine: Engine, launcher: Launcher) -> None:
        self._gateway = gateway
        self._engine = engine
        self._launcher = launcher

    async def all(self) -> list[ProjectContainer]:
        """Every container of a project, by name."""
        return [_view(each) for each in await in_thread(self._engine.all) if self._is_ours(each)]

    async def stop(self, name: str) -> ProjectContainer:
        """Have the container end, and stay so until it is started."""
        await self._found(name)
        await in_thread(partial(self._engine.stop, container_name(name)))
        return _view(await self._found(name))

    async def start(self, name: str) -> ProjectContainer:
        """Start the container again."""
        await self._found(name)
        await self._gateway.be_reachable()
        await in_thread(partial(self._engine.start, container_name(name)))
        await self._gateway.be_reachable()
        return _view(await self._found(name))

    async def logs(self, name: str, lines: int) -> str:
        """The last lines of what the container wrote."""
        await self._found(name)
        return await in_thread(partial(self._engine.logs, container_name(name), lines))

    async def remove(self, name: str, *, directory: bool) -> list[str]:
        """Remove the container, its token and entry, and the directory if told; returns what, in words."""
        found = await self._found(name)
        own = self._gateway.settings().directory / name
        path = Path(found.directory or own)
        # A label is anyone's to set: nothing is removed that was not made here.
        if directory and path != own:
            raise InvalidProjectError(
                f"directory {path} is not {own}, which this gateway would have made: remove it yourself"
            )
        await in_thread(partial(self._engine.remove, found.name))
        removed = [f"container {found.name}"]
        await self._gateway.revoke_tokens(name)
        await self._gateway.forget(name)
        if directory:
            await repository.remove(path)
            removed.append(f"directory {path}")
        return removed

    def _is_ours(self, found: Container) -> bool:
        """By its label; or by projects.toml, for one that was made before the gateway was restored."""
        return found.gateway_id == self._gateway.settings().gateway_id or self._gateway.is_listed(
            found.project, found.name
        )

    async def _found(self, name: str) -> Container:
        if self._launcher.is_under_way(name):
            raise NameTakenError(f"project {name} is just being made; wait until it is")
        found = await in_thread(partial(self._engine.find, container_name(name)))
        if found is None or found.project != name or not self._is_ours(found):
            raise UnknownProjectError(
                f"this gateway made no container {container_name(name)}; `huskies project list` shows what "
                "it made"
            )
        return found


def _view(found: Container) -> ProjectContainer:
    address, _, port = found.ssh.rpartition(":")
    return ProjectContainer(
        name=found.project,
        container=found.name,
        state=found.state,
        health=found.health,
        image=found.image,
        directory=found.directory,
        url=f"http://{found.sled}" if found.sled else "",
        ssh=f"ssh -p {port} {USER}@{address}" if found.ssh else "",
    )
