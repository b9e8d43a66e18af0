"""Who is asking is known from memory, and what an operator changes beside the gateway holds at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.access.test_sleds import invite, request

from huskies.gateway.access import audit, guard, logins, sleds, tokens
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.guard import Guard


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own(tmp_path: Path, clock: Clock, file: AccessFile) -> Iterator[Guard]:
    del file
    reader, writer = AccessFile(tmp_path), AccessFile(tmp_path)
    yield Guard(reader, writer, loopback=True, now_ms=clock)
    reader.close()
    writer.close()


def is_open(own: Guard) -> bool:
    return own.is_open


def lets_in(own: Guard) -> bool:
    return own.lets_anyone_in


def make(file: AccessFile, *scopes: str, expires_ms: int | None = None) -> tuple[str, str]:
    token, secret = tokens.create(
        file, name="bot", scopes=scopes, created_by="ann", now_ms=1_000, expires_ms=expires_ms
    )
    return token.id, secret


def test_a_token_made_beside_the_gateway_holds_at_once_and_is_gone_at_once(
    file: AccessFile, own: Guard
) -> None:
    token_id, secret = make(file, "read:a")
    assert own.by_token(secret) is None
    own.refresh()
    caller = own.by_token(secret)
    assert caller is not None
    assert (caller.who, caller.token) == (f"bot ({token_id})", token_id)
    assert caller.scopes.may_read("a")
    assert own.is_valid(token_id)
    tokens.revoke(file, token_id, now_ms=2_000)
    own.refresh()
    assert own.by_token(secret) is None
    assert not own.is_valid(token_id)
    assert own.by_token("husky_nonsense") is None


def test_a_token_ends_by_itself(file: AccessFile, own: Guard, clock: Clock) -> None:
    token_id, secret = make(file, "read", expires_ms=2_000)
    own.refresh()
    assert own.by_token(secret) is not None
    clock.now_ms = 2_000
    assert own.by_token(secret) is None
    assert not own.is_valid(token_id)


def test_a_login_holds_as_long_as_the_token_behind_it(file: AccessFile, own: Guard, clock: Clock) -> None:
    token_id, _ = make(file, "read", expires_ms=9_000)
    cookie = logins.begin(file, token_id, now_ms=1_000, lifetime_ms=500)
    late = logins.begin(file, token_id, now_ms=1_000, lifetime_ms=50_000)
    own.refresh()
    assert own.by_login(cookie) is not None
    clock.now_ms = 1_500
    assert own.by_login(cookie) is None
    assert own.by_login(late) is not None
    clock.now_ms = 9_000
    assert own.by_login(late) is None
    assert own.by_login("nonsense") is None


def test_without_tokens_this_machine_may_read(file: AccessFile, own: Guard, clock: Clock) -> None:
    assert is_open(own)
    make(file, "push:a")
    make(file, "peer")
    own.refresh()
    assert is_open(own)
    token_id, _ = make(file, "read:a", expires_ms=2_000)
    own.refresh()
    assert not is_open(own)
    # That it expired opens nothing; that someone took it back does.
    clock.now_ms = 3_000
    assert not is_open(own)
    with file.transaction() as db:
        db.execute("UPDATE tokens SET revoked_ms = 3000 WHERE id = ?", (token_id,))
    own.refresh()
    assert is_open(own)


def test_away_from_loopback_nobody_may_read_without_a_token(file: AccessFile, clock: Clock) -> None:
    assert not Guard(file, file, loopback=False, now_ms=clock).is_open


def test_projects_of_enrolled_sleds_take_no_others(file: AccessFile, own: Guard) -> None:
    _, sled = sleds.enrol(file, request(invite(file)), now_ms=1_000)
    _, second = sleds.enrol(file, request(invite(file)), now_ms=1_000)
    own.refresh()
    assert own.is_enrolled("web-shop")
    assert not own.is_enrolled("blog")
    assert own.may_push("web-shop", sled.sled_id)
    assert not own.may_push("blog", sled.sled_id)
    assert not own.may_push("web-shop", second.sled_id)
    sleds.revoke(file, sled.sled_id)
    own.refresh()
    assert not own.may_push("web-shop", sled.sled_id)
    assert own.is_enrolled("web-shop")


def test_a_project_with_a_token_takes_nobody_without_until_it_is_revoked(
    file: AccessFile, own: Guard, clock: Clock
) -> None:
    assert not lets_in(own)
    token_id, _ = make(file, "push:a", "push:b", expires_ms=2_000)
    own.refresh()
    clock.now_ms = 3_000
    assert [own.takes_tokens(project) for project in "abc"] == [True, True, False]
    assert lets_in(own)
    with file.transaction() as db:
        db.execute("UPDATE tokens SET revoked_ms = 3000 WHERE id = ?", (token_id,))
    own.refresh()
    assert not own.takes_tokens("a")
    assert not lets_in(own)
    sleds.invite(file, "a", created_by="ann", now_ms=3_000, lifetime_ms=500, adds=False)
    own.refresh()
    assert lets_in(own)


def test_when_a_sled_was_let_in_last_is_kept(file: AccessFile, own: Guard, clock: Clock) -> None:
    _, sled = sleds.enrol(file, request(invite(file)), now_ms=1_000)
    _, other = sleds.enrol(file, request(invite(file)), now_ms=1_000)
    own.refresh()
    clock.now_ms = 5_000
    assert own.may_push("web-shop", sled.sled_id)
    assert not own.may_push("blog", sled.sled_id)
    assert not own.may_push("web-shop", other.sled_id)
    assert own.has_news
    own.write()
    used = {one.sled_id: one.last_used_ms for one in sleds.all_sleds(file)}
    assert used == {sled.sled_id: 5_000, other.sled_id: None}
    assert not own.has_news


def test_use_and_audit_are_written_together_and_floods_are_counted(
    file: AccessFile, own: Guard, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(guard, "_UNWRITTEN_MAX", 2)
    _, secret = make(file, "read")
    own.refresh()
    clock.now_ms = 5_000
    own.by_token(secret)
    for number in range(5):
        own.note(Entry(at_ms=5_000, who="", action="join", outcome=str(number)))
    own.write()
    assert tokens.all_tokens(file)[0].last_used_ms == 5_000
    assert [(entry.outcome, entry.count) for entry in audit.newest(file, 9)] == [
        ("0", 1),
        ("1", 1),
        ("a flood", 3),
    ]
    own.write()
    assert len(audit.newest(file, 9)) == 3


def test_a_command_that_hangs_while_it_writes_holds_nobody_up(
    file: AccessFile, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    token_id, secret = make(file, "read")
    reader, writer = AccessFile(tmp_path), AccessFile(tmp_path)
    own = Guard(reader, writer, loopback=True, now_ms=clock)
    reader.wait_no_more()
    writer.wait_no_more()
    hanging = sqlite3.connect(file.path, isolation_level=None)
    hanging.execute("BEGIN EXCLUSIVE")
    # The moment that a commit takes is not worth a word.
    for clock.now_ms in (1_000, 6_000, 6_001, 20_000):
        assert not own.refresh()
        assert own.by_token(secret) is not None
    own.note(Entry(at_ms=1, who="", action="join"))
    own.write()
    assert caplog.text.count("who may do what cannot be read") == 1
    assert "1 entries of the audit are lost" in caplog.text
    hanging.execute("ROLLBACK")
    hanging.close()
    tokens.revoke(file, token_id, now_ms=2_000)
    assert own.refresh()
    assert own.by_token(secret) is None
    reader.close()
    writer.close()
