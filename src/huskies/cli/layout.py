"""What `.huskies/` of a new project looks like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huskies.config import HUSKIES_DIR, PROJECT_FILE
from huskies.errors import ConfigError
from huskies.events.model import STAGES

_PROJECT_TOML: Final = """\
# Settings of this project's sled. Flags and environment variables (HUSKIES_…) override them.

# name = "web-shop"                            # default: the directory's name
# gateway_url = "http://gateway.example:3000"  # default: no relay
# sled_token_file = "../web-shop.token"        # or HUSKIES_SLED_TOKEN; keep the file out of git
# relay_rate_limits = false
# host = "127.0.0.1"
# port = 3001
"""
_IGNORED: Final = "/state/"


def lay_out(project_dir: Path) -> list[Path]:
    """Make what is missing and return it; nothing that exists is overwritten. Raises `ConfigError`."""
    try:
        return list(_make_missing(project_dir))
    except OSError as error:
        raise ConfigError(
            str(error.filename or project_dir),
            f"cannot be laid out: {error.strerror}; make the directory writable, or name another",
        ) from None


def _make_missing(project_dir: Path) -> Iterator[Path]:
    top = project_dir / HUSKIES_DIR
    for stage in STAGES:
        directory = top / "work" / stage
        if not directory.is_dir():
            directory.mkdir(parents=True)
            yield directory
    if _write_new(top / PROJECT_FILE, _PROJECT_TOML):
        yield top / PROJECT_FILE
    if _ignore_state(top / ".gitignore"):
        yield top / ".gitignore"


def _write_new(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _ignore_state(path: Path) -> bool:
    """Keep the sled's state (its key is in it) out of git, adding a line to a file that is there already."""
    if _write_new(path, f"{_IGNORED}\n"):
        return True
    lines = path.read_bytes().splitlines()
    if {b"state", b"state/", b"/state", _IGNORED.encode()} & {line.strip() for line in lines}:
        return False
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{_IGNORED}\n")
    return True
