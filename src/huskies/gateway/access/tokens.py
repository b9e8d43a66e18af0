"""Tokens: made, listed, rotated and revoked; the secret is shown once and kept as a hash."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from huskies.errors import HuskiesError
from huskies.gateway.access.file import AccessFile, hashed

# What it begins with tells people, and programs that look for secrets where none belong, what it is.
PREFIX: Final = "husky_"
_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 4


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token, apart from its secret. Times are Unix ms; None: never."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_ms: int
    created_by: str
    expires_ms: int | None
    revoked_ms: int | None
    last_used_ms: int | None

    def is_valid(self, now_ms: int) -> bool:
        """Whether it still opens anything."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


def create(
    file: AccessFile,
    *,
    name: str,
    scopes: Sequence[str],
    created_by: str,
    now_ms: int,
    expires_ms: int | None = None,
) -> tuple[Token, str]:
    """A new token and its secret."""
    with file.transaction() as db:
        return _create(db, name, scopes, created_by, now_ms, expires_ms)


def rotate(
    file: AccessFile, key: str, *, created_by: str, now_ms: int, overlap_ms: int
) -> tuple[Token, Token, str]:
    """The old token, which ends after `overlap_ms`; a new one like it, and its secret.

    Raises `HuskiesError` where there is no such token.
    """
    with file.transaction() as db:
        old = _one(db, key, now_ms)
        ends_ms = now_ms + overlap_ms
        # The new one lasts as long as the old one was to.
        new_ends_ms = None if old.expires_ms is None else now_ms + old.expires_ms - old.created_ms
        if old.expires_ms is None or old.expires_ms > ends_ms:
            db.execute("UPDATE tokens SET expires_ms = ? WHERE id = ?", (ends_ms, old.id))
            old = msgspec.structs.replace(old, expires_ms=ends_ms)
        new, secret = _create(db, old.name, old.scopes, created_by, now_ms, new_ends_ms)
    return old, new, secret


def revoke(file: AccessFile, key: str, *, now_ms: int) -> list[Token]:
    """Revoke the token with this id, or all with this name; raises `HuskiesError` where there is none."""
    with file.transaction() as db:
        found = _matching(db, key, now_ms)
        if not found:
            raise _unknown(key)
        db.executemany(
            "UPDATE tokens SET revoked_ms = ? WHERE id = ?", [(now_ms, token.id) for token in found]
        )
        # Whoever logged in with it is logged out.
        db.executemany("DELETE FROM logins WHERE token = ?", [(token.id,) for token in found])
    return found


def all_tokens(file: AccessFile) -> list[Token]:
    """Every token there ever was, oldest first."""
    return [_token(row) for row in file.read(f"SELECT {_COLUMNS} FROM tokens ORDER BY created_ms, id")]  # noqa: S608 - constant


def hashes(file: AccessFile) -> dict[bytes, Token]:
    """Every token by the hash of its secret."""
    rows = file.read(f"SELECT {_COLUMNS}, hash FROM tokens")  # noqa: S608 - constant
    return {bytes(row["hash"]): _token(row) for row in rows}


def note_used(file: AccessFile, ids: Iterable[str], now_ms: int) -> None:
    """These were used just now."""
    with file.transaction(changes_rights=False) as db:
        db.executemany("UPDATE tokens SET last_used_ms = ? WHERE id = ?", [(now_ms, one) for one in ids])


_COLUMNS: Final = ", ".join(Token.__struct_fields__)


def _create(  # noqa: PLR0917 - one home for the insert
    db: sqlite3.Connection,
    name: str,
    scopes: Sequence[str],
    created_by: str,
    now_ms: int,
    expires_ms: int | None,
) -> tuple[Token, str]:
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    token = Token(
        id=secrets.token_hex(_ID_BYTES),
        name=name,
        scopes=tuple(scopes),
        created_ms=now_ms,
        created_by=created_by,
        expires_ms=expires_ms,
        revoked_ms=None,
        last_used_ms=None,
    )
    values = (token.id, name, hashed(secret), json.dumps(scopes), now_ms, created_by, expires_ms)
    db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)", values)
    return token, secret


def _token(row: sqlite3.Row) -> Token:
    values = {name: row[name] for name in Token.__struct_fields__}
    return Token(**{**values, "scopes": tuple(json.loads(row["scopes"]))})


def _matching(db: sqlite3.Connection, key: str, now_ms: int) -> list[Token]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ? OR name = ?", (key, key))  # noqa: S608 - constant
    return [token for token in map(_token, rows) if token.is_valid(now_ms)]


def _one(db: sqlite3.Connection, key: str, now_ms: int) -> Token:
    found = _matching(db, key, now_ms)
    if not found:
        raise _unknown(key)
    if len(found) > 1:
        ids = ", ".join(token.id for token in found)
        raise HuskiesError(f"several tokens are called {key}; name one by its id: {ids}")
    return found[0]


def _unknown(key: str) -> HuskiesError:
    return HuskiesError(f"no valid token has the id or name {key}; `huskies token list` shows all")
