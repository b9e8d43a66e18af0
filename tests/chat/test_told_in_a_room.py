"""All of it together: a real gateway that finds a bot.toml, a real homeserver, and someone in the room."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.chat.conftest import IN_MATRIX, StartPerson, push
from tests.support.chat_scene import Scene, edits, told
from tests.support.synapse import Synapse

from huskies.readers.times import now_ms

pytestmark = IN_MATRIX


def blocked(story: str, reason: str) -> dict[str, Any]:
    return {
        "type": "story_blocked", "story_id": story, "story_name": "", "reason": reason,
        "timestamp_ms": now_ms(),
    }  # fmt: skip


def unblocked(story: str) -> dict[str, Any]:
    return {
        "type": "stage_transition", "story_id": story, "story_name": "", "from_stage": "2_current",
        "to_stage": "2_current", "timestamp_ms": now_ms(),
    }  # fmt: skip


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_what_needs_someone_is_one_message_that_says_when_it_is_over(
    synapse: Synapse, person: StartPerson, scene: Scene, tmp_path: Path, *, encrypted: bool
) -> None:
    ann = await person()
    username = f"told-{tmp_path.name[-12:].replace('_', '-')}"
    bot = synapse.register(username)
    room = await ann.create_room(bot, encrypted=encrypted)
    scene.set_up(synapse.url, username, room, ann.user_id)
    first = scene.start()
    # Before or after the first look at the log: it is told either way.
    await push(scene.url, blocked("1_story_a", "no keys"), project="early")
    await ann.hears(room, bot)
    await push(scene.url, blocked("42_story_login", "needs <b>a</b> key"))
    await ann.until(lambda: len(told(ann, room, bot)) == 2)
    event = ann.heard(room, bot)[-1]
    assert "needs <b>a</b> key" in event.body
    assert "needs &lt;b&gt;a&lt;/b&gt; key" in event.formatted_body
    # Whatever ends in between, nobody is told twice.
    first.end(signal.SIGKILL)
    scene.start()
    await push(scene.url, unblocked("42_story_login"))
    await ann.until(lambda: edits(ann.heard(room, bot)))
    change = edits(ann.heard(room, bot))[-1].source["content"]
    assert change["m.relates_to"]["event_id"] == event.event_id
    await ann.say(room, "!ping")
    await ann.until(lambda: len(told(ann, room, bot)) == 3)
    assert told(ann, room, bot)[2].startswith("pong")
