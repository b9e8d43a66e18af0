"""What `up` and `sled` do with a project's directory before a sled can run beside it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from huskies.cli.layout import lay_out
from huskies.config import HUSKIES_DIR, SledConfig
from huskies.errors import ConfigError

if TYPE_CHECKING:
    from huskies.sled.service import Sled

_log = logging.getLogger(__name__)


def prepared(project_dir: Path) -> Path:
    """The directory, with `.huskies/` laid out where it had none; raises `ConfigError`."""
    if not project_dir.is_dir():
        raise ConfigError(str(project_dir), "expected the directory of a project; create it, or name another")
    if not (project_dir / HUSKIES_DIR).exists():
        lay_out(project_dir)
        _log.info("laid out %s", project_dir / HUSKIES_DIR)
    return project_dir


def new_sled(config: SledConfig) -> Sled:
    """A sled with these settings, not started yet."""
    from huskies.sled.service import Sled, SledSettings

    return Sled(SledSettings(**msgspec.structs.asdict(config)))
