from __future__ import annotations

from tests.chat.conftest import IN_MATRIX, StartBot, StartPerson, push
from tests.support.gateway_process import blocked

from huskies.gateway.server import Gateway

pytestmark = IN_MATRIX


async def test_a_command_is_answered_in_a_room(
    person: StartPerson, start_bot: StartBot, gateway: Gateway
) -> None:
    await push(gateway.url, blocked(1))
    ann, bob = await person(), await person("bob")
    bot = await start_bot(ann)
    me = bot._session.user_id
    room = await ann.create_room(me, bob.user_id)
    await bob.join(room)
    await ann.until_joined(room, me)
    await ann.say(room, "!blocked")
    [answer] = await ann.hears(room, me)
    assert "web-shop" in answer.body
    assert "reason 1" in answer.body
    assert "<b>web-shop</b>" in answer.formatted_body


async def test_a_command_is_answered_in_an_encrypted_room(
    person: StartPerson, start_bot: StartBot, gateway: Gateway
) -> None:
    await push(gateway.url, blocked(1))
    ann = await person()
    bot = await start_bot(ann)
    me = bot._session.user_id
    room = await ann.create_room(me, encrypted=True)
    await ann.until_joined(room, me)
    await ann.say(room, "blocked")
    [answer] = await ann.hears(room, me)
    assert answer.decrypted
    assert "reason 1" in answer.body
