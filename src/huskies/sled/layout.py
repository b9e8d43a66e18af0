"""Where things lie in a project's `.huskies/`, and how it is laid out without overwriting anything.

`huskies emit` imports this, so it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from huskies.config import PROJECT_FILE
from huskies.errors import ConfigError
from huskies.events.model import STAGES
from huskies.storage.files import ensure_private_directory, sync_directory

_OWNER_ONLY_DIRECTORY: Final = 0o700
_GITIGNORE: Final = b"/state/\n"
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


class Layout:
    """The paths of one project; touches nothing by itself. `project_dir` is made absolute, links resolved."""

    def __init__(self, project_dir: Path) -> None:
        self.project_dir = project_dir.resolve()
        self.huskies = self.project_dir / ".huskies"
        self.work = self.huskies / "work"
        self.project_file = self.huskies / PROJECT_FILE
        self.gitignore = self.huskies / ".gitignore"
        self.state = self.huskies / "state"
        self.lock = self.state / "lock"
        self.outbox = self.state / "outbox.db"
        self.keys = self.state / "keys"
        self.gateways = self.state / "gateways.json"
        self.spool = self.state / "spool"
        self.spool_tmp = self.spool / "tmp"
        self.spool_new = self.spool / "new"
        self.spool_bad = self.spool / "bad"

    def stage(self, stage: str) -> Path:
        """The directory of the stories that stand in `stage`."""
        return self.work / stage


def ensure_state(layout: Layout) -> None:
    """Lay out the state directory, owner-only, and keep it out of git.

    Raises `ConfigError` where the project's directory is missing or cannot be written.
    """
    if not layout.project_dir.is_dir():
        raise ConfigError(str(layout.project_dir), "is no directory; expected a project's directory")
    try:
        if not layout.huskies.is_dir():
            layout.huskies.mkdir(exist_ok=True)
            sync_directory(layout.project_dir)
        _write_if_missing(layout.gitignore, _GITIGNORE)
        # An old state may have been restored with wider permissions; it holds the key.
        for directory in (layout.state, layout.keys, layout.spool, layout.spool_tmp, layout.spool_new):
            ensure_private_directory(directory)
        if layout.state.stat().st_mode & 0o077:
            layout.state.chmod(_OWNER_ONLY_DIRECTORY)
        # Also where the project came with a .gitignore of its own: a key must never be committed.
        _write_if_missing(layout.state / ".gitignore", b"*\n")
    except OSError as error:
        raise ConfigError(
            error.filename or str(layout.huskies), f"cannot be used: {error.strerror}"
        ) from None


def lay_out(layout: Layout) -> None:
    """The state directory and a directory for each stage; overwrites nothing.

    Raises `ConfigError` where something cannot be made.
    """
    ensure_state(layout)
    try:
        for stage in STAGES:
            layout.stage(stage).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(error.filename or str(layout.work), f"cannot be made: {error.strerror}") from None


def begin(layout: Layout) -> None:
    """What `huskies init` makes: `lay_out`, and the project's own file; overwrites nothing.

    Raises `ConfigError` where something cannot be made.
    """
    lay_out(layout)
    try:
        _write_if_missing(layout.project_file, _PROJECT_TOML.encode())
    except OSError as error:
        raise ConfigError(
            str(layout.project_file), f"cannot be made: {error.strerror}; make .huskies/ writable"
        ) from None


def _write_if_missing(path: Path, content: bytes) -> None:
    # Looked for first: the directory may not be writable, and need not be.
    if not path.exists():
        with contextlib.suppress(FileExistsError), path.open("xb") as file:
            file.write(content)
