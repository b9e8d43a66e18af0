"""The ledger alone: what is forgotten, what is shown, and what a file may be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.told import NOON, Teller, blocked

from huskies.errors import ConfigError
from huskies.notify.ledger import Ledger
from huskies.notify.rules import default_rules
from huskies.storage.notifications import FILE_NAME, NotificationsFile, Wanted, read_notifications


def test_the_ledger_is_pruned(tmp_path: Path) -> None:
    ledger, teller = Ledger(tmp_path), Teller()
    drafts = [teller.take(blocked(f"{number}_bug_x"))[0] for number in range(4)]
    ledger.keep("c", teller.core.state, drafts)
    day = 86_400_000
    ledger.delivered(1, "", NOON)
    ledger.failed(2, "no", NOON)
    ledger.delivered(3, "x", NOON + 2 * day)
    ledger.prune(NOON + 31 * day)
    found = read_notifications(tmp_path, Wanted(), None)
    assert [(one.id, one.state) for one in found] == [(4, "queued"), (3, "acknowledged"), (2, "failed")]
    ledger.prune(NOON + 181 * day)
    assert [one.id for one in read_notifications(tmp_path, Wanted(), None)] == [4]
    ledger.close()


def test_messages_to_channels_that_are_gone_fail(tmp_path: Path) -> None:
    ledger, teller = Ledger(tmp_path), Teller(*default_rules(["a", "b"]))
    ledger.keep("c", teller.core.state, teller.take(blocked()))
    assert ledger.fail_unknown(["b"], NOON) == 1
    [kept, lost] = read_notifications(tmp_path, Wanted(), None)
    assert (kept.channel, kept.state) == ("b", "queued")
    assert (lost.channel, lost.problem) == ("a", "the channel is not defined any more")
    ledger.close()


def test_of_what_may_have_been_taken_nobody_knows_when_its_channel_is_gone(tmp_path: Path) -> None:
    ledger, teller = Ledger(tmp_path), Teller()
    ledger.keep("c", teller.core.state, teller.take(blocked()))
    ledger.again(1, "no answer", NOON, looks=True)
    assert ledger.fail_unknown([], NOON) == 1
    [found] = read_notifications(tmp_path, Wanted(), None)
    assert (found.state, found.problem) == ("in_doubt", "the channel is not defined any more")
    ledger.close()


def test_pages_filters_and_what_one_may_read(tmp_path: Path) -> None:
    ledger, teller = Ledger(tmp_path), Teller()
    drafts = []
    for number in range(1, 6):
        drafts += teller.take(blocked(f"{number}_bug_x"), project=f"p{number % 2}")
    ledger.keep("c", teller.core.state, drafts)

    def ids(may_read: list[str] | None = None, **wanted: Any) -> list[int]:
        return [one.id for one in read_notifications(tmp_path, Wanted(**wanted), may_read)]

    assert ids() == [5, 4, 3, 2, 1]
    assert ids(limit=2) == [5, 4]
    assert ids(before=4, limit=2) == [3, 2]
    assert ids(project="p1") == [5, 3, 1]
    assert ids(channel="b") == []
    assert ids(state="queued", before=2) == [1]
    assert ids(["p0"]) == [4, 2]
    assert ids([]) == []
    ledger.close()


def test_no_file_is_no_notifications(tmp_path: Path) -> None:
    assert read_notifications(tmp_path, Wanted(), None) == []


def test_a_file_of_a_newer_version_or_none_at_all_is_refused(tmp_path: Path) -> None:
    ledger = NotificationsFile(tmp_path)
    with ledger.transaction() as db:
        db.execute("PRAGMA user_version = 3")
    ledger.close()
    with pytest.raises(ConfigError, match=r"written by a newer Huskies \(format 3, this one reads 2\)"):
        NotificationsFile(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="cannot be used as a store"):
        NotificationsFile(tmp_path)


def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    ledger, teller = Ledger(tmp_path), Teller()
    ledger.keep("c", teller.core.state, teller.take(blocked()))
    with ledger._file.transaction() as db:
        db.execute("DROP INDEX edited")
        db.execute("ALTER TABLE deliveries DROP COLUMN resent_ms")
        db.execute("PRAGMA user_version = 1")
    ledger.close()
    assert [one.id for one in read_notifications(tmp_path, Wanted(), None)] == [1]
    for _ in range(2):
        ledger = Ledger(tmp_path)
        found = ledger.next("chat", NOON)
        assert found is not None
        assert found.since_ms == NOON
        ledger.close()


def test_what_a_process_left_that_ended_within_a_commit_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    ledger, teller = Ledger(tmp_path), Teller()
    drafts = [teller.take(blocked(f"{number}_bug_x"))[0] for number in range(100)]
    ledger.keep("c", teller.core.state, drafts)
    with ledger._file.transaction() as db:
        # What does not fit is written before the commit.
        db.execute("PRAGMA cache_size = 1")
        db.execute("UPDATE deliveries SET subject = 'half written', text = subject || text")
        for name in (FILE_NAME, f"{FILE_NAME}-journal"):
            shutil.copy(tmp_path / name, tmp_path / "left" / name)
    ledger.close()
    assert b"half written" in (tmp_path / "left" / FILE_NAME).read_bytes()
    found = read_notifications(tmp_path / "left", Wanted(), None)
    assert len(found) == 100
    assert not [one for one in found if one.subject == "half written"]
