"""Who is asking: what `access.db` says, held in memory and read again as soon as someone changes it."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from huskies.errors import StoreError
from huskies.gateway.access import audit, logins, sleds, tokens
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.file import AccessFile, hashed
from huskies.gateway.access.logins import Login
from huskies.gateway.access.scopes import EVERYTHING_READ, Scopes, parse
from huskies.gateway.access.tokens import Token

_log = logging.getLogger("huskies.access")

# What begins so names no token of the file.
OWN: Final = "own:"
_SECRET_BYTES: Final = 32
_COMMIT_MS: Final = 5_000
# Kept until they are written; beyond so many a flood of attempts is counted and not told one by one.
_UNWRITTEN_MAX: Final = 1_000


class Caller(msgspec.Struct, frozen=True):
    """Who asks, and what that one may do.

    `who` stands in the audit; it is no secret. `token` is the id of the token that says so, and `login` the
    hash of the session, if there is one. `by_proxy`: a trusted proxy named who it is.
    """

    who: str
    scopes: Scopes
    token: str | None = None
    login: bytes | None = None
    by_proxy: bool = False


# On a machine where only its own users can reach the gateway, and nobody asked for tokens.
ANYONE: Final = Caller("anyone on this machine", msgspec.structs.replace(EVERYTHING_READ, admin=True))


class Guard:
    """Answers from memory; `now_ms` is the wall clock. `loopback`: only this machine reaches the gateway.

    `file` is read in the event loop; `writer`, the same file, is for one thread at a time.
    """

    def __init__(
        self, file: AccessFile, writer: AccessFile, *, loopback: bool, now_ms: Callable[[], int]
    ) -> None:
        self._file = file
        self._writer = writer
        self._loopback = loopback
        self._now_ms = now_ms
        self._version = -1
        self._tokens: dict[bytes, Token] = {}
        self._by_id: dict[str, Token] = {}
        self._logins: dict[bytes, Login] = {}
        self._sleds: dict[str, str] = {}
        self._enrolled: frozenset[str] = frozenset()
        self._pushed_for: frozenset[str] = frozenset()
        self._invites = 0
        # Of what runs in this process, or is started by it: the secret's hash, and who that is.
        self._own: dict[bytes, Caller] = {}
        # Tokens and sleds that were used since that was last written.
        self._used: set[str] = set()
        self._used_sleds: set[str] = set()
        self._unwritten: list[Entry] = []
        self._untold = 0
        # When the file could first not be read, by the wall clock; None: it can.
        self._unreadable_ms: int | None = None
        # Counts how often rights were read anew.
        self.reloads = 0
        self._lock = threading.Lock()
        self._version, self._rights = file.version(), -1
        self._reload()

    def refresh(self) -> bool:
        """Read what someone else has changed, if anything.

        Where the file cannot be read now, what it said before holds: a command that hangs while it writes
        must not stop the gateway.
        """
        try:
            version = self._file.version()
            if version == self._version:
                return False
            is_news = self._reload()
        except StoreError as error:
            self._say_unreadable(error)
            return False
        self._version, self._unreadable_ms = version, None
        return is_news

    def _say_unreadable(self, error: StoreError) -> None:
        """Say it once, and not of the moment that a commit takes."""
        now_ms = self._now_ms()
        if self._unreadable_ms is None:
            self._unreadable_ms = now_ms
        elif 0 <= self._unreadable_ms < now_ms - _COMMIT_MS:
            _log.error("who may do what cannot be read; what it was before holds: %s", error)
            self._unreadable_ms = -1

    def own(self, project: str) -> str:
        """A token for the project's sled in this process, which ends with it."""
        return self._make_own(Caller("this process", Scopes(pushes=frozenset((project,))), OWN + project))

    def own_admin(self, who: str) -> str:
        """A token for a process of ours that may read everything and start projects, which ends with us."""
        scopes = msgspec.structs.replace(EVERYTHING_READ, admin=True)
        return self._make_own(Caller(who, scopes, f"{OWN}{who}"))

    def _make_own(self, caller: Caller) -> str:
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self._own[hashed(secret)] = caller
        return secret

    def _reload(self) -> bool:
        """Read everything, if anyone's rights have changed; raises `StoreError`."""
        rights = self._file.rights()
        if rights == self._rights:
            return False
        self._rights = rights
        self.reloads += 1
        self._tokens = tokens.hashes(self._file)
        self._by_id = {token.id: token for token in self._tokens.values()}
        self._logins = logins.hashes(self._file)
        active = [sled for sled in sleds.all_sleds(self._file) if sled.state == "active"]
        self._sleds = {sled.sled_id: sled.project for sled in active}
        # A project stays one of enrolled sleds when its last one is revoked.
        self._enrolled = frozenset(sled.project for sled in sleds.all_sleds(self._file))
        self._invites = sleds.open_invites(self._file, self._now_ms())
        of_tokens = [parse(token.scopes).pushes for token in self._by_id.values() if token.revoked_ms is None]
        self._pushed_for = frozenset().union(*of_tokens)
        return True

    # --- who ---------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether anyone on this machine may read: nobody else reaches it, and no token says who may.

        One that expired still says that not everyone may; one that was revoked says nothing any more.
        """
        return self._loopback and not any(
            token.revoked_ms is None and parse(token.scopes).may_read_something
            for token in self._by_id.values()
        )

    def by_token(self, secret: str) -> Caller | None:
        """Whose token this is, if it is valid."""
        digest = hashed(secret)
        if (own := self._own.get(digest)) is not None:
            return own
        token = self._tokens.get(digest)
        return None if token is None else self._caller(token)

    def lets_replicate(self, secret: str) -> str | None:
        """The id of a token with which another gateway may connect; None where it is none."""
        caller = self.by_token(secret)
        return caller.token if caller is not None and caller.scopes.peer else None

    def by_login(self, secret: str) -> Caller | None:
        """Who logged in with this session, if it and the token behind it are valid."""
        login = self._logins.get(hashed(secret))
        if login is None or login.expires_ms <= self._now_ms():
            return None
        token = self._by_id.get(login.token)
        caller = None if token is None else self._caller(token)
        return None if caller is None else msgspec.structs.replace(caller, login=hashed(secret))

    def holds(self, caller: Caller) -> bool:
        """Whether what the caller may do holds still."""
        if caller is ANYONE:
            return self.is_open
        if caller.login is not None:
            login = self._logins.get(caller.login)
            if login is None or login.expires_ms <= self._now_ms():
                return False
        return caller.token is None or self.is_valid(caller.token)

    def is_valid(self, token_id: str) -> bool:
        """Whether what was begun with a token may go on."""
        if token_id.startswith(OWN):
            return True
        token = self._by_id.get(token_id)
        return token is not None and token.is_valid(self._now_ms())

    def _caller(self, token: Token) -> Caller | None:
        if not token.is_valid(self._now_ms()):
            return None
        self._used.add(token.id)
        return Caller(f"{token.name} ({token.id})", parse(token.scopes), token.id)

    # --- sleds -------------------------------------------------------------------------------------

    def takes_tokens(self, project: str) -> bool:
        """Whether there is a token for pushing for the project, and so nobody may without one.

        One that expired still says so; one that was revoked says nothing any more.
        """
        return project in self._pushed_for

    @property
    def lets_anyone_in(self) -> bool:
        """Whether there is a token or an invitation with which a sled can push."""
        return bool(self._pushed_for or self._enrolled or self._invites)

    def is_enrolled(self, project: str) -> bool:
        """Whether only sleds that were enrolled may push for the project."""
        return project in self._enrolled

    def may_push(self, project: str, sled_id: str) -> bool:
        """Whether this sled was enrolled for the project and not revoked."""
        if self._sleds.get(sled_id) != project:
            return False
        self._used_sleds.add(sled_id)
        return True

    # --- what happened -----------------------------------------------------------------------------

    def note(self, entry: Entry) -> None:
        """Keep an entry of the audit; written by `write`."""
        if len(self._unwritten) < _UNWRITTEN_MAX:
            self._unwritten.append(entry)
        else:
            self._untold += 1

    @property
    def has_news(self) -> bool:
        """Whether there is anything to `write`."""
        return bool(self._used or self._used_sleds or self._unwritten or self._untold)

    def write(self) -> None:
        """Write what happened since the last call, or say why not; for a thread of its own."""
        with self._lock:
            self._write_all()

    def _write_all(self) -> None:
        used, self._used = self._used, set()
        used_sleds, self._used_sleds = self._used_sleds, set()
        unwritten, self._unwritten = self._unwritten, []
        untold, self._untold = self._untold, 0
        if untold:
            flood = Entry(at_ms=self._now_ms(), who="", action="refused", outcome="a flood", count=untold)
            unwritten.append(flood)
        try:
            self._write(used, used_sleds, unwritten)
        except Exception as error:  # noqa: BLE001 - whatever it is, the gateway goes on
            # What is said here is in the log, too.
            _log.error("%d entries of the audit are lost: %s", len(unwritten), error)

    def _write(self, used: Iterable[str], used_sleds: Iterable[str], unwritten: list[Entry]) -> None:
        if used:
            tokens.note_used(self._writer, used, self._now_ms())
        if used_sleds:
            sleds.note_used(self._writer, used_sleds, self._now_ms())
        if unwritten:
            audit.note(self._writer, *unwritten)
