"""What `init`, `up` and `sled` do with a project's directory."""

from __future__ import annotations

import logging
from pathlib import Path

from huskies.config import HUSKIES_DIR
from huskies.errors import ConfigError
from huskies.sled import layout

_log = logging.getLogger(__name__)


def lay_out(project_dir: Path) -> None:
    """Make what `.huskies/` lacks; nothing that exists is overwritten. Raises `ConfigError`."""
    _check(project_dir)
    layout.begin(layout.Layout(project_dir))


def prepared(project_dir: Path) -> Path:
    """The directory, with `.huskies/` laid out where it had none; raises `ConfigError`."""
    _check(project_dir)
    if not (project_dir / HUSKIES_DIR).exists():
        lay_out(project_dir)
        _log.info("laid out %s", project_dir / HUSKIES_DIR)
    return project_dir


def _check(project_dir: Path) -> None:
    if not project_dir.is_dir():
        raise ConfigError(str(project_dir), "expected the directory of a project; create it, or name another")
