"""Files and directories that are still there after a power loss.

`huskies emit` imports this, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_OWNER_ONLY_DIRECTORY: Final = 0o700
_OWNER_ONLY_FILE: Final = 0o600


def ensure_private_directory(directory: Path, *, parents: bool = False) -> None:
    """Make the directory, owner-only and durably, unless it is there; raises `OSError`.

    `parents`: also those above it that are missing, with the usual permissions.
    """
    if directory.is_dir():
        return
    if parents:
        missing = [one for one in directory.absolute().parents if not one.exists()]
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            sync_directory(one.parent)
    directory.mkdir(mode=_OWNER_ONLY_DIRECTORY, exist_ok=True)
    sync_directory(directory.parent)


def create_private_file(path: Path, content: bytes) -> None:
    """Write a new owner-only file and fsync it; raises `FileExistsError` or another `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make what was created, renamed or removed in the directory durable; raises `OSError`."""
    if os.name == "nt":  # Windows has no such call; its file systems journal the directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
