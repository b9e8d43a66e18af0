"""Who may push, by projects.toml and `access.db` together: the `Policy` that admission asks."""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from huskies.config import ProjectsFile
from huskies.gateway.access.file import hashed
from huskies.gateway.access.guard import Caller
from huskies.gateway.admission import Credential

_OF_FILE: Final = "projects.toml:"


class Tokens(Protocol):
    """What `access.db` says; the guard knows."""

    def by_token(self, secret: str) -> Caller | None:
        """Whose token this is, if it is valid."""

    def is_valid(self, token_id: str) -> bool:
        """Whether what was begun with a token may go on."""

    def takes_tokens(self, project: str) -> bool:
        """Whether there is a token for pushing for the project."""

    def is_enrolled(self, project: str) -> bool:
        """Whether only sleds that were enrolled may push for the project."""

    @property
    def lets_anyone_in(self) -> bool:
        """Whether there is a token or an invitation with which a sled can push."""


class PushPolicy:
    """What the two say at one moment."""

    def __init__(self, file: ProjectsFile, guard: Tokens) -> None:
        self._file = file
        self._guard = guard

    def credential(self, secret: str) -> Credential | None:
        """What a secret stands for; None where it is not one of this gateway's."""
        found = None
        shown = hashed(secret)
        # Every token is compared, so that the time taken does not depend on which one matches.
        for project, token in self._file.sled_tokens.items():
            if hmac.compare_digest(shown, hashed(token)):
                found = Credential(_name(project, token), frozenset((project,)))
        if found is not None:
            return found
        caller = self._guard.by_token(secret)
        if caller is None or caller.token is None:
            return None
        return Credential(caller.token, caller.scopes.pushes)

    def holds(self, credential: Credential, project: str) -> bool:
        """Whether what was shown lets push for the project still."""
        if credential.name.startswith(_OF_FILE):
            token = self._file.sled_tokens.get(project)
            return token is not None and credential.name == _name(project, token)
        return self._guard.is_valid(credential.name)

    def takes_tokens(self, project: str) -> bool:
        """Whether a token is needed to push for the project."""
        return project in self._file.sled_tokens or self._guard.takes_tokens(project)

    def takes_enrolled(self, project: str) -> bool:
        """Whether the project's sleds are enrolled, and prove themselves by their keys."""
        return self._guard.is_enrolled(project)

    def is_open(self, project: str) -> bool:
        """Whether sleds without a token may push for it from anywhere."""
        entry = self._file.projects.get(project)
        return entry is not None and entry.open

    @property
    def lets_anyone_in(self) -> bool:
        """Whether there is any project that some sled could push for from another machine."""
        any_open = any(entry.open for entry in self._file.projects.values())
        return any_open or bool(self._file.sled_tokens) or self._guard.lets_anyone_in


def _name(project: str, token: str) -> str:
    # A token that takes the place of another is another credential.
    return f"{_OF_FILE}{project}:{hashed(token).hex()}"
