"""What is read of the homeserver's answers, without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nio import EncryptionError, Event, RoomMessageText

from huskies import limits
from huskies.chat import inbox
from huskies.chat.asking import HomeserverError
from huskies.chat.inbox import Inbox
from huskies.chat.session import Page
from huskies.chat.settings import BotSettings

ANN = "@ann:hs.test"
ROOM = "!room:hs.test"
NOW = 10_000_000


def encrypted(number: int, sent_ms: int = NOW, sender: str = ANN) -> Event:
    content = {
        "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "sender_key": "x", "session_id": "x",
        "device_id": "x",
    }  # fmt: skip
    event = Event.parse_encrypted_event(
        {
            "event_id": f"${number}", "sender": sender, "origin_server_ts": sent_ms,
            "type": "m.room.encrypted", "content": content,
        }
    )  # fmt: skip
    assert isinstance(event, Event)
    return event


class Homeserver:
    """Stands for the session: `keys` are those events that can be read, `pages` what is left out."""

    user_id = "@huskies:hs.test"

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.is_away = False
        self.client = self
        self.rooms: dict[str, Any] = {ROOM: SimpleNamespace(users=[1, 2], encrypted=True)}

    def now_ms(self) -> int:
        return NOW

    def decrypt_event(self, event: Event) -> Event:
        if event.event_id not in self.keys:
            raise EncryptionError("the keys have not come")
        source = {
            **event.source, "type": "m.room.message", "content": {"msgtype": "m.text", "body": "ping"},
        }  # fmt: skip
        readable = RoomMessageText.from_dict(source)
        assert isinstance(readable, Event)
        return readable

    async def page_before(self, *_: object) -> Page:
        if self.is_away:
            raise HomeserverError("it is away")
        return Page([], None)


def answer(*events: Event, limited: bool = False) -> Any:
    timeline = SimpleNamespace(events=list(events), limited=limited, prev_batch="before")
    return SimpleNamespace(rooms=SimpleNamespace(join={ROOM: SimpleNamespace(timeline=timeline)}))


@pytest.fixture
def homeserver() -> Homeserver:
    return Homeserver()


def opened(homeserver: Homeserver, *waiting: Any) -> Inbox:
    settings = BotSettings(homeserver="", username="huskies", allowed_users=frozenset({ANN}))
    session: Any = homeserver
    return Inbox(settings, session, lambda: ["huskies"], lambda *_: False, waiting)


async def test_what_can_be_read_now_waits_until_what_came_with_it_is_taken(homeserver: Homeserver) -> None:
    box = opened(homeserver)
    box.took(await box.read(answer(encrypted(1)), "s"))
    homeserver.keys.add("$1")
    homeserver.is_away = True
    with pytest.raises(HomeserverError):
        await box.read(answer(limited=True), "s")
    homeserver.is_away = False
    read = await box.read(answer(limited=True), "s")
    assert [one.event_id for one in read.commands] == ["$1"]
    assert read.waiting == {}
    box.took(read)
    assert (await box.read(answer(), "s")).commands == []


async def test_what_waits_is_kept_for_the_next_process(homeserver: Homeserver) -> None:
    read = await opened(homeserver).read(answer(encrypted(1), encrypted(2, sender="@eve:hs.test")), "s")
    [kept] = read.to_keep()
    homeserver.keys.add("$1")
    [command] = (await opened(homeserver, kept).read(answer(), "s")).commands
    assert (command.event_id, command.room_id, command.sender, command.body) == ("$1", ROOM, ANN, "ping")


async def test_few_wait_and_none_for_long(
    homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inbox, "_WAITING_MAX", 2)
    old = encrypted(2, NOW - limits.COMMAND_AGE_MAX_MS)
    box = opened(homeserver)
    read = await box.read(answer(encrypted(1), old, encrypted(3)), "s")
    assert list(read.waiting) == ["$2", "$3"]
    box.took(read)
    monkeypatch.setattr(homeserver, "now_ms", lambda: NOW + 1)
    assert list((await box.read(answer(), "s")).waiting) == ["$3"]
    assert "could not be read" in caplog.text
