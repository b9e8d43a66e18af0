"""projects.toml as it is now: read again when it changes, so that a new token needs no restart."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from huskies.config import PROJECTS_FILE, ProjectsFile, load_projects
from huskies.errors import ConfigError
from huskies.gateway.access.proxies import Network, networks
from huskies.gateway.access.scopes import NOTHING, Scopes, parse
from huskies.toml_file import refuse
from huskies.urls import is_base_url

_log = logging.getLogger("huskies.gateway")


class Reach(msgspec.Struct, frozen=True):
    """What `[access]` says, checked."""

    trusted: tuple[Network, ...] = ()
    user_header: str | None = None
    user_scopes: Scopes = NOTHING
    origins: frozenset[str] = frozenset()


class PolicyFile:
    """The projects.toml of a data directory; raises `ConfigError` where it is bad to begin with."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._stamp = self._read_stamp()
        self._current, self._reach = self._load()

    def current(self) -> ProjectsFile:
        """What it says; one that has become bad is reported once, and what it said before holds."""
        self._refresh()
        return self._current

    def reach(self) -> Reach:
        """What `[access]` in it says now."""
        self._refresh()
        return self._reach

    def _refresh(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current, self._reach = self._load()
        except ConfigError as error:
            _log.error("projects.toml is not used as it is now: %s", error)
        else:
            _log.info("projects.toml was read again")

    def _load(self) -> tuple[ProjectsFile, Reach]:
        file = load_projects(self._data_dir)
        return file, _checked(self._data_dir / PROJECTS_FILE, file)

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = (self._data_dir / PROJECTS_FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _checked(path: Path, file: ProjectsFile) -> Reach:
    access = file.access
    try:
        trusted = tuple(networks(access.trusted_proxies))
    except ValueError as error:
        refuse(path, "access.trusted_proxies", f"expected addresses or networks such as 10.0.0.0/8: {error}")
    try:
        scopes = parse(access.user_scopes)
    except ValueError as error:
        refuse(path, "access.user_scopes", str(error))
    for origin in access.origins:
        # Compared as a browser writes it: no path, not even a slash.
        if not is_base_url(origin, ("http", "https")) or origin.count("/") != 2:  # noqa: PLR2004 - those of ://
            refuse(
                path, "access.origins", f"expected origins such as https://huskies.example; got {origin!r}"
            )
    if access.user_header is not None and not trusted:
        refuse(path, "access.user_header", "expected trusted_proxies beside it: else nobody's is believed")
    return Reach(trusted, access.user_header, scopes, frozenset(access.origins))
