"""New projects and removals, against what answers as the gateway does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from nio import Event
from tests.chat.conftest import IN_MATRIX, StartBot, StartPerson, until
from tests.support.lossy_proxy import LossyProxy
from tests.support.matrix_person import Person
from tests.support.project_maker import ProjectMaker
from tests.support.synapse import Synapse

from huskies import limits
from huskies.chat.bot import Bot

pytestmark = IN_MATRIX
RESULT = {
    "name": "demo",
    "url": "http://127.0.0.1:3101",
    "ssh": "ssh -p 2201 dev@127.0.0.1",
    "container": "huskies-demo",
    "directory": "/srv/projects/demo",
}


@pytest.fixture
async def maker() -> AsyncIterator[ProjectMaker]:
    async with ProjectMaker().running() as one:
        yield one


def edits(person: Person, room: str, sender: str) -> list[Event]:
    return [
        event
        for event in person.heard(room, sender)
        if event.source["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
    ]


async def until_edited(person: Person, room: str, sender: str, times: int) -> None:
    await person.until(lambda: len(edits(person, room, sender)) >= times)


def new_text(event: Event) -> str:
    return str(event.source["content"]["m.new_content"]["body"])


async def test_a_new_project_is_one_message_that_is_edited(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker
) -> None:
    maker.lines = [
        {"step": "clone", "text": "cloning", "done": False},
        {"step": "container", "text": "starting the container", "done": False},
        {"result": RESULT},
    ]
    ann = await person()
    bot = await start_bot(ann, gateway_url=maker.url)
    me = bot._session.user_id
    room = await ann.create_room(me)
    await ann.until_joined(room, me)
    await ann.say(room, "new project demo --git https://git.example/demo.git --stack python")
    [first] = await ann.hears(room, me)
    for number, expected in enumerate(("… cloning", "… starting the container"), 1):
        maker.go.release()
        await until_edited(ann, room, me, number)
        assert expected in new_text(edits(ann, room, me)[-1])
    maker.go.release()
    await ann.until(lambda: "log in: " in new_text(edits(ann, room, me)[-1]))
    assert maker.asked == [{"name": "demo", "git": "https://git.example/demo.git", "stack": "python"}]
    shown = edits(ann, room, me)
    assert {event.source["content"]["m.relates_to"]["event_id"] for event in shown} == {first.event_id}
    for part in ("http://127.0.0.1:3101", "ssh -p 2201 dev@127.0.0.1", "/srv/projects/demo", "✓ cloning"):
        assert part in new_text(shown[-1])
    assert [event for event in ann.heard(room, me) if event not in shown] == [first]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"refusal": (409, {"error": "web-shop is taken", "left": []})},
            ["is taken", "nothing is left"],
        ),
        (
            {"refusal": (403, {"error": "needs admin"})},
            ["needs admin", "token does not allow it", "nothing is left"],
        ),
        ({"refusal": (503, {"error": "no engine", "left": ["x"]})}, ["no engine", "still there: x"]),
        (
            {"lines": [{"step": "clone"}, {"error": "refused", "left": ["/srv/demo"]}]},
            ["✗ clone", "refused", "still there: /srv/demo"],
        ),
        ({"lines": [{"step": "clone"}], "breaks_off": True}, ["not known", "projects"]),
        ({"lines": [{"step": "clone"}]}, ["broke off", "not known", "projects"]),
        ({"lines": [{"step": "clone"}, {"error": "lost"}]}, ["lost", "not known", "projects"]),
        ({"refusal": (502, {})}, ["answered 502", "not known", "projects"]),
    ],
)
async def test_a_project_that_is_not_made_says_why_and_what_is_left(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker, told: dict[str, Any], expected: list[str]
) -> None:
    for name, value in told.items():
        setattr(maker, name, value)
        maker.go.release()
        maker.go.release()
    ann = await person()
    bot = await start_bot(ann, gateway_url=maker.url)
    me = bot._session.user_id
    room = await ann.create_room(me)
    await ann.until_joined(room, me)
    await ann.say(room, "new project demo")
    await ann.until(
        lambda: any(all(part in new_text(event) for part in expected) for event in edits(ann, room, me))
    )


async def test_a_removal_is_asked_for_and_answered_by_the_same_person(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker
) -> None:
    ann, bob, eve = await person(), await person("bob"), await person("eve")
    bot = await start_bot(ann, bob, gateway_url=maker.url)
    me = bot._session.user_id
    room = await ann.create_room(me, bob.user_id, eve.user_id)
    for other in (bob, eve):
        await other.join(room)
    await ann.until_joined(room, me)
    await ann.say(room, "!remove project web-shop")
    [question] = await ann.hears(room, me)
    assert "Remove web-shop" in question.body
    # Neither is asked.
    await eve.say(room, "yes")
    await bob.say(room, "yes")
    await bob.react(room, question.event_id, "👍")
    await ann.say(room, "no")
    assert (await ann.hears(room, me, 2))[-1].body == "Nothing is removed"
    assert maker.removed == []
    await ann.say(room, "!remove project web-shop")
    question = (await ann.hears(room, me, 3))[-1]
    await ann.react(room, question.event_id, "👍\ufe0f")
    assert "web-shop is removed: container huskies-web-shop" in (await ann.hears(room, me, 4))[-1].body
    assert maker.removed == ["web-shop"]
    await ann.say(room, "!remove project nowhere")
    assert "no project nowhere" in (await ann.hears(room, me, 5))[-1].body
    await ann.say(room, "yes")
    await ann.say(room, "!ping")
    assert (await ann.hears(room, me, 6))[-1].body.startswith("pong")


@asynccontextmanager
async def meeting(
    ann: Person, start_bot: StartBot, maker: ProjectMaker, synapse: Synapse
) -> AsyncIterator[tuple[LossyProxy, Bot, str]]:
    """A bot that reaches its homeserver through a proxy, and its room with `ann`."""
    async with LossyProxy(synapse.url).running() as proxy:
        bot = await start_bot(ann, homeserver=proxy.url, gateway_url=maker.url)
        me = bot._session.user_id
        room = await ann.create_room(me)
        await ann.until_joined(room, me)
        yield proxy, bot, room


async def test_a_reaction_counts_that_comes_before_the_bot_knows_that_it_has_asked(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker, synapse: Synapse
) -> None:
    ann = await person()
    async with meeting(ann, start_bot, maker, synapse) as (proxy, bot, room):
        me = bot._session.user_id
        await ann.say(room, "ping")
        await ann.hears(room, me)
        proxy.loses = lambda method, path: method == "PUT" and "/send/" in path
        await ann.say(room, "remove project web-shop")
        # Under another message it is no answer.
        for message in await ann.hears(room, me, 2):
            reaction = await ann.react(room, message.event_id, "👍")
            await until(partial(bot._conversation._under_way.__contains__, reaction))
        assert maker.removed == []
        proxy.loses = lambda _method, _path: False
        await ann.hears(room, me, 3)
        said = [event.body.partition(":")[0] for event in ann.heard(room, me)]
        assert said[2:] == ["web-shop is removed"]
        assert maker.removed == ["web-shop"]
        await bot.stop()


async def test_a_removal_whose_answer_was_sent_is_not_called_interrupted(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker, synapse: Synapse
) -> None:
    ann = await person()
    async with meeting(ann, start_bot, maker, synapse) as (proxy, bot, room):
        me = bot._session.user_id
        await ann.say(room, "remove project web-shop")
        await ann.hears(room, me)
        # The homeserver has the answer, and the bot ends before it knows.
        proxy.loses = lambda method, path: method == "PUT" and "/send/" in path
        await ann.say(room, "yes")
        await proxy.until_lost()
        await bot.stop()
        proxy.loses = lambda _method, _path: False
        again = await start_bot(ann, homeserver=proxy.url, gateway_url=maker.url)
        await until(lambda: again._session.ready and again._store.unanswered() == [])
        await ann.say(room, "ping")
        await ann.hears(room, me, 3)
        said = [event.body.partition(":")[0] for event in ann.heard(room, me)]
        assert said[1:] == ["web-shop is removed", "pong"]
        assert maker.removed == ["web-shop"]
        await again.stop()


async def test_a_yes_that_comes_too_late_removes_nothing(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONFIRM_LIMIT", -1.0)
    ann = await person()
    bot = await start_bot(ann, gateway_url=maker.url)
    me = bot._session.user_id
    room = await ann.create_room(me)
    await ann.until_joined(room, me)
    await ann.say(room, "remove project web-shop")
    await ann.hears(room, me)
    await ann.say(room, "yes")
    assert "nothing is done" in (await ann.hears(room, me, 2))[-1].body
    assert maker.removed == []


async def test_what_was_interrupted_is_not_done_again(
    person: StartPerson, start_bot: StartBot, maker: ProjectMaker
) -> None:
    maker.lines = [{"step": "clone", "text": "cloning", "done": False}]
    ann = await person()
    bot = await start_bot(ann, gateway_url=maker.url)
    me = bot._session.user_id
    room = await ann.create_room(me)
    await ann.until_joined(room, me)
    await ann.say(room, "new project demo")
    await maker.started.wait()
    await bot.stop()
    await start_bot(ann, gateway_url=maker.url)
    answer = (await ann.hears(room, me, 2))[-1]
    assert answer.source["content"]["body"].startswith("I was restarted while I did new project demo;")
    assert len(maker.asked) == 1
