"""Tokens are made once, kept as hashes, and end when they are told to."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from huskies.errors import ConfigError, HuskiesError, StoreError
from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile, hashed


def make(file: AccessFile, name: str = "ci", *scopes: str, expires_ms: int | None = None) -> tuple[str, str]:
    token, secret = tokens.create(
        file, name=name, scopes=scopes or ("read",), created_by="ann", now_ms=1_000, expires_ms=expires_ms
    )
    return token.id, secret


def test_of_a_secret_only_the_hash_is_kept(file: AccessFile, tmp_path: Path) -> None:
    _, secret = make(file)
    assert secret.startswith("husky_")
    assert len(secret) > 40
    assert tokens.hashes(file)[hashed(secret)].name == "ci"
    assert secret.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_the_file_is_the_owners_alone(file: AccessFile) -> None:
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_token_says_who_made_it_when_and_what_for(file: AccessFile) -> None:
    make(file, "bot", "read:a", "push:a", expires_ms=9_000)
    [token] = tokens.all_tokens(file)
    assert (token.name, token.scopes, token.created_by) == ("bot", ("read:a", "push:a"), "ann")
    assert (token.created_ms, token.expires_ms, token.revoked_ms, token.last_used_ms) == (
        1_000,
        9_000,
        None,
        None,
    )
    tokens.note_used(file, [token.id], 5_000)
    assert tokens.all_tokens(file)[0].last_used_ms == 5_000


def test_a_token_ends_when_it_expires(file: AccessFile) -> None:
    make(file, expires_ms=2_000)
    [token] = tokens.all_tokens(file)
    assert token.is_valid(1_999)
    assert not token.is_valid(2_000)


def test_a_token_is_revoked_by_id_or_all_by_name_and_logins_with_it(file: AccessFile) -> None:
    first, _ = make(file)
    second, _ = make(file)
    other, _ = make(file, "other")
    with file.transaction() as db:
        db.execute("INSERT INTO logins VALUES (x'00', ?, 1, 9)", (first,))
        db.execute("INSERT INTO logins VALUES (x'01', ?, 1, 9)", (other,))
    assert [token.id for token in tokens.revoke(file, first, now_ms=3_000)] == [first]
    assert [token.id for token in tokens.revoke(file, "ci", now_ms=3_000)] == [second]
    assert [token.id for token in tokens.all_tokens(file) if token.is_valid(3_000)] == [other]
    assert [row["token"] for row in file.read("SELECT token FROM logins")] == [other]
    with pytest.raises(HuskiesError, match="no valid token has the id or name ci"):
        tokens.revoke(file, "ci", now_ms=4_000)


def test_rotated_both_are_valid_for_a_while(file: AccessFile) -> None:
    first, old_secret = make(file, "ci", "push:a")
    old, new, secret = tokens.rotate(file, "ci", created_by="bob", now_ms=2_000, overlap_ms=500)
    assert old.id == first
    assert (new.name, new.scopes, new.created_by) == ("ci", ("push:a",), "bob")
    known = tokens.hashes(file)
    assert known[hashed(old_secret)].is_valid(2_499)
    assert known[hashed(secret)].is_valid(2_499)
    assert not known[hashed(old_secret)].is_valid(2_500)
    assert known[hashed(secret)].is_valid(2_500)
    with pytest.raises(HuskiesError, match="several tokens are called ci; name one by its id"):
        tokens.rotate(file, "ci", created_by="bob", now_ms=2_100, overlap_ms=500)
    # One that ends sooner anyway does not live longer for it.
    old, *_ = tokens.rotate(file, old.id, created_by="bob", now_ms=2_100, overlap_ms=9_000)
    assert old.expires_ms == 2_500


def test_a_token_that_ends_is_rotated_into_one_that_ends(file: AccessFile) -> None:
    make(file, expires_ms=9_000)
    _, new, _ = tokens.rotate(file, "ci", created_by="bob", now_ms=5_000, overlap_ms=500)
    # It was to last so long, and so is this one.
    assert new.expires_ms == 5_000 + 8_000


def test_rights_change_when_someone_may_more_or_less(file: AccessFile) -> None:
    before = file.rights()
    token_id, _ = make(file)
    assert file.rights() == before + 1
    tokens.note_used(file, [token_id], 1)
    assert file.rights() == before + 1
    tokens.revoke(file, token_id, now_ms=2)
    assert file.rights() == before + 2


def test_what_another_process_changed_is_noticed(file: AccessFile, tmp_path: Path) -> None:
    before = file.version()
    make(file)
    assert file.version() == before
    other = AccessFile(tmp_path)
    make(other, "other")
    other.close()
    assert file.version() != before
    assert len(tokens.all_tokens(file)) == 2


def test_what_fails_changes_nothing(file: AccessFile) -> None:
    def fail() -> None:
        with file.transaction() as db:
            db.execute("INSERT INTO logins VALUES (x'00', 'a', 1, 9)")
            db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StoreError):
        fail()
    assert not file.read("SELECT 1 FROM logins")
    with pytest.raises(StoreError):
        file.read("SELECT 1 FROM nowhere")


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "access.db").write_text("no database at all, but long enough to be looked at" * 50)
    with pytest.raises(ConfigError, match="cannot be used as a store"):
        AccessFile(tmp_path)
    newer = tmp_path / "newer"
    AccessFile(newer).close()
    with sqlite3.connect(newer / "access.db") as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(ConfigError, match="written by a newer Huskies"):
        AccessFile(newer)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        AccessFile(tmp_path / "file")
