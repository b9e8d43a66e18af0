"""The places of a simulation and what runs there: gateways, sleds, and readers of the gateways' streams.

Each runs in a process of its own that is started again whenever it ended, as a service manager would. What is
run are the classes that `huskies gateway` and `huskies sled` run.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
import msgspec

from huskies import limits
from huskies.config import PROJECTS_FILE, GatewaySettings, SledSettings
from huskies.errors import HuskiesError
from huskies.events.model import StoryBlocked
from huskies.gateway.access import file as access_file
from huskies.gateway.server import Gateway
from huskies.sled.broadcast import Receipt
from huskies.sled.layout import Layout
from huskies.sled.service import Sled
from huskies.sse import Message, SseParser
from huskies.testing.disk import SimulatedCommits
from huskies.testing.loop import Process
from huskies.testing.place import Place

if TYPE_CHECKING:
    from huskies.testing.world import World

_PORT: Final = 3_000
_PEER_TOKEN: Final = "peers-of-the-simulation"  # noqa: S105 - made up
_READER_TOKEN: Final = "reader-of-the-simulation"  # noqa: S105 - made up
_AGAIN_SECONDS: Final = (0.2, 15.0)
_KEEP_ACKED_MS: Final = (0, 60_000, limits.KEEP_ACKED_MS)
_READ_AGAIN: Final = 8.0


class Service(Protocol):
    """A server, as `huskies.cli.runtime` runs them."""

    async def start(self) -> None:
        """Return once it serves."""

    async def stop(self) -> None:
        """End it."""

    async def wait(self) -> None:
        """Return when it was stopped."""


class Node:
    """A place and the process that runs there, if one does."""

    def __init__(self, world: World, name: str, host: str) -> None:
        self.world = world
        self.name = name
        random = world.random_of(name)
        self.random = random
        self.directory = world.directory / name
        self.directory.mkdir()
        self.place = Place(world.loop, name, host, self.directory, random)
        world.network.places[host] = self.place
        self.process: Process | None = None
        self.service: Service | None = None
        self.starts = 0
        # While this is set, what ended is not started again.
        self.held_down = False

    def make(self) -> Service:
        """What runs here."""
        raise NotImplementedError

    @property
    def is_up(self) -> bool:
        """Whether a process runs here and is not paused."""
        return self.process is not None and not self.process.paused

    def boot(self) -> None:
        """Start the process, unless it runs."""
        if self.process is not None or self.held_down or not self.place.is_on:
            return
        self.starts += 1
        self.world.note(f"{self.name} starts")
        process = self.process = Process(self.world.loop, self.name, self.place)
        process.on_death = self._ended
        process.start(self._run(process), self.name)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()

    def terminate(self) -> None:
        """SIGTERM: let it end by itself."""
        if self.process is not None and self.service is not None:
            self.process.start(self.service.stop())

    async def _run(self, process: Process) -> None:
        # What it is made of may lie on a disk that fails.
        service: Service | None = None
        try:
            service = self.make()
            await service.start()
            self.service = service
            await service.wait()
        except HuskiesError as error:
            self.world.note(f"{self.name} ends: {type(error).__name__}")
            self.world.count("ended by an error")
        except Exception as error:  # noqa: BLE001 - whatever else comes out of a service is a defect
            if not process.alive:
                return
            self.world.violated(f"{self.name} failed: {error!r}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.SHUTDOWN_LIMIT):
                if service is not None:
                    await service.stop()
        self.world.loop.call_soon(process.kill, context=self.world.loop.root.context)

    def _ended(self) -> None:
        self.process = self.service = None
        # The system lets go of the locks of a process that ended.
        for lock in ("lock", ".huskies/state/lock"):
            (self.directory / lock).unlink(missing_ok=True)
        self.world.note(f"{self.name} is gone")
        self.world.later(self.random.uniform(*_AGAIN_SECONDS), self.boot)


class GatewayNode(Node):
    """A gateway; `peers` are the ones that it dials."""

    def __init__(self, world: World, name: str, host: str) -> None:
        super().__init__(world, name, host)
        self.url = f"http://{host}:{_PORT}"
        self.peers: tuple[str, ...] = ()
        self.data = self.directory / "data"
        self._image = self.directory / "image"

    def make(self) -> Service:
        """The gateway."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        if not (self.data / PROJECTS_FILE).exists():
            lines = ["[sled_tokens]", *(f'{name} = "{token_of(name)}"' for name in self.world.sleds)]
            (self.data / PROJECTS_FILE).write_text("\n".join([*lines, ""]))
            (self.data / PROJECTS_FILE).chmod(0o600)
        _let_readers_in(self.data)
        settings = GatewaySettings(
            host=self.place.host, port=_PORT, data_dir=self.data, peers=self.peers, peer_token=_PEER_TOKEN
        )
        return Gateway(settings, commits=SimulatedCommits)

    @property
    def gateway(self) -> Gateway | None:
        """The gateway, once it serves."""
        return self.service if isinstance(self.service, Gateway) else None

    def _ended(self) -> None:
        (self.data / "lock").unlink(missing_ok=True)
        super()._ended()

    def take_image(self) -> None:
        """Keep a copy of its store as it is now."""
        shutil.rmtree(self._image, ignore_errors=True)
        shutil.copytree(self.data, self._image)

    def lose_disk(self, *, restores: bool) -> None:
        """What the gateway held is gone, or as it was when the image was taken; it must not run."""
        shutil.rmtree(self.data, ignore_errors=True)
        if restores:
            shutil.copytree(self._image, self.data)

    def lose_views(self) -> None:
        """The machine lost what was not fsynced: of the views, anything."""
        for path in self.data.glob("views.db*"):
            path.unlink()


class SledNode(Node):
    """A sled, with a journal of what was attempted and what it acknowledged."""

    def __init__(self, world: World, name: str, host: str, gateways: tuple[str, ...], copies: int) -> None:
        super().__init__(world, name, host)
        self.gateways = gateways
        self.copies = copies
        # One that keeps nothing relies on acks alone.
        self.keep_acked_ms = self.random.choice(_KEEP_ACKED_MS)
        self.forgets = self.keep_acked_ms < limits.KEEP_ACKED_MS
        self.attempted = 0
        self.acknowledged: dict[int, Receipt] = {}
        self._image = self.directory / "image"
        # Whether an older outbox was ever put back.
        self.restored = False

    def make(self) -> Service:
        """The sled."""
        settings = SledSettings(
            project_dir=self.directory,
            name=self.name,
            gateway_url=self.gateways,
            sled_token=token_of(self.name),
            host=self.place.host,
            keep_until_held_by=self.copies,
            keep_acked_ms=self.keep_acked_ms,
        )
        return Sled(settings, commits=SimulatedCommits, watch=Unwatched)

    @property
    def sled(self) -> Sled | None:
        """The sled, once it serves."""
        return self.service if isinstance(self.service, Sled) else None

    @property
    def outbox(self) -> Path:
        """The outbox's file."""
        return Layout(self.directory).outbox

    def publish(self, count: int, padding: int) -> None:
        """Publish so many events at once, each with a value of its own and so much beside it."""
        if self.process is None or self.sled is None:
            return
        for _ in range(count):
            self.attempted += 1
            self.process.start(self._publish(self.sled, self.attempted, "." * padding))

    async def _publish(self, sled: Sled, number: int, padding: str) -> None:
        reason = f"{self.name} {number} {padding}"
        try:
            receipt = await sled.broadcaster.publish(StoryBlocked(story_id="1_story_x", reason=reason))
        except HuskiesError:
            return
        assert receipt is not None  # noqa: S101 - a sled records
        self.acknowledged[number] = receipt

    def take_image(self) -> None:
        """Keep a copy of the outbox as it is now."""
        shutil.rmtree(self._image, ignore_errors=True)
        self._image.mkdir()
        for path in self.outbox.parent.glob("outbox.db*"):
            shutil.copy(path, self._image)

    @property
    def image(self) -> Path:
        """The file of the outbox's copy."""
        return self._image / self.outbox.name

    def restore_image(self) -> None:
        """Put the older outbox back; the sled must not run."""
        self.restored = True
        for path in self.outbox.parent.glob("outbox.db*"):
            path.unlink()
        for path in self._image.iterdir():
            shutil.copy(path, self.outbox.parent)


class Unwatched:
    """Tells of no change: looking now and then is enough where no stories move."""

    def __init__(self, directories: object, changed: object) -> None:
        del directories, changed
        self._armed = False

    def arm(self) -> bool:
        """True the first time, when everything must be looked at."""
        before, self._armed = self._armed, True
        return not before

    def disarm(self) -> None:
        """Nothing to stop."""


class Seen(msgspec.Struct):
    """An event as a reader is told of it."""

    cursor: str
    sled_id: str
    epoch: str
    seq: int


class ReaderNode(Node):
    """A program that follows one gateway's stream, and resumes it whenever it breaks off."""

    def __init__(self, world: World, name: str, host: str, gateway: GatewayNode) -> None:
        super().__init__(world, name, host)
        self.gateway = gateway
        # What was read since the stream last began anew.
        self.seen: list[Seen] = []
        # How far, as the stream said.
        self.position = 0
        self._stopped = asyncio.Event()
        self._parser = SseParser()

    def make(self) -> Service:
        """Itself."""
        return self

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def wait(self) -> None:
        """Read for ever."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=10, sock_read=3 * limits.STREAM_ID_INTERVAL
            )
        ) as client:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    await self._read(client)
                await asyncio.sleep(_READ_AGAIN * self.random.uniform(0.5, 1.5))

    async def _read(self, client: aiohttp.ClientSession) -> None:
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {_READER_TOKEN}"}
        query = {}
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id
        else:
            query["after"] = "0"
        self._parser.restart()
        url = f"{self.gateway.url}/gateway/events"
        async with client.get(url, params=query, headers=headers) as response:
            async for chunk in response.content.iter_any():
                for message in self._parser.feed(chunk):
                    self._take(message)

    def _take(self, message: Message) -> None:
        if self._parser.last_id:
            self.position = int(self._parser.last_id.split("-")[1])
        if message.event == "status":
            self.seen.append(msgspec.json.decode(message.data, type=Seen))
        elif message.event == "reset":
            self.seen.clear()
        elif message.event == "gap":
            self.world.violated(f"{self.name} was told of a gap: {message.data!r}")


def token_of(project: str) -> str:
    """The sled token of a project."""
    return f"token-of-{project}"


def _let_readers_in(data: Path) -> None:
    """What `huskies token create --scope read` does, with a secret that every reader knows."""
    file = access_file.AccessFile(data)
    # The file alone says nothing: an earlier attempt may have ended between making and filling it.
    if not file.read("SELECT id FROM tokens"):
        with file.transaction() as db:
            values = ("readers", "readers", access_file.hashed(_READER_TOKEN), '["read"]', 0, "simulation")
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, NULL)", values)
    file.close()


def draw_subset(random: Random, values: list[Any]) -> tuple[Any, ...]:
    """Some of the values, at least one, in any order."""
    return tuple(random.sample(values, random.randint(1, len(values))))
