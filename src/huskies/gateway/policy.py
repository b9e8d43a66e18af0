"""projects.toml as it is now: read again when it changes, so that a new token needs no restart."""

from __future__ import annotations

import logging
from pathlib import Path

from huskies.config import PROJECTS_FILE, ProjectsFile, load_projects
from huskies.errors import ConfigError

_log = logging.getLogger("huskies.gateway")


class PolicyFile:
    """The projects.toml of a data directory; raises `ConfigError` where it is bad to begin with."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._stamp = self._read_stamp()
        self._current = load_projects(data_dir)

    def current(self) -> ProjectsFile:
        """What it says; one that has become bad is reported once, and what it said before holds."""
        stamp = self._read_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._current = load_projects(self._data_dir)
            except ConfigError as error:
                _log.error("projects.toml is not used as it is now: %s", error)
            else:
                _log.info("projects.toml was read again")
        return self._current

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = (self._data_dir / PROJECTS_FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
