"""People who logged in with a token: the session that their browser's cookie names, kept as a hash."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from huskies import limits
from huskies.gateway.access.file import AccessFile, hashed

_SECRET_BYTES = 32


class Login(NamedTuple):
    """A session: the id of the token that it stands for, and when it ends (Unix ms)."""

    token: str
    expires_ms: int


def begin(file: AccessFile, token_id: str, *, now_ms: int, lifetime_ms: int) -> str:
    """The secret of a new session."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    with file.transaction() as db:
        db.execute("DELETE FROM logins WHERE expires_ms <= ?", (now_ms,))
        db.execute(
            "DELETE FROM logins WHERE hash IN"
            " (SELECT hash FROM logins WHERE token = ? ORDER BY created_ms DESC LIMIT -1 OFFSET ?)",
            (token_id, limits.LOGINS_A_TOKEN - 1),
        )
        db.execute(
            "INSERT INTO logins VALUES (?, ?, ?, ?)", (hashed(secret), token_id, now_ms, now_ms + lifetime_ms)
        )
    return secret


def end(file: AccessFile, secret: str) -> None:
    """Log out; nothing where there is no such session."""
    with file.transaction() as db:
        db.execute("DELETE FROM logins WHERE hash = ?", (hashed(secret),))


def hashes(file: AccessFile) -> dict[bytes, Login]:
    """Every session by the hash of its secret."""
    rows = file.read("SELECT hash, token, expires_ms FROM logins")
    return {bytes(row["hash"]): Login(row["token"], row["expires_ms"]) for row in rows}
