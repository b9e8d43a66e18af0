"""One process at a time works in a gateway's directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from huskies.errors import ConfigError
from huskies.storage.files import ensure_private_directory

_NAME: Final = "lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory, made where it is missing; raises `ConfigError` where that cannot be."""
    lock = FileLock(directory / _NAME)
    try:
        ensure_private_directory(directory, parents=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"--data-dir {directory}",
            "another gateway is using it; stop that one or name another directory",
        ) from None
    except FileExistsError:
        raise ConfigError(f"--data-dir {directory}", "is a file; name a directory") from None
    except OSError as error:
        problem = f"cannot be used: {error.strerror}; name a directory that you can write to"
        raise ConfigError(f"--data-dir {directory}", problem) from None
    try:
        yield
    finally:
        lock.release()
