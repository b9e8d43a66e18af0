"""The audit keeps who did what, counts what repeats itself, and never grows without end."""

from __future__ import annotations

import msgspec
import pytest

from huskies import limits
from huskies.gateway.access import audit, logins
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.file import AccessFile, hashed

ENTRY = Entry(at_ms=1_000, who="ann", action="token create", subject="ci")


def test_entries_come_back_in_their_order(file: AccessFile) -> None:
    entries = [msgspec.structs.replace(ENTRY, at_ms=at_ms, subject=str(at_ms)) for at_ms in range(5)]
    audit.note(file, *entries)
    assert audit.newest(file, 3) == entries[2:]


def test_what_repeats_itself_within_a_minute_is_counted(file: AccessFile) -> None:
    refused = Entry(at_ms=1_000, who="", action="join", outcome="wrong sled token", address="10.0.0.1")
    other = msgspec.structs.replace(refused, address="10.0.0.2")
    for at_ms in (1_000, 2_000, 60_999):
        audit.note(file, msgspec.structs.replace(refused, at_ms=at_ms), other)
    audit.note(file, msgspec.structs.replace(refused, at_ms=61_000))
    assert [(entry.address, entry.at_ms, entry.count) for entry in audit.newest(file, 9)] == [
        ("10.0.0.1", 1_000, 3),
        ("10.0.0.2", 1_000, 3),
        ("10.0.0.1", 61_000, 1),
    ]


def test_the_oldest_go(file: AccessFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ENTRIES_MAX", 2)
    audit.note(file, *(msgspec.structs.replace(ENTRY, subject=str(number)) for number in range(5)))
    assert [entry.subject for entry in audit.newest(file, 9)] == ["3", "4"]


def test_of_one_token_only_so_many_sessions_are_kept(
    file: AccessFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOGINS_A_TOKEN", 2)
    other = logins.begin(file, "t2", now_ms=1, lifetime_ms=500)
    made = [logins.begin(file, "t1", now_ms=now_ms, lifetime_ms=500) for now_ms in range(4)]
    assert set(logins.hashes(file)) == {hashed(other), *(hashed(secret) for secret in made[2:])}


def test_a_login_stands_for_a_token_until_it_ends(file: AccessFile) -> None:
    secret = logins.begin(file, "t1", now_ms=1_000, lifetime_ms=500)
    assert logins.hashes(file) == {hashed(secret): logins.Login("t1", 1_500)}
    assert secret.encode() not in file.path.read_bytes()
    other = logins.begin(file, "t2", now_ms=1_500, lifetime_ms=500)
    # What is over is forgotten.
    assert list(logins.hashes(file)) == [hashed(other)]
    logins.end(file, other)
    logins.end(file, other)
    assert not logins.hashes(file)
