"""One command is answered once, and a message gets into the room once, whatever ends in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from nio import EncryptionError
from nio.crypto import Olm
from tests.chat.conftest import IN_MATRIX, StartBot, StartPerson, until
from tests.support.bot_process import BotProcess
from tests.support.lossy_proxy import LossyProxy
from tests.support.matrix_person import Person
from tests.support.synapse import PASSWORD, Synapse

from huskies.chat import channel
from huskies.chat.bot import Bot
from huskies.gateway.server import Gateway
from huskies.notify.channel import DoubtfulError, Outgoing
from huskies.readers.times import now_ms
from huskies.storage.sqlite import open_reader

pytestmark = IN_MATRIX
_SEND = re.compile(r"/rooms/[^/]+/send/")


def sending(method: str, path: str) -> bool:
    return method == "PUT" and _SEND.search(path) is not None


@pytest.fixture
async def proxy(synapse: Synapse) -> AsyncIterator[LossyProxy]:
    async with LossyProxy(synapse.url).running() as one:
        yield one


async def met(person: Person, bot_id: str, *others: str, encrypted: bool) -> str:
    """A room of both."""
    room = await person.create_room(bot_id, *others, encrypted=encrypted)
    await person.until_joined(room, bot_id)
    return room


async def all_said(person: Person, room: str, bot_id: str, data_dir: Path) -> list[Any]:
    """What the bot has said once every command that it took has its answer."""
    await until(lambda: set(states(data_dir)) == {"answered"})
    # What stands before it has arrived when it has.
    marker = await person.say(room, "now", msgtype="m.notice")
    await person.until(lambda: any(event.event_id == marker for _, event in person.events))
    return person.heard(room, bot_id)


def states(data_dir: Path) -> list[str]:
    with closing(open_reader(data_dir / "matrix" / "bot.db")) as db:
        return [state for (state,) in db.execute("SELECT state FROM commands")]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_reply_that_is_lost_leaves_one_answer(
    person: StartPerson, start_bot: StartBot, proxy: LossyProxy, tmp_path: Path, *, encrypted: bool
) -> None:
    ann = await person()
    bot = await start_bot(ann, homeserver=proxy.url)
    me = bot._session.user_id
    room = await met(ann, me, encrypted=encrypted)
    proxy.loses = lambda method, path: sending(method, path) and not proxy.lost
    await ann.say(room, "!ping")
    await proxy.until_lost()
    [answer] = await all_said(ann, room, me, tmp_path / "bot")
    assert answer.body.startswith("pong")


@pytest.mark.parametrize("lost", ["/keys/claim", "/sendToDevice/", "/keys/query"])
async def test_keys_that_are_not_shared_at_first_are_shared_before_anything_is_said(
    person: StartPerson, start_bot: StartBot, proxy: LossyProxy, lost: str
) -> None:
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann, homeserver=proxy.url)
    me = bot._session.user_id
    proxy.drops = lambda _, path: lost in path
    room = await met(ann, me, bob.user_id, encrypted=True)
    await bob.join(room)
    await ann.say(room, "!ping")
    await proxy.until_lost(2)
    proxy.drops = lambda _method, _path: False
    for one in (ann, bob):
        [answer] = await one.hears(room, me)
        assert answer.decrypted
        assert answer.body.startswith("pong")


@pytest.fixture
def bot_process(
    synapse: Synapse, tmp_path: Path, gateway: Gateway, proxy: LossyProxy
) -> Iterator[tuple[BotProcess, str]]:
    directory = tmp_path / "bot-process"
    directory.mkdir()
    user_id = synapse.register(f"killed-{tmp_path.name.replace('_', '-')[-30:]}".lower())
    process = BotProcess(directory, gateway.url, PASSWORD)
    (directory / "bot.toml").write_text(
        f'homeserver = "{proxy.url}"\nusername = "{user_id}"\nallowed_users = []\n'
    )
    yield process, user_id
    process.close()


def allow(process: BotProcess, *people: Person) -> None:
    path = process.data_dir / "bot.toml"
    names = ", ".join(f'"{one.user_id}"' for one in people)
    path.write_text(path.read_text().replace("allowed_users = []", f"allowed_users = [{names}]"))


async def test_a_bot_that_is_killed_before_it_answered_answers_once(
    person: StartPerson, bot_process: tuple[BotProcess, str], proxy: LossyProxy
) -> None:
    process, me = bot_process
    ann = await person()
    allow(process, ann)
    process.start()
    room = await met(ann, me, encrypted=False)
    proxy.drops = sending
    await ann.say(room, "!ping")
    await proxy.until_lost()
    await asyncio.to_thread(process.kill)
    proxy.drops = lambda _method, _path: False
    await asyncio.to_thread(process.start)
    [answer] = await all_said(ann, room, me, process.data_dir)
    assert answer.body.startswith("pong")


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_bot_that_is_killed_before_it_knows_that_it_answered_answers_once(
    person: StartPerson, bot_process: tuple[BotProcess, str], proxy: LossyProxy, *, encrypted: bool
) -> None:
    process, me = bot_process
    ann = await person()
    allow(process, ann)
    process.start()
    room = await met(ann, me, encrypted=encrypted)
    proxy.loses = sending
    await ann.say(room, "!ping")
    await proxy.until_lost()
    await asyncio.to_thread(process.kill)
    [answer] = await ann.hears(room, me)
    assert answer.body.startswith("pong")
    devices = await ann.devices_of(me) if encrypted else None
    proxy.loses = lambda _method, _path: False
    await asyncio.to_thread(process.start)
    [answer] = await all_said(ann, room, me, process.data_dir)
    assert answer.body.startswith("pong")
    assert await asyncio.to_thread(process.end) == 0
    assert "Traceback" not in process.log.read_text()
    if encrypted:
        assert devices is not None
        assert len(devices) == 1
        assert await ann.devices_of(me) == devices


async def test_a_homeserver_that_is_killed_in_between_has_one_answer(
    person: StartPerson, start_bot: StartBot, proxy: LossyProxy, synapse: Synapse, tmp_path: Path
) -> None:
    ann = await person()
    bot = await start_bot(ann, homeserver=proxy.url)
    me = bot._session.user_id
    room = await met(ann, me, encrypted=False)
    proxy.loses = sending
    await ann.say(room, "!ping")
    await proxy.until_lost()
    await asyncio.to_thread(synapse.kill)
    proxy.loses = lambda _method, _path: False
    await asyncio.to_thread(synapse.start)
    [answer] = await all_said(ann, room, me, tmp_path / "bot")
    assert answer.body.startswith("pong")


def message(**changes: Any) -> Outgoing:
    given: dict[str, Any] = {
        "delivery_id": "a" * 32,
        "subject": "blocked",
        "text": "web-shop 42 Login: blocked",
        "html": "web-shop <b>42 Login</b>: blocked",
        "queued_ms": now_ms(),
        **changes,
    }
    return Outgoing(**given)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_message_in_doubt_is_found(
    person: StartPerson,
    start_bot: StartBot,
    proxy: LossyProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    encrypted: bool,
) -> None:
    monkeypatch.setattr(channel, "_PAGE_EVENTS", 10)
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann, homeserver=proxy.url)
    me = bot._session.user_id
    room = await met(ann, me, bob.user_id, encrypted=encrypted)
    again = await restarted(bot, start_bot, ann, proxy, room)
    to_room = again.channel
    assert to_room is not None
    doubtful = message()
    assert await to_room.look_for(doubtful) is None
    proxy.loses = sending
    with pytest.raises(DoubtfulError):
        await to_room.send(doubtful)
    proxy.loses = lambda _method, _path: False
    # More than a page lies above it.
    for number in range(25):
        await ann.say(room, f"talk {number}")
    found = await to_room.look_for(doubtful)
    assert found is not None
    [said] = await ann.hears(room, me)
    assert found.remote_id == said.event_id
    assert await to_room.look_for(message(delivery_id="b" * 32)) is None
    assert await to_room.send(doubtful) == found
    # Another process of the same device finds it, too, and its attempt is the same message.
    once_more = await restarted(again, start_bot, ann, proxy, room)
    assert once_more.channel is not None
    assert await once_more.channel.look_for(doubtful) == found
    with monkeypatch.context() as patch:
        # As it is a day later, when the homeserver tells no transaction any more.
        patch.setattr(channel, "transaction_id", lambda _: "")
        assert await once_more.channel.look_for(doubtful) == found
    assert await once_more.channel.send(doubtful) == found
    await ann.say(room, "!ping")
    await ann.hears(room, me, 2)
    first, ping = await all_said(ann, room, me, tmp_path / "bot")
    assert (first.event_id, ping.body[:4]) == (found.remote_id, "pong")


async def restarted(bot: Bot, start_bot: StartBot, person: Person, proxy: LossyProxy, room: str) -> Bot:
    await bot.stop()
    again = await start_bot(person, homeserver=proxy.url, room_ids=(room,))
    await until(lambda: again._session.ready)
    return again


class Blind:
    """Nobody but the people here can decrypt, for as long as it holds: the keys have not come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bot_id: str) -> None:
        self.holds = True
        decrypt = Olm.decrypt_megolm_event

        def decrypt_if_not_blind(machine: Olm, *arguments: Any) -> Any:
            if self.holds and machine.user_id == bot_id:
                raise EncryptionError("the keys have not come")
            return decrypt(machine, *arguments)

        monkeypatch.setattr(Olm, "decrypt_megolm_event", decrypt_if_not_blind)


async def test_a_command_whose_keys_come_after_a_restart_is_answered_once(
    person: StartPerson, start_bot: StartBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ann = await person()
    bot = await start_bot(ann)
    me = bot._session.user_id
    room = await met(ann, me, encrypted=True)
    blind = Blind(monkeypatch, me)
    await ann.say(room, "ping")
    await until(bot._store.waiting)
    await bot.stop()
    blind.holds = False
    again = await start_bot(ann)
    await ann.hears(room, me)
    [answer] = await all_said(ann, room, me, tmp_path / "bot")
    assert answer.body.startswith("pong")
    assert again._store.waiting() == []
