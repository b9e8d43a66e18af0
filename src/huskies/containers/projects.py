"""The projects that a gateway made, once they are there: stopped, started, looked at and removed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeGuard

import msgspec

from huskies.containers import repository
from huskies.containers.engine import Container, Engine
from huskies.containers.errors import (
    EngineUnreachableError,
    InvalidProjectError,
    UnknownProjectError,
)
from huskies.containers.launch import Gateway, Launcher
from huskies.containers.plan import USER, container_name
from huskies.containers.threads import in_thread

# Seconds in which a connection ends whose container and token are gone, and between looks whether it has.
_DISCONNECT_LIMIT: Final = 5.0
_LOOK_INTERVAL: Final = 0.05


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

    async def remove(self, name: str, *, directory: bool, history: bool) -> list[str]:
        """Remove the container, its token and entry, and if told the directory, and what its sleds said.

        Returns what, in words. What was broken off, or whose container someone else removed, can be removed
        again. What was said can also be where this gateway has nothing else of the project.
        """
        with self._launcher.reserved(name):
            try:
                removed = await self._remove(name, directory=directory)
            except (UnknownProjectError, EngineUnreachableError):
                if not history or directory or self._is_listed(name):
                    raise
                events = await self._gateway.forget_history(name)
                if events is None:
                    raise
                return [_history(events)]
            if history:
                await self._until_disconnected(name)
                removed.append(_history(await self._gateway.forget_history(name) or 0))
            return removed

    async def _until_disconnected(self, name: str) -> None:
        """What its sled sent last is to be forgotten, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCONNECT_LIMIT):
                while self._gateway.is_connected(name):  # noqa: ASYNC110 - once, and for as long as TCP takes
                    await asyncio.sleep(_LOOK_INTERVAL)

    async def _remove(self, name: str, *, directory: bool) -> list[str]:
        found = await self._find(name)
        if not self._is_there(found, name) and (found is not None or not self._is_listed(name)):
            raise _unknown(name)
        own = self._gateway.settings().directory / name
        path = own if found is None else Path(found.directory or own)
        # A label is anyone's to set: nothing is removed that was not made here.
        if directory and path != own:
            raise InvalidProjectError(
                f"directory {path} is not {own}, which this gateway would have made: remove it yourself"
            )
        removed = ["what projects.toml says of it"]
        if found is not None:
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

    def _is_listed(self, name: str) -> bool:
        return self._gateway.is_listed(name, container_name(name))

    def _is_there(self, found: Container | None, name: str) -> TypeGuard[Container]:
        return found is not None and found.project == name and self._is_ours(found)

    async def _find(self, name: str) -> Container | None:
        return await in_thread(partial(self._engine.find, container_name(name)))

    async def _found(self, name: str) -> Container:
        self._launcher.check_free(name)
        found = await self._find(name)
        if self._is_there(found, name):
            return found
        raise _unknown(name)


def _unknown(name: str) -> UnknownProjectError:
    return UnknownProjectError(
        f"this gateway made no container {container_name(name)}; `huskies project list` shows what it made"
    )


def _history(events: int) -> str:
    return f"{events:,} event{'' if events == 1 else 's'} of its history"


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
