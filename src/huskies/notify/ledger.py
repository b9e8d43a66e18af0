"""The notifier's side of notifications.db: what is remembered, what is to be sent, what became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from huskies.notify.channel import Outgoing
from huskies.notify.rules import Doubtful
from huskies.notify.seen import Seen
from huskies.notify.state import Draft, State
from huskies.storage.notifications import NotificationsFile

_CURSOR: Final = "cursor"
_KEEP_MS: Final = 30 * 86_400_000
_KEEP_FAILED_MS: Final = 180 * 86_400_000
# So many attempts of one message come before what was decided on later; then others have their turn.
_TRIES_IN_A_ROW: Final = 3
# Of `looks`; 1 says that an earlier attempt is in doubt.
_CUT_OFF: Final = 2
# What it changes, or belongs under, is settled, and so is what was to change that before.
_MAY_GO: Final = (
    "(e.state IS NULL OR e.state NOT IN ('queued', 'sending')) "
    "AND (t.state IS NULL OR t.state NOT IN ('queued', 'sending')) "
    "AND NOT EXISTS (SELECT 1 FROM deliveries p WHERE p.edits = d.edits AND p.id < d.id "
    "AND p.state IN ('queued', 'sending'))"
)
_WITH_EARLIER: Final = (
    "deliveries d LEFT JOIN deliveries e ON e.delivery_id = d.edits "
    "LEFT JOIN deliveries t ON t.delivery_id = d.thread"
)


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is to be sent now.

    `looks`: an earlier attempt may have left it in the channel. `cut_off`: that attempt ended with its
    process, and nothing was decided about it yet. `since_ms`: when it was decided on, or someone last asked
    for it again.
    """

    id: int
    outgoing: Outgoing
    attempts: int
    looks: bool
    cut_off: bool
    since_ms: int
    doubtful: Doubtful | None


class Ledger:
    """For one thread at a time; raises `StoreError`, and `ConfigError` where the file cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._file = NotificationsFile(directory)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # --- what is remembered --------------------------------------------------------------------------

    def load(self) -> tuple[str | None, State]:
        """The cursor behind what was decided on (None: nothing was yet), and what is remembered."""
        kept: dict[str, dict[str, bytes]] = {}
        for row in self._file.read("SELECT kind, key, value FROM state"):
            kept.setdefault(row["kind"], {})[row["key"]] = row["value"]
        cursor = kept.get(_CURSOR, {}).get("")
        ranges = {
            (row["sled_id"], row["epoch"]): msgspec.json.decode(row["ranges"], type=list[int])
            for row in self._file.read("SELECT sled_id, epoch, ranges FROM seen")
        }
        return None if cursor is None else cursor.decode(), State(kept, Seen(ranges))

    def keep(self, cursor: str | None, state: State, drafts: Iterable[Draft]) -> None:
        """Commit messages, what changed of what is remembered, and the cursor behind it all."""
        with self._file.transaction() as db:
            for draft in drafts:
                _add(db, draft)
            for origin, ranges in state.seen.changed():
                db.execute(
                    "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)",
                    (*origin, msgspec.json.encode(ranges).decode()),
                )
            for kind, key, value in state.changed():
                _put(db, kind, key, value)
            if cursor is not None:
                _put(db, _CURSOR, "", cursor.encode())
        # Not before the commit: what it did not take is to be kept still.
        state.kept()

    # --- what is to be sent --------------------------------------------------------------------------

    def recover(self) -> int:
        """Whatever was under way when the last process ended is in doubt; returns how much that is."""
        with self._file.transaction() as db:
            found = db.execute(
                "UPDATE deliveries SET state = 'queued', looks = ? WHERE state = 'sending'", (_CUT_OFF,)
            )
            return found.rowcount

    def next(self, channel: str, now_ms: int) -> Pending | None:
        """The message to send next, if one is due. One that changes another waits for that to be settled."""
        query = (
            f"SELECT d.*, e.remote_id AS edited, t.remote_id AS threaded FROM {_WITH_EARLIER} "  # noqa: S608 - ours
            f"WHERE d.channel = ? AND d.state = 'queued' AND d.next_ms <= ? AND {_MAY_GO} "
            "ORDER BY d.attempts / ?, d.id LIMIT 1"
        )
        rows = self._file.read(query, (channel, now_ms, _TRIES_IN_A_ROW))
        return _pending(rows[0], rows[0]["edited"] or self._stands_for(rows[0])) if rows else None

    def _stands_for(self, row: sqlite3.Row) -> str | None:
        """What the channel calls the message that was sent for the one to change, which it never got."""
        query = (
            "SELECT remote_id FROM deliveries WHERE edits = ? AND id < ? AND remote_id <> '' "
            "ORDER BY id LIMIT 1"
        )
        found = self._file.read(query, (row["edits"], row["id"]))
        return found[0][0] if found else None

    def wakes_ms(self, channel: str) -> int | None:
        """When the next message of the channel is due; None: there is none."""
        query = (
            f"SELECT min(d.next_ms) FROM {_WITH_EARLIER} "  # noqa: S608 - ours
            f"WHERE d.channel = ? AND d.state = 'queued' AND {_MAY_GO}"
        )
        found = self._file.read(query, (channel,))[0][0]
        return None if found is None else int(found)

    def sending(self, delivery: int, now_ms: int) -> None:
        """It is under way from now on."""
        self._set(delivery, "state = 'sending', attempts = attempts + 1, begun_ms = ?", now_ms)

    def delivered(self, delivery: int, remote_id: str, now_ms: int) -> None:
        """The channel has it."""
        state = "acknowledged" if remote_id else "sent"
        values = "state = ?, remote_id = ?, settled_ms = ?, problem = '', looks = 0"
        self._set(delivery, values, state, remote_id, now_ms)

    def again(self, delivery: int, problem: str, next_ms: int, *, looks: bool) -> None:
        """It is to be tried again then; `looks`: the channel may have it."""
        values = "state = 'queued', problem = ?, next_ms = ?, looks = ?"
        self._set(delivery, values, problem, next_ms, looks)

    def failed(self, delivery: int, problem: str, now_ms: int) -> None:
        """It is not tried again, unless someone asks for that."""
        self._set(delivery, "state = 'failed', problem = ?, settled_ms = ?, looks = 0", problem, now_ms)

    def in_doubt(self, delivery: int, problem: str, now_ms: int) -> None:
        """Nobody knows, and it is not tried again, unless someone asks for that."""
        values = "state = 'in_doubt', problem = ?, settled_ms = ?, looks = 1"
        self._set(delivery, values, problem, now_ms)

    def _set(self, delivery: int, assignments: str, *values: object) -> None:
        with self._file.transaction() as db:
            db.execute(f"UPDATE deliveries SET {assignments} WHERE id = ?", (*values, delivery))  # noqa: S608 - ours

    # --- the rest ------------------------------------------------------------------------------------

    def version(self) -> int:
        """Differs from before once another process has changed the file."""
        return self._file.version()

    def fail_unknown(self, channels: Iterable[str], now_ms: int) -> int:
        """Messages to channels that are defined no more are settled; returns how many."""
        with self._file.transaction() as db:
            return db.execute(
                "UPDATE deliveries SET state = CASE looks WHEN 0 THEN 'failed' ELSE 'in_doubt' END, "
                "looks = min(looks, 1), settled_ms = ?, "
                "problem = 'the channel is not defined any more' "
                "WHERE state = 'queued' AND channel NOT IN (SELECT value FROM json_each(?))",
                (now_ms, msgspec.json.encode(sorted(channels)).decode()),
            ).rowcount

    def prune(self, now_ms: int) -> None:
        """Forget what was settled long ago."""
        with self._file.transaction() as db:
            db.execute(
                "DELETE FROM deliveries WHERE settled_ms < CASE WHEN state IN ('failed', 'in_doubt') "
                "THEN ? ELSE ? END",
                (now_ms - _KEEP_FAILED_MS, now_ms - _KEEP_MS),
            )


def _put(db: sqlite3.Connection, kind: str, key: str, value: bytes | None) -> None:
    if value is None:
        db.execute("DELETE FROM state WHERE kind = ? AND key = ?", (kind, key))
    else:
        db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (kind, key, value))


def _add(db: sqlite3.Connection, draft: Draft) -> None:
    state = draft.state
    if draft.edits is not None and _take_back(db, draft) and draft.kind == "resolved":
        # Nobody knew of it, and it is over.
        state = "overtaken"
    db.execute(
        "INSERT OR IGNORE INTO deliveries (delivery_id, channel, project, kind, state, subject, text, html, "
        "about, queued_ms, edits, thread, urgent, doubtful, attempts, next_ms, settled_ms, remote_id, "
        "problem, looks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '', '', 0)",
        (
            draft.delivery_id,
            draft.channel,
            draft.project,
            draft.kind,
            state,
            draft.subject,
            draft.text,
            draft.html,
            msgspec.json.encode(draft.about).decode(),
            draft.queued_ms,
            draft.edits,
            draft.thread,
            draft.urgent,
            draft.doubtful,
            draft.queued_ms,
            None if state == "queued" else draft.queued_ms,
        ),
    )


def _take_back(db: sqlite3.Connection, draft: Draft) -> bool:
    """Whether nobody knows of the message that this one would change, nor of what was to change it before.

    What of them was never tried is not sent any more.
    """
    taken = db.execute(
        "UPDATE deliveries SET state = 'overtaken', settled_ms = ? "
        "WHERE (delivery_id = ? OR edits = ?) AND state = 'queued' AND attempts = 0 AND looks = 0",
        (draft.queued_ms, draft.edits, draft.edits),
    ).rowcount
    left = db.execute(
        "SELECT 1 FROM deliveries WHERE (delivery_id = ? OR edits = ?) "
        "AND state NOT IN ('overtaken', 'muted') LIMIT 1",
        (draft.edits, draft.edits),
    ).fetchone()
    return bool(taken) and left is None


def _pending(row: sqlite3.Row, edited: str | None) -> Pending:
    return Pending(
        id=row["id"],
        attempts=row["attempts"],
        looks=bool(row["looks"]),
        cut_off=row["looks"] == _CUT_OFF,
        since_ms=row["queued_ms"] if row["resent_ms"] is None else row["resent_ms"],
        doubtful=row["doubtful"],
        outgoing=Outgoing(
            delivery_id=row["delivery_id"],
            subject=row["subject"],
            text=row["text"],
            html=row["html"],
            queued_ms=row["queued_ms"],
            # What never arrived cannot be changed: this one stands for both.
            edits=edited,
            thread=row["threaded"] or None,
            about=tuple(msgspec.json.decode(row["about"], type=list[str])),
            urgent=bool(row["urgent"]),
        ),
    )
