"""Who may push: join tokens, sled tokens and what projects.toml says (SPEC 4). Pure: time comes in."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Protocol

import msgspec

from huskies import limits
from huskies.errors import ConfigError


class Project(Protocol):
    """What projects.toml says of a project."""

    @property
    def open(self) -> bool:
        """Whether sleds without a sled token may push for it from anywhere."""


class Policy(Protocol):
    """What projects.toml says."""

    @property
    def projects(self) -> Mapping[str, Project]:
        """The listed projects."""

    @property
    def sled_tokens(self) -> Mapping[str, str]:
        """The sled token of each project that has one."""


class RefusedError(Exception):
    """Admission was refused; `status` is the HTTP status, `problem` says why without naming a secret."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class _JoinToken(msgspec.Struct, frozen=True):
    expires_at: float
    # The project whose sled token the asker showed, and that token's hash; None: it showed none.
    project: str | None
    sled_token: bytes | None


def _hash(secret: str) -> bytes:
    # A header may hold any bytes; those that are no UTF-8 come as surrogates.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


class Admission:
    """Gives out join tokens and redeems each once."""

    def __init__(self, *, loopback: bool) -> None:
        self._loopback = loopback
        self._tokens: dict[bytes, _JoinToken] = {}
        # Counted apart: who shows no sled token must not keep out those who do.
        self._outstanding = {True: 0, False: 0}

    def check_start(self, policy: Policy, host: str) -> None:
        """Raises `ConfigError` where a gateway on `host` could admit no one."""
        if self._loopback or policy.sled_tokens or any(entry.open for entry in policy.projects.values()):
            return
        raise ConfigError(
            f"--host {host}",
            "on an address other than loopback a gateway needs a sled token or an open project; make one "
            "with `huskies token make PROJECT`, or set `open = true` for a project in projects.toml",
        )

    def issue(self, policy: Policy, sled_token: str | None, secret: str, now: float) -> None:
        """Register the join token `secret`, asked for with `sled_token`; raises `RefusedError`."""
        self._forget_expired(now)
        project, sled_hash = None, None
        if sled_token is not None:
            project = self._project_of(policy, sled_token)
            sled_hash = _hash(sled_token)
        if self._outstanding[project is not None] >= limits.JOIN_TOKENS_MAX:
            raise RefusedError(503, "too many join tokens are outstanding; ask again in a minute")
        self._outstanding[project is not None] += 1
        self._tokens[_hash(secret)] = _JoinToken(now + limits.JOIN_TOKEN_LIFETIME, project, sled_hash)

    def redeem(self, policy: Policy, secret: str | None, project: str, now: float) -> None:
        """Consume the join token for a connection of `project`; raises `RefusedError`."""
        try:
            self.check(policy, secret, project, now)
        finally:
            self._forget(_hash(secret or ""))

    def check(self, policy: Policy, secret: str | None, project: str, now: float) -> None:
        """Raises `RefusedError` where `redeem` would, and consumes nothing."""
        if secret is None:
            raise RefusedError(401, "a join token is needed: ask for one with POST /gateway/tokens")
        token = self._tokens.get(_hash(secret))
        if token is None or token.expires_at <= now:
            raise RefusedError(401, "the join token is unknown, used or expired: ask for a new one")
        if token.project is not None and token.project != project:
            raise RefusedError(403, f"the join token is not for project {project}")
        expected = policy.sled_tokens.get(project)
        if expected is not None:
            _check_sled_token(token, expected, project)
        elif token.project is not None:
            raise RefusedError(403, f"the sled token of project {project} was revoked")
        elif not self._loopback and not (project in policy.projects and policy.projects[project].open):
            raise RefusedError(403, f"project {project} is neither open nor has it a sled token here")

    def _project_of(self, policy: Policy, sled_token: str) -> str:
        shown = _hash(sled_token)
        found = None
        # Every token is compared, so that the time taken does not depend on which one matches.
        for project, token in policy.sled_tokens.items():
            if hmac.compare_digest(shown, _hash(token)):
                found = project
        if found is None:
            raise RefusedError(401, "the sled token is not one of this gateway's")
        return found

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
            self._outstanding[token.project is not None] -= 1


def _check_sled_token(token: _JoinToken, expected: str, project: str) -> None:
    if token.sled_token is None:
        raise RefusedError(403, f"project {project} needs its sled token: set HUSKIES_SLED_TOKEN")
    if not hmac.compare_digest(token.sled_token, _hash(expected)):
        raise RefusedError(403, f"the sled token of project {project} has changed")
