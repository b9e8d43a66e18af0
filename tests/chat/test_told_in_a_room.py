"""All of it together: a real gateway that finds a bot.toml, a real homeserver, and someone in the room."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nio import Event
from tests.chat.conftest import IN_MATRIX, StartPerson, push
from tests.cli.conftest import SOURCES, Process
from tests.support.matrix_person import Person
from tests.support.synapse import PASSWORD, Synapse

from huskies.readers.times import now_ms

pytestmark = IN_MATRIX


class Scene:
    """A gateway's directory with a bot in it, and processes that serve it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._processes: list[Process] = []
        self.url = ""

    def set_up(self, homeserver: str, username: str, room: str, allowed: str) -> None:
        self._data_dir.mkdir(mode=0o700)
        lines = (
            f'homeserver = "{homeserver}"',
            f'username = "{username}"',
            'password_file = "password"',
            f'room_ids = ["{room}"]',
            f'allowed_users = ["{allowed}"]',
        )
        (self._data_dir / "bot.toml").write_text("\n".join(lines) + "\n")
        (self._data_dir / "password").write_text(PASSWORD)
        (self._data_dir / "password").chmod(0o600)

    def start(self) -> Process:
        arguments = (
            "gateway",
            "--port",
            self.url.rpartition(":")[2] or "0",
            "--data-dir",
            str(self._data_dir),
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HUSKIES_")}
        process = Process(arguments, {**environment, "PYTHONPATH": str(SOURCES)}, self._data_dir)
        self._processes.append(process)
        self.url = process.line("gateway").split()[1]
        process.line("chat")
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    one = Scene(tmp_path / "data")
    yield one
    one.close()


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


def edits(events: list[Event]) -> list[Event]:
    return [
        event
        for event in events
        if event.source["content"].get("m.relates_to", {}).get("rel_type") == "m.replace"
    ]


def told(person: Person, room: str, bot: str) -> list[str]:
    """The messages of the bot that are no change of an earlier one."""
    heard = person.heard(room, bot)
    changes = edits(heard)
    return [event.body for event in heard if event not in changes]


async def test_what_needs_someone_is_one_message_that_says_when_it_is_over(
    synapse: Synapse, person: StartPerson, scene: Scene, tmp_path: Path
) -> None:
    ann = await person()
    username = f"told-{tmp_path.name[-12:].replace('_', '-')}"
    bot = synapse.register(username)
    room = await ann.create_room(bot)
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
