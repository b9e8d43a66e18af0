"""The directory that a demonstration lives in, and that is gone after it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

PREFIX: Final = "huskies-demo-"
_LOCK: Final = "lock"
# One that begins just now may not have its lock yet.
_YOUNG: Final = 60.0


@contextmanager
def scratch(base: Path | None = None) -> Iterator[Path]:
    """A new directory for as long as this lasts, among those for temporary files where no other is named.

    Whoever is killed cannot remove it; the lock in it says that nobody is there any more, and the next one
    that begins removes it.
    """
    base = base or Path(tempfile.gettempdir())
    sweep(base, time.time())
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    try:
        with FileLock(directory / _LOCK):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep(base: Path, now: float) -> None:
    """Remove what demonstrations that were killed left there."""
    for directory in base.glob(f"{PREFIX}*"):
        # Others use the directory for temporary files, too, and some may have laid a trap there.
        with suppress(OSError, Timeout):
            about = directory.lstat()
            is_ours = stat.S_ISDIR(about.st_mode) and (os.name != "posix" or about.st_uid == os.getuid())
            if is_ours and now - about.st_mtime > _YOUNG:
                with FileLock(directory / _LOCK, timeout=0):
                    shutil.rmtree(directory, ignore_errors=True)
