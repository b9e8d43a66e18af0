"""Who is answered, where, and with what."""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.chat.conftest import (
    IN_MATRIX,
    Muted,
    StartBot,
    StartPerson,
    asks,
    id_of,
    message,
    met,
    push,
    until,
)
from tests.support.gateway_process import blocked
from tests.support.lossy_proxy import LossyProxy
from tests.support.synapse import Synapse

from huskies import limits
from huskies.chat import session
from huskies.chat.bot import Bot
from huskies.chat.store import CommandStore, Taken
from huskies.gateway.server import Gateway
from huskies.limits import TIMESTAMP_MS_MAX
from huskies.notify.channel import DeliveryError
from huskies.readers.times import now_ms

pytestmark = IN_MATRIX


async def test_commands_are_answered_in_a_room(
    person: StartPerson, start_bot: StartBot, gateway: Gateway, mutes: Muted
) -> None:
    await push(gateway.url, {**blocked(1), "story_name": "<b>Login</b>"})
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann)
    room = await met(ann, bot, bob)
    answer = await asks(ann, room, bot, "!blocked")
    assert "web-shop 1 <b>Login</b>" in answer.body
    assert "<b>web-shop</b> 1 &lt;b&gt;Login&lt;/b&gt;" in answer.formatted_body
    content = answer.source["content"]
    assert content["msgtype"] == "m.notice"
    assert content["m.mentions"] == {}
    name = id_of(bot)[1:].partition(":")[0]
    for text, expected in (
        (f"{name}: status web-shop", "reason 1"),
        ("!projects", "• web-shop: silent"),
        ("!story 1", "Events: 1"),
        ("!story nothing", "No story is"),
        ("!log web-shop 5", "BLOCKED: reason 1"),
        ("!status nowhere", "there is no project nowhere"),
        ("!mute nowhere", "there is no project nowhere"),
        ("!unmute", "No project is muted."),
        ("!mute web-shop for 2h", "No notifications of web-shop for 2 h"),
        ("!unmute", "• web-shop: for 1 h 59 min more"),
        ("!unmute web-shop", "web-shop is not muted any more"),
        ("!mute web-shop", "No notifications of web-shop until unmute web-shop"),
        ("!unmute", "• web-shop: until unmuted"),
        ("!log 0", "N from 1 to 50"),
        ("!help", "in a direct message with neither"),
        ("!ping", "pong: the gateway at http://127.0.0.1:"),
    ):
        assert expected in (await asks(ann, room, bot, text)).body
    assert mutes.until == {"web-shop": TIMESTAMP_MS_MAX}


async def test_an_answer_stands_behind_its_command_and_in_its_thread(
    person: StartPerson, start_bot: StartBot
) -> None:
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann)
    room = await met(ann, bot, bob)
    root = await ann.say(room, "a thread")
    answer = await asks(ann, room, bot, "!ping")
    command = ann.heard(room, ann.user_id)[-1].event_id
    assert answer.source["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": command}}
    thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    answer = await asks(ann, room, bot, "!ping", **thread)
    relation = answer.source["content"]["m.relates_to"]
    assert (relation["rel_type"], relation["event_id"]) == ("m.thread", root)


async def test_a_direct_message_needs_no_address_and_may_be_encrypted(
    person: StartPerson, start_bot: StartBot, gateway: Gateway, tmp_path: Path
) -> None:
    await push(gateway.url, blocked(1))
    ann = await person()
    bot = await start_bot(ann)
    room = await met(ann, bot, encrypted=True)
    answer = await asks(ann, room, bot, "blocked")
    assert answer.decrypted
    assert "reason 1" in answer.body
    assert "is no command" in (await asks(ann, room, bot, "how are you?")).body
    assert "nothing is done" in (await asks(ann, room, bot, "yes")).body
    # What is secret is for the owner alone.
    directory = tmp_path / "bot" / "matrix"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "account.json").stat().st_mode) == 0o600


async def test_an_outsider_gets_no_answer_and_no_visit(
    person: StartPerson, start_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    ann, eve = await person(), await person("eve")
    bot = await start_bot(ann)
    await eve.create_room(id_of(bot))
    await until(lambda: f"{eve.user_id} may not invite the bot" in caplog.text)
    room = await met(ann, bot, eve)
    for _ in range(2):
        await eve.say(room, "!ping")
    await ann.say(room, "!ping", msgtype="m.notice")
    edited = {"m.new_content": {"msgtype": "m.text", "body": "!ping"}}
    last = await ann.say(room, "talk")
    relation = {"rel_type": "m.replace", "event_id": last}
    await ann.say(room, "* !ping", **edited, **{"m.relates_to": relation})
    await asks(ann, room, bot, "!help")
    assert len(ann.heard(room, id_of(bot))) == 1
    # Once a person, not once a message.
    assert caplog.text.count("not in allowed_users") == 1
    assert len(bot._session.client.rooms) == 1


async def test_an_empty_list_admits_nobody_and_that_is_said(
    person: StartPerson, start_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await person()
    bot = await start_bot()
    assert "allowed_users in bot.toml is empty: the bot answers nobody" in caplog.text
    await ann.create_room(id_of(bot))
    await until(lambda: f"{ann.user_id} may not invite the bot" in caplog.text)


def command_store(bot: Bot, tmp_path: Path, synapse: Synapse) -> CommandStore:
    """That of a bot that was stopped."""
    return CommandStore(tmp_path / "bot" / "matrix" / "bot.db", f"{synapse.url} {bot._settings.username}")


async def test_what_was_said_before_is_history(
    person: StartPerson,
    start_bot: StartBot,
    monkeypatch: pytest.MonkeyPatch,
    synapse: Synapse,
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(session._FILTER["room"], "timeline", {"limit": 2})
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann)
    room = await met(ann, bot, bob)
    await asks(ann, room, bot, "!ping")
    await bot.stop()
    # Young enough when the bot is back, with more between than the homeserver tells at once.
    await ann.say(room, "!projects")
    for number in range(5):
        await bob.say(room, f"talk {number}")
    again = await start_bot(ann)
    await ann.hears(room, id_of(again), 2)
    assert "No project has joined" in ann.heard(room, id_of(again))[-1].body
    await again.stop()
    with closing(command_store(again, tmp_path, synapse)) as store:
        before = store.token()
    await ann.say(room, "!projects")
    monkeypatch.setattr(limits, "COMMAND_AGE_MAX_MS", -60_000)
    ignoring = await start_bot(ann)
    # Not only logged in, and not only told of it: what came is passed over once the place behind it is kept.
    await until(lambda: ignoring._store.token() != before)
    monkeypatch.undo()
    assert (await asks(ann, room, ignoring, "!ping")).body.startswith("pong")
    assert len(ann.heard(room, id_of(ignoring))) == 3


async def test_a_room_of_the_settings_is_joined_and_told_things(
    person: StartPerson, start_bot: StartBot
) -> None:
    ann = await person()
    bot = await start_bot(ann)
    room = await met(ann, bot, await person("bob"), encrypted=True)
    await bot.stop()
    again = await start_bot(ann, room_ids=(room, "!nowhere:hs.test"))
    assert [channel.name for channel in again.channels] == ["matrix", "matrix-2"]
    channel = again.channel
    assert channel is not None
    with pytest.raises(DeliveryError, match="not connected"):
        await channel.send(message("0"))
    await until(lambda: again._session.ready)
    with pytest.raises(DeliveryError, match="invite it there"):
        await again.channels[1].send(message("1"))
    told = await channel.send(message("2"))
    edited = await channel.send(message("3", text="resolved", html="<i>resolved</i>", edits=told.remote_id))
    assert edited == told
    await channel.send(message("4", text="under it", html="under it", thread=told.remote_id))
    first, edit, behind = await ann.hears(room, id_of(again), 3)
    assert first.event_id == told.remote_id
    assert first.source["content"]["msgtype"] == "m.text"
    assert edit.source["content"]["m.relates_to"] == {"rel_type": "m.replace", "event_id": first.event_id}
    assert edit.source["content"]["m.new_content"]["body"] == "resolved"
    assert behind.source["content"]["m.relates_to"]["rel_type"] == "m.thread"
    assert behind.source["content"]["m.relates_to"]["event_id"] == first.event_id
    # As long as one can be, and twice that in an edit that is encrypted.
    long = message("5", text="😀" * 50_000, html="é" * 50_000, edits=told.remote_id)
    assert await channel.send(long) == told
    # An edit is found, and named as what it edits.
    assert await channel.look_for(message("3", edits=told.remote_id)) == told
    await channel.close()


async def test_a_room_that_cannot_be_joined_yet_holds_nothing_up_and_is_joined_later(
    person: StartPerson, start_bot: StartBot, synapse: Synapse, caplog: pytest.LogCaptureFixture
) -> None:
    ann = await person()
    async with LossyProxy(synapse.url).running() as proxy:
        bot = await start_bot(ann, homeserver=proxy.url)
        room = await met(ann, bot)
        # As it is where the room's own server is away.
        proxy.drops = lambda _, path: "/join/" in path
        elsewhere = await ann.create_room(id_of(bot))
        await until(lambda: "cannot join" in caplog.text)
        assert (await asks(ann, room, bot, "ping")).body.startswith("pong")
        await bot.stop()
        # One of the settings that was never invited before holds nothing up either.
        named = await ann.create_room(id_of(bot))
        again = await start_bot(ann, homeserver=proxy.url, room_ids=(named,))
        assert (await asks(ann, room, again, "ping")).body.startswith("pong")
        assert again._store.invited() == [elsewhere, named]
        withdrawn = await ann.create_room(id_of(bot))
        await until(lambda: withdrawn in again._store.invited())
        await ann.client.room_kick(withdrawn, id_of(bot))
        await until(lambda: withdrawn not in again._store.invited())
        proxy.drops = lambda _method, _path: False
        for one in (elsewhere, named):
            await ann.until_joined(one, id_of(bot))
        await until(lambda: again._store.invited() == [])
        await again.stop()


async def test_a_gateway_that_is_away_is_said_in_the_room(person: StartPerson, start_bot: StartBot) -> None:
    ann = await person()
    bot = await start_bot(ann, gateway_url="http://127.0.0.1:1")
    room = await met(ann, bot)
    assert "no gateway answers at http://127.0.0.1:1" in (await asks(ann, room, bot, "status")).body


async def test_only_listed_devices_can_read_and_are_obeyed(person: StartPerson, start_bot: StartBot) -> None:
    ann, bob = await person(), await person("bob")
    listed = ann.client.olm.account.identity_keys["ed25519"]
    bot = await start_bot(ann, bob, encrypt_to="listed", devices=frozenset({listed}))
    room = await met(ann, bot, bob, encrypted=True)
    await bob.say(room, "!ping")
    answer = await asks(ann, room, bot, "!ping")
    assert answer.decrypted
    [unread] = await bob.hears(room, id_of(bot))
    assert not unread.decrypted


async def test_with_listed_devices_what_comes_unencrypted_into_an_encrypted_room_is_not_obeyed(
    person: StartPerson, start_bot: StartBot, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    await push(gateway.url, blocked(1))
    ann = await person()
    listed = frozenset({ann.client.olm.account.identity_keys["ed25519"]})
    bot = await start_bot(ann, encrypt_to="listed", devices=listed)
    room = await met(ann, bot, encrypted=True)
    # Ann's access token is enough to say this.
    await ann.put(room, "send/m.room.message", {"msgtype": "m.text", "body": "mute web-shop"})
    question = await asks(ann, room, bot, "remove project web-shop")
    assert "yes within 60 s." in question.body
    await ann.react(room, question.event_id, "👍")
    await until(lambda: caplog.text.count("where all is encrypted: not answered") == 2)
    assert (await asks(ann, room, bot, "no")).body == "Nothing is removed"
    assert (await asks(ann, room, bot, "unmute")).body == "No project is muted."
    # Where nothing is encrypted there is nothing to tell a device by.
    plain = await met(ann, bot)
    question = await asks(ann, plain, bot, "remove project web-shop")
    assert "or with a 👍" in question.body


ODD: tuple[Any, ...] = (None, 1, "x", [1], {"event_id": 1, "rel_type": 2, "key": 3})


async def test_whatever_is_sent_into_its_room_it_goes_on(person: StartPerson, start_bot: StartBot) -> None:
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann)
    room = await met(ann, bot, bob)
    for odd in ODD:
        for content in (
            {"msgtype": "m.text", "body": odd},
            {"msgtype": odd, "body": "!ping"},
            {"msgtype": "m.text", "body": "talk", "m.relates_to": odd, "formatted_body": odd},
        ):
            await ann.put(room, "send/m.room.message", content)
        await ann.put(room, "send/m.reaction", {"m.relates_to": odd})
        for field in ("algorithm", "ciphertext", "sender_key", "session_id", "device_id"):
            whole = {
                "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "sender_key": "x", "session_id": "x",
                "device_id": "x", "m.relates_to": odd,
            }  # fmt: skip
            await ann.put(room, "send/m.room.encrypted", {**whole, field: odd})
        for kind, field in (
            ("m.room.name", "name"), ("m.room.topic", "topic"), ("m.room.canonical_alias", "alias"),
            ("m.room.avatar", "url"), ("m.room.tombstone", "replacement_room"),
            ("m.room.pinned_events", "pinned"), ("m.room.join_rules", "join_rule"),
        ):  # fmt: skip
            await ann.put(room, f"state/{kind}", {field: odd})
        await ann.put(room, f"state/m.room.member/{ann.user_id}", {"membership": "join", "displayname": odd})
    assert (await asks(ann, room, bot, "!ping")).body.startswith("pong")
    await bot.stop()
    again = await start_bot(ann)
    assert (await asks(ann, room, again, "!ping")).body.startswith("pong")


async def test_what_cannot_be_taken_in_is_passed_over(
    person: StartPerson,
    start_bot: StartBot,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann)
    room = await met(ann, bot, bob)

    async def fail(_: object) -> None:
        raise KeyError("made up")

    with monkeypatch.context() as patch:
        patch.setattr(bot._session.client, "_handle_joined_rooms", fail)
        await bob.say(room, "talk")
        await until(lambda: "is passed over: KeyError" in caplog.text)
    assert (await asks(ann, room, bot, "!ping")).body.startswith("pong")


async def test_a_fault_of_the_bot_is_said_once_and_ends_nothing(
    person: StartPerson, start_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await person()
    bot = await start_bot(ann)
    room = await met(ann, bot)
    with monkeypatch.context() as patch:
        patch.setattr("huskies.chat.replies.pong", lambda *_: 1 // 0)
        assert "is my fault" in (await asks(ann, room, bot, "ping")).body
    assert (await asks(ann, room, bot, "ping")).body.startswith("pong")


async def test_what_one_person_asks_is_done_in_order(
    person: StartPerson, start_bot: StartBot, gateway: Gateway, mutes: Muted
) -> None:
    await push(gateway.url, blocked(1))
    ann = await person()
    bot = await start_bot(ann)
    room = await met(ann, bot)
    await bot.stop()
    # All at once for the bot that comes back; the first one asks the gateway, the second does not.
    for text in ("mute web-shop", "unmute web-shop", "mute web-shop for 1h", "unmute web-shop", "unmute"):
        await ann.say(room, text)
    again = await start_bot(ann)
    answers = await ann.hears(room, id_of(again), 5)
    assert [answer.body for answer in answers] == [
        "No notifications of web-shop until unmute web-shop",
        "web-shop is not muted any more",
        "No notifications of web-shop for 1 h; unmute web-shop ends it",
        "web-shop is not muted any more",
        "No project is muted.",
    ]
    assert mutes.until == {}


async def test_a_command_that_waited_too_long_is_not_carried_out(
    person: StartPerson, start_bot: StartBot, tmp_path: Path, synapse: Synapse, mutes: Muted
) -> None:
    ann = await person()
    bot = await start_bot(ann)
    room = await met(ann, bot)
    await bot.stop()
    store = command_store(bot, tmp_path, synapse)
    token = store.token()
    assert token is not None
    minute = 60_000
    for minutes in (10, 13 * 60):
        event_id = await ann.say(room, "talk", msgtype="m.notice")
        sent_ms = now_ms() - minutes * minute
        given: dict[str, Any] = {
            "room_id": room,
            "sender": ann.user_id,
            "body": "mute web-shop",
            "thread": None,
        }
        store.take(token, [Taken(event_id=event_id, sent_ms=sent_ms, **given)])
    store.close()
    again = await start_bot(ann)
    [answer] = await ann.hears(room, id_of(again))
    assert answer.body.startswith("I was away when you asked mute web-shop")
    await until(lambda: again._store.unanswered() == [])
    await asks(ann, room, again, "ping")
    assert len(ann.heard(room, id_of(again))) == 2
    assert mutes.until == {}
