"""Who may push: join tokens, and what lets whom ask for one (SPEC 4). Pure: time comes in."""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec

from huskies import limits
from huskies.errors import ConfigError


class Credential(msgspec.Struct, frozen=True):
    """What a sled showed: its name, which is no secret, and the projects that it lets push for."""

    name: str
    projects: frozenset[str]


class Policy(Protocol):
    """What projects.toml, the tokens and the enrolled sleds say now."""

    def credential(self, secret: str) -> Credential | None:
        """What a secret stands for; None where it is not one of this gateway's."""

    def holds(self, credential: Credential, project: str) -> bool:
        """Whether what was shown lets push for the project still."""

    def takes_tokens(self, project: str) -> bool:
        """Whether a token is needed to push for the project."""

    def takes_enrolled(self, project: str) -> bool:
        """Whether the project's sleds are enrolled, and prove themselves by their keys."""

    def is_open(self, project: str) -> bool:
        """Whether sleds without a token may push for it from anywhere."""

    @property
    def lets_anyone_in(self) -> bool:
        """Whether there is any project that some sled could push for from another machine."""


class RefusedError(Exception):
    """Admission was refused; `status` is the HTTP status, `problem` says why without naming a secret."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class _JoinToken(msgspec.Struct, frozen=True):
    expires_at: float
    # What the asker showed; None: nothing.
    credential: Credential | None


def _hash(secret: str) -> bytes:
    # A header may hold any bytes; those that are no UTF-8 come as surrogates.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


class Admission:
    """Gives out join tokens and redeems each once.

    They are found by their hashes, so that how long that takes says nothing of one that was guessed.
    """

    def __init__(self, *, loopback: bool) -> None:
        self._loopback = loopback
        self._tokens: dict[bytes, _JoinToken] = {}
        # Counted apart: who shows no token must not keep out those who do.
        self._outstanding = {True: 0, False: 0}

    def check_start(self, policy: Policy, host: str) -> None:
        """Raises `ConfigError` where a gateway on `host` could admit no one."""
        if self._loopback or policy.lets_anyone_in:
            return
        raise ConfigError(
            f"--host {host}",
            "on an address other than loopback a gateway needs a sled token or an open project; make one "
            "with `huskies token make PROJECT`, or set `open = true` for a project in projects.toml",
        )

    def issue(self, policy: Policy, shown: str | None, secret: str, now: float) -> None:
        """Register the join token `secret`, asked for with the token `shown`; raises `RefusedError`."""
        self._forget_expired(now)
        credential = None if shown is None else policy.credential(shown)
        if shown is not None and credential is None:
            raise RefusedError(401, "the sled token is not one of this gateway's")
        if credential is not None and not credential.projects:
            raise RefusedError(403, f"the token {credential.name} lets nobody push")
        if self._outstanding[credential is not None] >= limits.JOIN_TOKENS_MAX:
            raise RefusedError(503, "too many join tokens are outstanding; ask again in a minute")
        self._outstanding[credential is not None] += 1
        self._tokens[_hash(secret)] = _JoinToken(now + limits.JOIN_TOKEN_LIFETIME, credential)

    def redeem(
        self, policy: Policy, secret: str | None, project: str, now: float, *, direct: bool
    ) -> Credential | None:
        """Consume the join token for a connection of `project`, and say what it was asked for with.

        `direct`: it came through no proxy. Raises `RefusedError`.
        """
        try:
            return self.check(policy, secret, project, now, direct=direct)
        finally:
            self._forget(_hash(secret or ""))

    def check(
        self, policy: Policy, secret: str | None, project: str, now: float, *, direct: bool
    ) -> Credential | None:
        """As `redeem`, and consumes nothing."""
        if secret is None:
            raise RefusedError(401, "a join token is needed: ask for one with POST /gateway/tokens")
        token = self._tokens.get(_hash(secret))
        if token is None or token.expires_at <= now:
            raise RefusedError(401, "the join token is unknown, used or expired: ask for a new one")
        if token.credential is None:
            self._check_unbound(policy, project, direct=direct)
        elif project not in token.credential.projects:
            raise RefusedError(403, f"the join token is not for project {project}")
        elif not policy.holds(token.credential, project):
            raise RefusedError(403, f"the sled token of project {project} was revoked or has changed")
        return token.credential

    def _check_unbound(self, policy: Policy, project: str, *, direct: bool) -> None:
        if policy.takes_enrolled(project):
            # Its key is looked at in the hello.
            return
        if policy.takes_tokens(project):
            raise RefusedError(403, f"project {project} needs its sled token: set HUSKIES_SLED_TOKEN")
        # A proxy on this machine passes on who may be anywhere.
        if not (self._loopback and direct) and not policy.is_open(project):
            raise RefusedError(403, f"project {project} is neither open nor has it a sled token here")

    def _forget_expired(self, now: float) -> None:
        # Tokens are kept in the order in which they expire.
        while self._tokens:
            first = next(iter(self._tokens))
            if self._tokens[first].expires_at > now:
                return
            self._forget(first)

    def _forget(self, hashed: bytes) -> None:
        token = self._tokens.pop(hashed, None)
        if token is not None:
            self._outstanding[token.credential is not None] -= 1
