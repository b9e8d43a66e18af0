"""A real homeserver for all tests here, with people, a gateway and a bot for each of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import pytest
from nio import Event
from tests.gateway.conftest import starting
from tests.support.chat_scene import Scene
from tests.support.matrix_person import PATIENCE, Person
from tests.support.synapse import PASSWORD, Synapse, installed, running

from huskies import config, logs
from huskies.chat.bot import Bot
from huskies.chat.gateway import GatewayClient
from huskies.chat.settings import BotSettings
from huskies.gateway.server import Gateway
from huskies.notify.channel import Outgoing
from huskies.readers.times import now_ms

IN_MATRIX: Final = pytest.mark.skipif(
    not installed(), reason="no homeserver is installed: `make .venv-homeserver/.installed` installs it"
)
_NUMBERS: Final = itertools.count(1)


@pytest.fixture(autouse=True)
def _nothing_left_from_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_registered", set())
    monkeypatch.setattr(config, "_warned", set())


@pytest.fixture(scope="package")
def synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    with running(tmp_path_factory.mktemp("synapse")) as one:
        yield one


async def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds; a bot comes back with pauses of its own."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - the conditions are of many kinds
            await asyncio.sleep(0.01)


class Muted:
    """Keeps mutes in memory."""

    def __init__(self) -> None:
        self.until: dict[str, int] = {}

    async def mute(self, project: str, until_ms: int) -> None:
        self.until[project] = until_ms

    async def unmute(self, project: str) -> bool:
        return self.until.pop(project, None) is not None

    async def muted(self) -> dict[str, int]:
        return dict(self.until)


class StartPerson(Protocol):
    async def __call__(self, name: str = ...) -> Person: ...


@pytest.fixture
async def person(synapse: Synapse, tmp_path: Path) -> AsyncIterator[StartPerson]:
    """Register someone of whom there is no other, and log them in."""
    people: list[Person] = []

    async def start(name: str = "ann") -> Person:
        user_id = await asyncio.to_thread(synapse.register, f"{name}-{next(_NUMBERS)}")
        one = Person(synapse.url, user_id, tmp_path / user_id.partition(":")[0][1:])
        people.append(one)
        await one.log_in()
        return one

    yield start
    for one in people:
        await one.close()


class StartBot(Protocol):
    async def __call__(self, *allowed: Person, **changes: Any) -> Bot: ...


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with starting(tmp_path) as start:
        yield await start()


@pytest.fixture
def mutes() -> Muted:
    return Muted()


@pytest.fixture
async def start_bot(
    synapse: Synapse, tmp_path: Path, gateway: Gateway, mutes: Muted
) -> AsyncIterator[StartBot]:
    """Start the bot of one account, which is made at the first start."""
    bots: list[Bot] = []
    accounts: list[str] = []
    name = f"huskies-{next(_NUMBERS)}"

    async def start(
        *allowed: Person,
        gateway_url: str = gateway.url,
        reread: Callable[[], BotSettings] | None = None,
        **changes: Any,
    ) -> Bot:
        if not accounts:
            accounts.append(await asyncio.to_thread(synapse.register, name))
        given: dict[str, Any] = {
            "homeserver": synapse.url,
            "username": name,
            "password": PASSWORD,
            "allowed_users": frozenset(one.user_id for one in allowed),
            **changes,
        }
        bot = Bot(
            BotSettings(**given),
            gateway=GatewayClient(gateway_url),
            mutes=mutes,
            data_dir=tmp_path / "bot",
            reread=reread,
        )
        try:
            await bot.start()
        except BaseException:
            await bot.stop()
            raise
        bots.append(bot)
        # It is logged in, or has said why not.
        await until(lambda: bot._session.user_id or bot._told)
        return bot

    yield start
    for bot in bots:
        await bot.stop()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    one = Scene(tmp_path / "data")
    yield one
    one.close()


async def push(url: str, *events: dict[str, Any], project: str = "web-shop") -> None:
    async with aiohttp.ClientSession(url) as session:
        async with session.post("/gateway/tokens") as answer:
            token = (await answer.json())["token"]
        async with session.ws_connect(f"/gateway/events/push?token={token}&project={project}") as socket:
            for event in events:
                await socket.send_str(json.dumps(event))
            # Closed by both sides, so everything before it was taken in.
            await socket.close()


def id_of(bot: Bot) -> str:
    return bot._session.user_id


async def met(person: Person, bot: Bot, *others: Person, encrypted: bool = False) -> str:
    """A room of all of them; with others, it is no direct message."""
    room = await person.create_room(id_of(bot), *(one.user_id for one in others), encrypted=encrypted)
    for one in others:
        await one.join(room)
    await person.until_joined(room, id_of(bot))
    return room


async def asks(person: Person, room: str, bot: Bot, text: str, **more: Any) -> Event:
    """The next thing that the bot says."""
    before = len(person.heard(room, id_of(bot)))
    await person.say(room, text, **more)
    return (await person.hears(room, id_of(bot), before + 1))[before]


def message(digit: str, **changes: Any) -> Outgoing:
    given: dict[str, Any] = {"text": "blocked", "html": "blocked", "queued_ms": now_ms(), **changes}
    return Outgoing(delivery_id=digit * 32, subject="", **given)
