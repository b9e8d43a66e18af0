"""What a gateway does for the projects it makes: their tokens, their entries, and where it is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from huskies import projects_file
from huskies.config import MOUNTABLE_RULE, ProjectsFile, is_mountable
from huskies.containers.errors import InvalidProjectError, ProjectError
from huskies.containers.images import default_base_image
from huskies.containers.launch import Settings
from huskies.containers.threads import in_thread
from huskies.errors import ConfigError, StoreError
from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.guard import Guard
from huskies.gateway.bridge import Bridge

_DIRECTORY: Final = "projects"
# What is added to a project's name to name its container's token.
_TOKEN_SUFFIX: Final = "-container"  # noqa: S105 - it is none


class Making:
    """The `launch.Gateway` of one gateway.

    `writer` is `access.db` for one thread at a time, which `lock` keeps.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        own_url: Callable[[], str],
        gateway_id: Callable[[], str],
        policy: Callable[[], ProjectsFile],
        guard: Guard,
        writer: AccessFile,
        lock: asyncio.Lock,
        bridge: Bridge,
        is_connected: Callable[[str], bool],
        forget_history: Callable[[str], Awaitable[int | None]],
        now_ms: Callable[[], int],
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._own_url = own_url
        self._gateway_id = gateway_id
        self._policy = policy
        self._guard = guard
        self._writer = writer
        self._lock = lock
        self._bridge = bridge
        self._is_connected = is_connected
        self._forget_history = forget_history
        self._now_ms = now_ms

    def settings(self) -> Settings:
        """What `[containers]` in projects.toml says; raises `InvalidProjectError`."""
        entry = self._policy().containers
        directory = Path(entry.directory) if entry.directory else self._data_dir / _DIRECTORY
        if not is_mountable(str(directory)):
            raise InvalidProjectError(
                f"no container can have a directory in {directory}: as `directory` under [containers] in "
                f"projects.toml name {MOUNTABLE_RULE}"
            )
        return Settings(
            directory=directory,
            base_image=entry.base_image or default_base_image(),
            gateway_url=entry.gateway_url,
            own_url=self._own_url(),
            publish=entry.publish,
            gateway_id=self._gateway_id(),
        )

    def made(self) -> list[str]:
        """The projects that it has made, by projects.toml."""
        return [name for name, entry in self._policy().projects.items() if entry.container is not None]

    def why_taken(self, name: str) -> str | None:
        """Whether a project of this name is listed or connected."""
        if name in self._policy().projects:
            return f"there is a project {name} already: it stands in projects.toml"
        if self._is_connected(name):
            return f"there is a project {name} already: a sled of it is connected"
        return None

    def is_listed(self, name: str, container: str) -> bool:
        """Whether projects.toml says that the project has this container."""
        entry = self._policy().projects.get(name)
        return entry is not None and entry.container == container

    async def make_token(self, name: str, who: str) -> str:
        """A token for pushing for this project alone."""
        async with self._lock:
            _, secret = await in_thread(partial(self._make_token, name, who))
        self._guard.refresh()
        return secret

    def _make_token(self, name: str, who: str) -> tuple[tokens.Token, str]:
        return tokens.create(
            self._writer,
            name=name + _TOKEN_SUFFIX,
            scopes=(f"push:{name}",),
            created_by=who,
            now_ms=self._now_ms(),
        )

    async def revoke_tokens(self, name: str) -> None:
        """Revoke the tokens that were made so, if there are any."""
        async with self._lock:
            await in_thread(partial(self._revoke_tokens, name))
        self._guard.refresh()

    def _revoke_tokens(self, name: str) -> None:
        for token in tokens.all_tokens(self._writer):
            ours = token.name == name + _TOKEN_SUFFIX and token.scopes == (f"push:{name}",)
            if ours and token.is_valid(self._now_ms()):
                tokens.revoke(self._writer, token.id, now_ms=self._now_ms())

    async def register(self, name: str, url: str, container: str, directory: str) -> None:
        """Enter it in projects.toml."""
        try:
            await in_thread(
                partial(
                    projects_file.list_project,
                    self._data_dir,
                    name,
                    url=url,
                    container=container,
                    directory=directory,
                )
            )
        except (ConfigError, StoreError) as error:
            raise ProjectError(str(error)) from None

    async def forget(self, name: str) -> None:
        """Take it out of projects.toml."""
        try:
            await in_thread(partial(projects_file.unlist_project, self._data_dir, name))
        except ConfigError as error:
            raise ProjectError(str(error)) from None

    async def forget_history(self, name: str) -> int | None:
        """Show nothing more of what its sleds said; how many events, None where none of them was ever met."""
        try:
            return await self._forget_history(name)
        except StoreError as error:
            raise ProjectError(str(error)) from None

    async def be_reachable(self) -> None:
        """Listen where containers are."""
        await self._bridge.ensure()

    def reaching(self) -> str:
        """How containers reach the gateway."""
        return self._bridge.describe()

    def is_connected(self, name: str) -> bool:
        """Whether a sled of it is connected here."""
        return self._is_connected(name)
