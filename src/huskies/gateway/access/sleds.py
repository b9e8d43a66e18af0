"""Enrolled sleds: which keys may push for which project, and the invitations by which they came."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec

from huskies.errors import HuskiesError
from huskies.gateway.access.file import AccessFile
from huskies.protocol import enrolment
from huskies.protocol.enrolment import Enrolment, SledState

_SECRET_BYTES: Final = 24
_ID_BYTES: Final = 4


class EnrolledSled(msgspec.Struct, frozen=True, kw_only=True):
    """A sled's key (its sled_id) and what it may do; times are Unix ms."""

    sled_id: str
    project: str
    state: SledState
    enrolled_ms: int
    invite: str
    last_used_ms: int | None


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation to a project; `adds`: the sled may come beside those that the project has."""

    id: str
    project: str
    hash: bytes
    created_by: str
    expires_ms: int
    adds: bool
    used_ms: int | None


class EnrolmentRefusedError(HuskiesError):
    """An invitation that does not hold; the message says no more than the sled may know."""


def invite(
    file: AccessFile, project: str, *, created_by: str, now_ms: int, lifetime_ms: int, adds: bool
) -> str:
    """The code of a new invitation, which is not kept."""
    invite_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    values = (
        invite_id,
        project,
        enrolment.key_of(secret),
        now_ms,
        created_by,
        now_ms + lifetime_ms,
        adds,
    )
    with file.transaction() as db:
        # What is over is of no use to anyone, but for the sleds that name it, and the audit.
        db.execute("DELETE FROM invites WHERE expires_ms < ? AND used_ms IS NULL", (now_ms,))
        db.execute("INSERT INTO invites VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", values)
    return enrolment.code(invite_id, secret)


def enrol(file: AccessFile, request: Enrolment, *, now_ms: int) -> tuple[Invite, EnrolledSled]:
    """Redeem the invitation for the sled whose signature was verified; raises `EnrolmentRefusedError`.

    A sled that comes again, its answer lost say, is told how it stands.
    """
    sled_id = request.sled_id.lower()
    with file.transaction() as db:
        found = _invite(db, request.invite)
        text = enrolment.sled_text(request.invite, request.project, sled_id, request.nonce)
        # The same words whatever is wrong: who guesses learns nothing.
        if found is None or not enrolment.is_proof(found.hash, text, request.proof):
            raise EnrolmentRefusedError("the invitation is not one of this gateway's")
        if found.project != request.project:
            raise EnrolmentRefusedError(
                f"the invitation is for project {found.project}, and this one is {request.project}: ask for "
                f"another, or say --name {found.project}"
            )
        known = _known(db, sled_id)
        if known is not None and known.project != found.project:
            raise EnrolmentRefusedError(f"this sled is enrolled for project {known.project}")
        if known is None or known.invite != found.id:
            _use(db, found, now_ms)
        sled = known or _add(db, found, sled_id, now_ms)
    return found, sled


def _use(db: sqlite3.Connection, found: Invite, now_ms: int) -> None:
    if found.used_ms is not None or now_ms >= found.expires_ms:
        raise EnrolmentRefusedError(
            "the invitation was used or has expired: ask for a new one (`huskies token invite`)"
        )
    db.execute("UPDATE invites SET used_ms = ? WHERE id = ?", (now_ms, found.id))


def _add(db: sqlite3.Connection, found: Invite, sled_id: str, now_ms: int) -> EnrolledSled:
    others = db.execute(
        "SELECT count(*) FROM sleds WHERE project = ? AND state = 'active'", (found.project,)
    ).fetchone()[0]
    state: SledState = "pending" if others and not found.adds else "active"
    values = (sled_id, found.project, state, now_ms, found.id)
    db.execute("INSERT INTO sleds VALUES (?, ?, ?, ?, ?, NULL)", values)
    return EnrolledSled(
        sled_id=sled_id,
        project=found.project,
        state=state,
        enrolled_ms=now_ms,
        invite=found.id,
        last_used_ms=None,
    )


def note_used(file: AccessFile, sled_ids: Iterable[str], now_ms: int) -> None:
    """These were let in, or may go on, just now."""
    with file.transaction(changes_rights=False) as db:
        values = [(now_ms, sled_id) for sled_id in sled_ids]
        db.executemany("UPDATE sleds SET last_used_ms = ? WHERE sled_id = ?", values)


def approve(file: AccessFile, key: str) -> EnrolledSled:
    """Let a pending or revoked sled push; `key` is the beginning of its sled_id. Raises `HuskiesError`."""
    return _set_state(file, key, "active", of=("pending", "revoked"))


def revoke(file: AccessFile, key: str) -> EnrolledSled:
    """Let a sled push no more; raises `HuskiesError`."""
    return _set_state(file, key, "revoked", of=("pending", "active"))


def all_sleds(file: AccessFile) -> list[EnrolledSled]:
    """Every sled that was ever enrolled, in that order."""
    return [_sled(row) for row in file.read(f"SELECT {_COLUMNS} FROM sleds ORDER BY enrolled_ms, sled_id")]  # noqa: S608 - constant


def open_invites(file: AccessFile, now_ms: int) -> int:
    """How many invitations wait for a sled."""
    rows = file.read("SELECT count(*) FROM invites WHERE used_ms IS NULL AND expires_ms > ?", (now_ms,))
    return int(rows[0][0])


_COLUMNS: Final = ", ".join(EnrolledSled.__struct_fields__)


def _set_state(file: AccessFile, key: str, state: SledState, of: tuple[SledState, ...]) -> EnrolledSled:
    with file.transaction() as db:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM sleds WHERE substr(sled_id, 1, ?) = ?",  # noqa: S608 - constant
            (len(key), key.lower()),
        )
        found = [sled for sled in map(_sled, rows) if key and sled.state in of]
        if len(found) != 1:
            which = "no sled" if not found else "more than one sled"
            raise HuskiesError(f"{which} has an id that begins with {key}; `huskies token sleds` shows all")
        db.execute("UPDATE sleds SET state = ? WHERE sled_id = ?", (state, found[0].sled_id))
    return msgspec.structs.replace(found[0], state=state)


def _sled(row: sqlite3.Row) -> EnrolledSled:
    return EnrolledSled(**{name: row[name] for name in EnrolledSled.__struct_fields__})


def _invite(db: sqlite3.Connection, invite_id: str) -> Invite | None:
    row = db.execute("SELECT * FROM invites WHERE id = ?", (invite_id,)).fetchone()
    if row is None:
        return None
    values = {name: row[name] for name in Invite.__struct_fields__}
    return Invite(**{**values, "hash": bytes(row["hash"]), "adds": bool(row["adds"])})


def _known(db: sqlite3.Connection, sled_id: str) -> EnrolledSled | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM sleds WHERE sled_id = ?", (sled_id,)).fetchone()  # noqa: S608 - constant
    return None if row is None else _sled(row)
