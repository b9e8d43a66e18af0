"""What `init`, `up` and `sled` do with a project's directory."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from huskies.config import HUSKIES_DIR, PROJECT_FILE
from huskies.errors import ConfigError
from huskies.sled import layout

_log = logging.getLogger(__name__)

_PROJECT_TOML: Final = """\
# Settings of this project's sled. Flags and environment variables (HUSKIES_…) override them.

# name = "web-shop"                            # default: the directory's name
# gateway_url = "http://gateway.example:3000"  # default: no relay; several: ["http://one", "http://two"]
# sled_token_file = "../web-shop.token"        # or HUSKIES_SLED_TOKEN; keep the file out of git
# relay_rate_limits = false
# keep_acked = "7d"                            # how long acknowledged events are kept
# keep_until_held_by = 1                       # and until so many gateways hold them
# host = "127.0.0.1"
# port = 3001
"""


def lay_out(project_dir: Path) -> None:
    """Make what `.huskies/` lacks; nothing that exists is overwritten. Raises `ConfigError`."""
    _check(project_dir)
    layout.lay_out(layout.Layout(project_dir))
    path = project_dir / HUSKIES_DIR / PROJECT_FILE
    try:
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(_PROJECT_TOML)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be made: {error.strerror}; make .huskies/ writable") from None


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
