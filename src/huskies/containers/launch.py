"""Brings a project up step by step, says each, and takes back what it made where one fails or is given up."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec

from huskies.containers import repository
from huskies.containers.engine import Engine, PortTakenError
from huskies.containers.errors import EngineError, InvalidProjectError, NameTakenError, ProjectError
from huskies.containers.images import Images
from huskies.containers.plan import (
    USER,
    Plan,
    Ports,
    container_name,
    create_request,
    is_this_machine,
    make_plan,
    stack_of,
)
from huskies.containers.threads import GivenUp, in_thread, to_its_end
from huskies.containers.undo import Undo
from huskies.containers.wanted import Wanted
from huskies.logs import redact, register_secret
from huskies.sockets import clean

_log = logging.getLogger("huskies.containers")

# Seconds that a container's sled has to connect: a cold start on a busy machine.
CONNECT_LIMIT: Final = 90.0
_LOOK_INTERVAL: Final = 0.1
# Every so many looks the engine is asked whether the container still runs.
_ENGINE_TURNS: Final = 10
# Free ports are found and then asked for: someone else may have taken one meanwhile.
_PORT_TRIES: Final = 5
_LOG_LINES: Final = 5

# What is told of a step: its name, one word, and a sentence for people.
Say = Callable[[str, str], None]


class Result(msgspec.Struct, frozen=True):
    """A project that runs: where its server answers, and how to log in; `ssh` is null where no key may."""

    name: str
    url: str
    ssh: str | None
    container: str
    directory: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a gateway makes projects.

    `directory` holds theirs. `gateway_url` is by which containers reach it; `own_url` where it listens.
    `publish`: the address that containers' ports are published on. `gateway_id` says whose they are.
    """

    directory: Path
    base_image: str
    gateway_url: str | None
    own_url: str
    publish: str
    gateway_id: str


class Gateway(Protocol):
    """What a launch needs of the gateway that it is for."""

    def settings(self) -> Settings:
        """How it makes projects, as of now."""

    def why_taken(self, name: str) -> str | None:
        """Why no new project can be called so; None: it can."""

    def is_listed(self, name: str, container: str) -> bool:
        """Whether it lists this project with this container."""

    async def make_token(self, name: str, who: str) -> str:
        """A token for the project's sled; whoever asked is noted."""

    async def revoke_tokens(self, name: str) -> None:
        """End the tokens that were made for the project."""

    async def register(self, name: str, url: str, container: str, directory: str) -> None:
        """List the project."""

    async def forget(self, name: str) -> None:
        """List it no more."""

    async def forget_history(self, name: str) -> int | None:
        """Show nothing more of what its sleds said; how many events, None where none of them was ever met."""

    async def be_reachable(self) -> None:
        """Listen where containers reach it, as well as that can be done."""

    def reaching(self) -> str:
        """How containers reach it, or why they may not, and what to do then; one sentence."""

    def is_connected(self, name: str) -> bool:
        """Whether a sled of the project is connected."""


class _Made:
    """Whether the container of this name is one that this launch made, and so may remove."""

    is_ours = False


class Launcher:
    """Brings projects up, several at once if need be, each name once."""

    def __init__(self, gateway: Gateway, engine: Engine, images: Images) -> None:
        self._gateway = gateway
        self._engine = engine
        self._images = images
        self._under_way: set[str] = set()
        self._building = asyncio.Lock()
        self.connect_limit = CONNECT_LIMIT

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """Within, nobody else makes or removes a project of this name; raises `NameTakenError`."""
        self.check_free(name)
        self._under_way.add(name)
        try:
            yield
        finally:
            self._under_way.discard(name)

    def check_free(self, name: str) -> None:
        """Raises `NameTakenError` where a project of this name is just being made or removed."""
        if name in self._under_way:
            raise NameTakenError(f"project {name} is just being made or removed; try again in a while")

    async def launch(self, wanted: Wanted, *, who: str, say: Say) -> Result:
        """Bring a project up, for `who`; raises `ProjectError`, with what of it is still there.

        Where it is cancelled, what was made is removed again, too.
        """
        with self.reserved(wanted.name):
            if (why := self._gateway.why_taken(wanted.name)) is not None:
                raise NameTakenError(why)
            undo = Undo()
            try:
                return await self._steps(wanted, who, say, undo)
            except ProjectError as error:
                error.left += await to_its_end(undo.run())
                raise
            except BaseException:
                if left := await to_its_end(undo.run()):
                    _log.warning("project %s was given up; still there: %s", wanted.name, ", ".join(left))
                raise

    async def _steps(self, wanted: Wanted, who: str, say: Say, undo: Undo) -> Result:
        gateway, settings = self._gateway, self._gateway.settings()
        name, container = wanted.name, container_name(wanted.name)
        url = _url_for(wanted, settings)
        say("engine", "asking the container engine")
        await in_thread(self._engine.check)
        found = await in_thread(partial(self._engine.find, container))
        if found is not None:
            is_ours = found.gateway_id == settings.gateway_id
            hint = f"`huskies project remove {name}` removes it" if is_ours else "take another name"
            raise NameTakenError(f"there is a container {container} already: {hint}")
        directory = settings.directory / name
        say("directory", f"cloning into {directory}" if wanted.git else f"preparing {directory}")
        await repository.prepare(directory, wanted.git, undo)
        say("image", "looking for the image")
        image = wanted.image or await self._image(stack_of(wanted), settings.base_image, say)
        await gateway.be_reachable()
        undo.add(f"the sled token of {name}", lambda: gateway.revoke_tokens(name))
        secret = await gateway.make_token(name, who)
        register_secret(secret)
        say("container", f"starting container {container}")
        made = _Made()
        undo.add(f"container {container}", lambda: self._remove(container, made))
        plan = await self._started(
            wanted, made, image=image, directory=directory, url=url, secret=secret, settings=settings
        )
        # Its network may be there only now.
        await gateway.be_reachable()
        say("sled", "waiting for its sled to connect")
        await self._connected(name, container)
        shown = f"http://{_in_url(plan.ports.address)}:{plan.ports.sled}"
        undo.add(f"{name} in projects.toml", lambda: gateway.forget(name))
        await gateway.register(name, shown, container, str(directory))
        ssh = f"ssh -p {plan.ports.ssh} {USER}@{plan.ports.address}" if plan.ssh_key else None
        return Result(name, shown, ssh, container, str(directory))

    async def _image(self, stack: str, base_image: str, say: Say) -> str:
        loop, given_up = asyncio.get_running_loop(), GivenUp()

        def told(text: str) -> None:
            loop.call_soon_threadsafe(say, "image", text)

        build = partial(self._images.ensure, stack, base_image, say=told, given_up=given_up)
        # Those that wait occupy no thread: there are few, and all of the gateway uses them.
        async with self._building:
            return await in_thread(build, give_up=given_up.set)

    async def _started(
        self,
        wanted: Wanted,
        made: _Made,
        *,
        image: str,
        directory: Path,
        url: str,
        secret: str,
        settings: Settings,
    ) -> Plan:
        name = container_name(wanted.name)
        host_address = await in_thread(self._engine.host_address)
        for turn in range(1, _PORT_TRIES + 1):
            plan = make_plan(
                wanted,
                image=image,
                directory=str(directory),
                gateway_url=url,
                host_address=host_address,
                sled_token=secret,
                ports=free_ports(settings.publish),
                gateway_id=settings.gateway_id,
            )
            await in_thread(partial(self._create, name, plan, made))
            try:
                await in_thread(partial(self._engine.start, name))
            except PortTakenError:
                await in_thread(partial(self._engine.remove, name))
                if turn == _PORT_TRIES:
                    raise
            else:
                return plan
        raise AssertionError("returned or raised before")  # pragma: no cover

    def _create(self, name: str, plan: Plan, made: _Made) -> None:
        # Whatever else goes wrong, it may have been made.
        made.is_ours = True
        try:
            self._engine.create(name, create_request(plan))
        except NameTakenError:
            made.is_ours = False
            raise

    async def _remove(self, name: str, made: _Made) -> None:
        if made.is_ours:
            await in_thread(partial(self._engine.remove, name))

    async def _connected(self, name: str, container: str) -> None:
        try:
            async with asyncio.timeout(self.connect_limit):
                turn = 0
                while not self._gateway.is_connected(name):
                    await asyncio.sleep(_LOOK_INTERVAL)
                    turn += 1
                    if turn % _ENGINE_TURNS == 0:
                        await self._check_runs(container)
        except TimeoutError:
            raise EngineError(
                f"the sled of {name} did not connect within {self.connect_limit:g} s; "
                f"{self._gateway.reaching()}; {await self._log_end(container)}"
            ) from None

    async def _check_runs(self, container: str) -> None:
        found = await in_thread(partial(self._engine.find, container))
        if found is None:
            raise EngineError(f"container {container} was removed while it started")
        if found.restarts or found.state not in ("created", "running"):
            raise EngineError(
                f"container {container} does not stay up ({found.state}); {await self._log_end(container)}"
            )

    async def _log_end(self, container: str) -> str:
        text = await in_thread(partial(self._engine.logs, container, _LOG_LINES))
        lines = [clean(redact(line)) for line in text.splitlines() if line.strip()]
        return f"its log ends: {' | '.join(lines)}" if lines else "its log is empty"


def free_ports(address: str) -> Ports:
    """Two ports that are free on an address of this machine; raises `EngineError` where it is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with ExitStack() as stack:
            taken = [stack.enter_context(socket.socket(family)) for _ in range(2)]
            for each in taken:
                each.bind((address, 0))
            sled, ssh = (int(each.getsockname()[1]) for each in taken)
    except OSError as error:
        raise EngineError(f"no port can be published on {address}: {error.strerror}") from None
    return Ports(address, sled, ssh)


def _url_for(wanted: Wanted, settings: Settings) -> str:
    """By which URL the container's sled is to reach the gateway; raises `InvalidProjectError`."""
    asked = wanted.gateway_url
    # Whoever asks from this machine, or through a tunnel, sees it where a container does not.
    is_meant = asked is not None and not is_this_machine(asked)
    url = (asked if is_meant else settings.gateway_url) or settings.own_url
    if is_this_machine(url) and url.startswith(("https:", "wss:")):
        raise InvalidProjectError(
            "gateway_url: this gateway serves TLS, and its certificate is for no name by which a container "
            "reaches this machine; say --gateway-url with the name that it is for"
        )
    return url


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
