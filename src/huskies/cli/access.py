"""What `huskies token`, `sleds` and `audit` do with a gateway's access.db, and write down in its audit."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from huskies.cli.token_file import check_data_dir, revoke_token
from huskies.config import PROJECT_NAME_RULE, load_projects
from huskies.durations import parse_duration
from huskies.errors import ConfigError, HuskiesError
from huskies.events.names import is_project_name
from huskies.gateway.access import audit, sleds, tokens
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.scopes import parse
from huskies.gateway.access.sleds import EnrolledSled
from huskies.gateway.access.tokens import Token
from huskies.readers.times import now_ms

_NAME_MAX = 64


class Access:
    """The access.db of a data directory, which `creates` makes where it is missing. Raises `ConfigError`."""

    def __init__(self, data_dir: Path, *, creates: bool = False) -> None:
        if not creates:
            check_data_dir(data_dir)
        self._data_dir = data_dir
        self._file = AccessFile(data_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    # --- tokens ------------------------------------------------------------------------------------

    def create(self, name: str, scopes: Sequence[str], expires: str | None = None) -> str:
        """A new token's secret."""
        if not 0 < len(name) <= _NAME_MAX or not name.isprintable() or " " in name:
            raise ConfigError("NAME", f"expected 1 to {_NAME_MAX} characters without spaces; got {name!r}")
        try:
            parse(scopes)
        except ValueError as error:
            raise ConfigError("--scope", str(error)) from None
        ends_ms = None if expires is None else now_ms() + _duration("--expires", expires)
        token, secret = tokens.create(
            self._file,
            name=name,
            scopes=scopes,
            created_by=_user(),
            now_ms=now_ms(),
            expires_ms=ends_ms,
        )
        self._note("token create", f"{name} ({token.id}) {' '.join(scopes)}")
        return secret

    def make_sled_token(self, project: str, *, replace: bool) -> str:
        """A new token for a project's sled; raises `HuskiesError` where it has one already."""
        scope = f"push:{project}"
        before = [token for token in self.valid_tokens() if token.name == project and scope in token.scopes]
        in_file = project in self.projects_with_a_token()
        if (before or in_file) and not replace:
            raise HuskiesError(
                f"{project} has a sled token already; use --replace to put a new one in its place"
            )
        secret = self.create(project, [scope])
        for token in before:
            tokens.revoke(self._file, token.id, now_ms=now_ms())
            self._note("token revoke", f"{token.name} ({token.id})")
        if in_file:
            revoke_token(self._data_dir, project)
            self._note("token revoke", f"{project} (projects.toml)")
        return secret

    def valid_tokens(self) -> list[Token]:
        """Those that open something now."""
        now = now_ms()
        return [token for token in tokens.all_tokens(self._file) if token.is_valid(now)]

    def projects_with_a_token(self) -> list[str]:
        """The projects that have a sled token in projects.toml."""
        return sorted(load_projects(self._data_dir).sled_tokens)

    def rotate(self, key: str, overlap: str) -> tuple[Token, str]:
        """The old token, which ends then, and the new one's secret."""
        old, new, secret = tokens.rotate(
            self._file,
            key,
            created_by=_user(),
            now_ms=now_ms(),
            overlap_ms=_duration("--overlap", overlap),
        )
        self._note("token rotate", f"{old.name} ({old.id} to {new.id})")
        return old, secret

    def revoke(self, key: str) -> list[str]:
        """What was revoked, in words; raises `HuskiesError` where there was nothing."""
        if key in self.projects_with_a_token():
            revoke_token(self._data_dir, key)
            self._note("token revoke", f"{key} (projects.toml)")
            said = [f"revoked the sled token of {key} in projects.toml"]
            if not any(key in (token.id, token.name) for token in self.valid_tokens()):
                return said
        else:
            said = []
        for token in tokens.revoke(self._file, key, now_ms=now_ms()):
            self._note("token revoke", f"{token.name} ({token.id})")
            said.append(f"revoked {token.name} ({token.id})")
        return said

    # --- sleds -------------------------------------------------------------------------------------

    def invite(self, project: str, expires: str, *, adds: bool) -> str:
        """An invitation's code."""
        if not is_project_name(project):
            raise ConfigError("PROJECT", f"{PROJECT_NAME_RULE}; got {project!r}")
        lifetime_ms = _duration("--expires", expires)
        code = sleds.invite(
            self._file, project, created_by=_user(), now_ms=now_ms(), lifetime_ms=lifetime_ms, adds=adds
        )
        self._note("sled invite", project)
        return code

    def enrolled(self) -> list[EnrolledSled]:
        """Every sled that was ever enrolled."""
        return sleds.all_sleds(self._file)

    def approve(self, key: str) -> EnrolledSled:
        """Let a sled push; raises `HuskiesError`."""
        sled = sleds.approve(self._file, key)
        self._note("sled approve", f"{sled.project} {sled.sled_id[:16]}")
        return sled

    def revoke_sled(self, key: str) -> EnrolledSled:
        """Let a sled push no more; raises `HuskiesError`."""
        sled = sleds.revoke(self._file, key)
        self._note("sled revoke", f"{sled.project} {sled.sled_id[:16]}")
        return sled

    # --- what happened -----------------------------------------------------------------------------

    def newest(self, count: int) -> list[Entry]:
        """The newest entries of the audit, the oldest of them first."""
        return audit.newest(self._file, count)

    def _note(self, action: str, subject: str) -> None:
        audit.note(self._file, Entry(at_ms=now_ms(), who=_user(), action=action, subject=subject))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # In a container the user may have a number alone.
        return "operator"


def _duration(flag: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError:
        raise ConfigError(flag, f"expected a duration such as 12h, 7d or 4w; got {text!r}") from None
