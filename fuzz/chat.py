"""What people and projects write that ends in a chat: commands, and texts in answers; the bot's settings."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fuzz.target import Check, Outcome, Target, always, refused, taken
from huskies import logs
from huskies.chat import commands, replies
from huskies.chat.content import content_of
from huskies.chat.settings import BOT_FILE, load_bot
from huskies.errors import ConfigError
from huskies.events.names import is_project_name
from huskies.limits import REASON_MAX
from huskies.readers.fleet import ProjectView, Received, StoryView

_NAMES: Final = ("Huskies Bot", "huskies", "@huskies:hs.example")
_SAFE: Final = re.compile(r"</?(?:b|code|i)>|<br>")
_EVENT_MAX: Final = 65_536
_PROBLEM_MAX: Final = 400


def command(data: bytes) -> Outcome:
    """A message's text, in a room and in a direct message."""
    text = data.decode("utf-8", "surrogateescape")
    in_room = commands.parse(text, _NAMES, is_direct=False)
    direct = commands.parse(text, _NAMES, is_direct=True)
    # What is meant for the bot among others is so between two.
    assert in_room is None or isinstance(in_room, commands.Help) or direct == in_room
    match direct:
        case None:
            return refused("talk")
        case commands.Mistake(problem):
            assert len(problem) < _PROBLEM_MAX
            return refused("mistake")
        case commands.NewProject(name, git, stack):
            assert is_project_name(name)
            assert all(value is None or not value.startswith("-") for value in (git, stack))
        case commands.Mute(name, for_ms):
            assert is_project_name(name)
            assert for_ms is None or for_ms > 0
        case commands.RemoveProject(name) | commands.Status(str(name)):
            assert is_project_name(name)
        case commands.Log(_, count):
            assert 1 <= count <= commands.LOG_MAX
        case _:
            pass
    return taken(type(direct).__name__)


def reply(data: bytes) -> Outcome:
    """A text wherever an answer shows one: it is no markup, and the message fits an event."""
    text = data.decode("utf-8", "surrogateescape")[:REASON_MAX]
    event = {"type": "story_blocked", "story_id": text, "story_name": text, "reason": text, "timestamp_ms": 1}
    story = StoryView(text, text, text, 0, text)
    view = ProjectView("shop", stories=[story])
    for said in (
        replies.status([view], 1),
        replies.project_status(view, 1),
        replies.story("shop", story, [Received("shop", event)] * 3, 1),
        replies.log([Received("shop", event)], datetime.fromtimestamp(1, UTC)),
        replies.not_made("x", text, [text], [text]),
    ):
        assert not set(_SAFE.sub("", said.html)) & set('<>"')
        content = content_of(said, "a" * 32, edits="$" + "e" * 43)
        assert len(json.dumps(content)) * 4 // 3 + 1_000 < _EVENT_MAX
        content["body"].encode()
    return taken(f"{len(text) > 0}")


@contextmanager
def _bot() -> Iterator[Check]:
    """A gateway's bot.toml."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def check(data: bytes) -> Outcome:
            (directory / BOT_FILE).write_bytes(data)
            try:
                found = load_bot(directory, {"HUSKIES_MATRIX_PASSWORD": "made up for this"})
            except ConfigError as error:
                return _with_its_place(error)
            finally:
                logs._registered.clear()
            return taken(f"{bool(found.room_ids)} {bool(found.allowed_users)} {found.encrypt_to}")

        yield check


def _with_its_place(error: ConfigError) -> Outcome:
    assert BOT_FILE in error.where
    return refused(error.problem)


TARGETS: Final = (
    Target(
        name="chat-command",
        opened=always(command),
        seeds=(
            b"new project demo --git https://git.example/x.git --stack python",
            b"huskies: mute web-shop for 2h", b"!log web-shop 5", b"> <@a:b> x\n\nstory 42 in shop", b"yes",
            b"remove project demo", b"unmute shop", b"@huskies:hs.example status shop",
        ),
        words=(
            b"!", b"huskies ", b"--", b"\xe2\x80\x94", b"'", b'"', b"\\", b"\n", b" in ", b" for ",
            b"999999999w", b"\xc3\x9f", b"\xc4\xb0", b"\xd9\xa3", b"project ", b"= ",
        ),
        inputs=60_000,
    ),
    Target(
        name="chat-reply",
        opened=always(reply),
        seeds=(b"Login", b"<b>x</b> & \"y\" 'z'", b"two\nlines\x1b[31m"),
        words=(b"<script>", b"&lt;", b"\xf0\x9f\x98\x80", b"@room", b"</code>", b"x" * 5_000,
            b"\x00" * 3_000),
        inputs=2_000,
    ),
    Target(
        name="bot.toml",
        opened=_bot,
        seeds=(
            b'homeserver = "https://matrix.example"\nusername = "huskies"\nallowed_users = ["@a:b"]\n',
            (
                b'homeserver = "http://[::1]:8008"\nusername = "@h:b:1"\nroom_ids = ["!a:b", "!c"]\n'
                b'encrypt_to = "listed"\ndevices = ["' + b"a" * 43 + b'"]\nname = "Hus"\n'
            ),
        ),
        words=(b"[", b"]", b"=", b'"@', b'"!', b"\n", b'"\\uD800"', b"1979-05-27", b"a.b = 1\n"),
        inputs=20_000,
    ),
)  # fmt: skip
