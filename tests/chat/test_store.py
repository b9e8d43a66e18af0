from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from huskies.chat import account
from huskies.chat.account import Account
from huskies.chat.settings import BotSettings
from huskies.chat.store import CommandStore, Taken, Waiting
from huskies.errors import ConfigError

DAY = 24 * 3_600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommandStore]:
    opened = CommandStore(tmp_path / "bot.db", "a")
    yield opened
    opened.close()


def taken(event_id: str, sent_ms: int = 1) -> Taken:
    return Taken(event_id=event_id, room_id="!r", sender="@a:b", body="ping", thread=None, sent_ms=sent_ms)


def test_a_command_is_taken_once_and_kept_with_the_place_behind_it(store: CommandStore) -> None:
    assert store.token() is None
    assert store.take("t1", [taken("$2"), taken("$1")]) == [taken("$2"), taken("$1")]
    assert store.take("t2", [taken("$1"), taken("$3")]) == [taken("$3")]
    assert store.token() == "t2"
    assert [one.event_id for one in store.unanswered()] == ["$2", "$1", "$3"]


def test_what_is_begun_is_so_and_what_is_answered_is_over(store: CommandStore) -> None:
    store.take("t", [taken("$1"), taken("$2")])
    store.begun("$1")
    store.answered("$2")
    [one] = store.unanswered()
    assert (one.event_id, one.begun) == ("$1", True)
    assert store.take("t", [taken("$1"), taken("$2")]) == []


def test_it_is_there_after_a_restart_and_means_nothing_to_another_account(
    store: CommandStore, tmp_path: Path
) -> None:
    store.take("t", [taken("$1")])
    store.close()
    again = CommandStore(tmp_path / "bot.db", "a")
    assert (again.token(), again.unanswered()) == ("t", [taken("$1")])
    again.close()
    other = CommandStore(tmp_path / "bot.db", "b")
    assert (other.token(), other.unanswered()) == (None, [])
    other.close()


def test_answered_commands_are_dropped_in_time(store: CommandStore) -> None:
    store.take("t", [taken("$old")])
    store.answered("$old")
    store.take("t", [taken("$new", 8 * DAY)])
    assert store.take("t", [taken("$old")]) == [taken("$old")]


def test_what_waits_for_keys_is_kept_with_the_place_and_in_files_from_before(
    store: CommandStore, tmp_path: Path
) -> None:
    def waiting(number: int) -> Waiting:
        return Waiting(event_id=f"${number}", room_id="!r", source="{}")

    store.take("t1", [], [waiting(2), waiting(1)])
    store.take("t2", [])
    assert store.waiting() == [waiting(2), waiting(1)]
    store.take("t3", [], [waiting(1), waiting(3)])
    assert store.waiting() == [waiting(1), waiting(3)]
    store.close()
    again = CommandStore(tmp_path / "bot.db", "a")
    assert again.waiting() == [waiting(1), waiting(3)]
    again._db.execute("DROP TABLE waiting")
    again.close()
    older = CommandStore(tmp_path / "bot.db", "a")
    older.take("t4", [], [waiting(1)])
    older.close()
    other = CommandStore(tmp_path / "bot.db", "b")
    assert other.waiting() == []
    other.close()


def test_invitations_are_kept_until_they_are_settled(store: CommandStore, tmp_path: Path) -> None:
    store.take("t1", [], invited=["!2", "!1"])
    store.take("t2", [], invited=["!1"])
    store.settled("!2")
    store.close()
    again = CommandStore(tmp_path / "bot.db", "a")
    assert again.invited() == ["!1"]
    again.close()
    other = CommandStore(tmp_path / "bot.db", "b")
    assert other.invited() == []
    other.close()


def settings(username: str = "huskies") -> BotSettings:
    return BotSettings(homeserver="https://hs.example", username=username, password="made up")


def test_an_account_is_kept_for_its_settings_alone(tmp_path: Path) -> None:
    directory = account.directory_of(tmp_path)
    first = account.load(directory, settings())
    assert first.device_id != account.load(directory, settings()).device_id
    account.save(directory, first)
    account.save(directory, first)
    assert account.load(directory, settings()) == first
    assert account.load(directory, settings("other")).device_id != first.device_id
    assert first.store_key not in repr(first)


def test_an_account_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    directory = account.directory_of(tmp_path)
    (directory / "account.json").write_text("{}")
    with pytest.raises(ConfigError, match="remove the file, and it logs in as a new device"):
        account.load(directory, settings())


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "matrix").write_text("")
    with pytest.raises(ConfigError, match="make it a directory"):
        account.directory_of(tmp_path)


def test_an_account_shows_no_secret() -> None:
    known = Account(
        homeserver="h", username="u", device_id="D", store_key="key-of-the-store", access_token="syt_secret"
    )
    assert "secret" not in repr(known)
    assert "key-of" not in repr(known)
