"""How the bot gets into its account, and what becomes of everything else where it does not."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.chat.conftest import IN_MATRIX, Muted, StartBot, StartPerson, asks, id_of, message, met, until
from tests.support.lossy_proxy import LossyProxy
from tests.support.synapse import PASSWORD, Synapse

from huskies import logs
from huskies.chat import bot as bot_module
from huskies.chat.bot import Bot
from huskies.chat.gateway import GatewayClient
from huskies.chat.settings import BotSettings
from huskies.errors import ConfigError, HuskiesError
from huskies.gateway.server import Gateway
from huskies.notify.channel import DeliveryError

pytestmark = IN_MATRIX


async def test_a_homeserver_that_is_away_is_waited_for_and_that_is_said_once(
    person: StartPerson, start_bot: StartBot, synapse: Synapse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "huskies")
    ann = await person()
    async with LossyProxy(synapse.url).running() as proxy:
        proxy.refuses = True
        bot = await start_bot(ann, homeserver=proxy.url)
        await until(lambda: bot._told)
        proxy.refuses = False
        await until(lambda: "answers again" in caplog.text)
        room = await met(ann, bot)
        proxy.refuses = True
        # Whatever is held open ends, too.
        proxy.cut_all()
        await until(lambda: caplog.text.count("trying again") == 2)
        await ann.say(room, "ping")
        proxy.refuses = False
        assert (await ann.hears(room, id_of(bot)))[0].body.startswith("pong")
        assert caplog.text.count("trying again") == 2
        await bot.stop()


async def test_a_login_that_is_refused_is_said_once_and_tried_again_with_another_secret(
    person: StartPerson,
    start_bot: StartBot,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bot_module, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(bot_module, "_LOG_IN_AGAIN", 0.05)
    ann = await person()
    now: list[Any] = []

    def reread() -> BotSettings:
        if not now:
            raise ConfigError("bot.toml", "someone is at it")
        return msgspec.structs.replace(bot._settings, password=now[0])

    bot = await start_bot(ann, password="something else", room_ids=("!a:hs.test",), reread=reread)
    asked: list[Any] = []
    login = bot._session.log_in

    async def log_in() -> None:
        asked.append(None)
        await login()

    monkeypatch.setattr(bot._session, "log_in", log_in)
    await until(lambda: len(asked) >= 3)
    assert caplog.text.count("no room is told anything until it is") == 1
    assert "something else" not in caplog.text
    assert bot.channel is not None
    with pytest.raises(DeliveryError, match=r"not logged in: .* it refused the login with 403") as error:
        await bot.channel.send(message("0"))
    assert not error.value.permanent
    now.append(PASSWORD)
    await until(lambda: bot._session.ready)
    room = await met(ann, bot)
    assert (await asks(ann, room, bot, "ping")).body.startswith("pong")


async def test_a_password_that_changes_while_it_runs_ends_nothing(
    person: StartPerson,
    start_bot: StartBot,
    synapse: Synapse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bot_module, "_LOOK_AGAIN", 0.01)
    ann = await person()
    passwords = [PASSWORD]
    bot: Bot = await start_bot(
        ann, reread=lambda: msgspec.structs.replace(bot._settings, password=passwords[-1])
    )
    room = await met(ann, bot)
    await asks(ann, room, bot, "ping")
    me, device = id_of(bot), bot._session.client.device_id
    identifier = {"type": "m.id.user", "user": me}
    auth = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    body = {"new_password": "another one entirely", "logout_devices": False, "auth": auth}
    path = "/_matrix/client/v3/account/password"
    headers = {"Authorization": f"Bearer {bot._session.client.access_token}"}
    async with aiohttp.ClientSession(synapse.url, headers=headers) as http:
        async with http.post(path, json=body) as answer:
            assert answer.status == 200
        await http.post("/_matrix/client/v3/logout")
    await until(lambda: "no room is told anything until it is" in caplog.text)
    assert not bot._session.ready
    await ann.say(room, "projects")
    passwords.append("another one entirely")
    assert "No project has joined" in (await ann.hears(room, me, 2))[-1].body
    assert bot._session.client.device_id == device


async def test_other_settings_end_a_bot_that_is_not_logged_in(
    start_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot_module, "_LOOK_AGAIN", 0.01)
    bot: Bot = await start_bot(
        password="wrong", reread=lambda: msgspec.structs.replace(bot._settings, username="other")
    )
    with pytest.raises(HuskiesError, match=r"^bot\.toml has changed; it is read at the next start$"):
        await bot.wait()


async def test_a_homeserver_that_hangs_does_not_hold_up_the_start(gateway: Gateway, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        while await reader.read(1_024):
            pass
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = BotSettings(homeserver=url, username="huskies", password="x")
        bot = Bot(settings, gateway=GatewayClient(gateway.url), mutes=Muted(), data_dir=tmp_path)
        await bot.start()
        assert not asked.is_set()
        await asked.wait()
        await bot.stop()


async def test_an_access_token_is_enough_and_one_that_is_unknown_waits_for_another(
    person: StartPerson,
    start_bot: StartBot,
    synapse: Synapse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bot_module, "_LOOK_AGAIN", 0.01)
    ann = await person()
    tokens = ["made-up"]
    bot: Bot = await start_bot(
        ann,
        password=None,
        access_token="made-up",
        reread=lambda: msgspec.structs.replace(bot._settings, access_token=tokens[-1]),
    )
    await until(lambda: "does not know this access token; give it a new one" in caplog.text)
    identifier = {"type": "m.id.user", "user": bot._settings.username}
    body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{synapse.url}/_matrix/client/v3/login", json=body) as answer,
    ):
        login = await answer.json()
    tokens.append(login["access_token"])
    await until(lambda: bot._session.ready)
    assert bot._session.client.device_id == login["device_id"]
    room = await met(ann, bot, encrypted=True)
    assert (await asks(ann, room, bot, "ping")).body.startswith("pong")


async def test_a_device_that_is_logged_out_logs_in_again_as_the_same(
    person: StartPerson, start_bot: StartBot, synapse: Synapse
) -> None:
    ann = await person()
    bot = await start_bot(ann)
    room = await met(ann, bot, encrypted=True)
    await asks(ann, room, bot, "ping")
    before = bot._session.client
    keys = await ann.devices_of(id_of(bot))
    headers = {"Authorization": f"Bearer {before.access_token}"}
    async with aiohttp.ClientSession(synapse.url, headers=headers) as http:
        await http.post("/_matrix/client/v3/logout")
    await until(lambda: bot._session.client is not before and bot._session.ready)
    assert bot._session.client.device_id == before.device_id
    assert keys.keys() == {before.device_id}
    # The homeserver has forgotten the keys, and is told them again.
    assert await ann.devices_of(id_of(bot)) == keys


async def test_the_token_of_a_fresh_login_is_kept_out_of_the_log_at_once(
    start_bot: StartBot,
) -> None:
    bot = await start_bot()
    token = bot._session.client.access_token
    assert token not in logs.redact(f"it said {token}")


async def test_two_processes_are_never_one_device(person: StartPerson, start_bot: StartBot) -> None:
    ann = await person()
    await start_bot(ann)
    with pytest.raises(ConfigError, match="another process runs this bot"):
        await start_bot(ann)
