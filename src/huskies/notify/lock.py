"""One process at a time tells people from a gateway's directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from huskies.errors import ConfigError

_NAME: Final = "chat.lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory for telling people; raises `ConfigError` where another process does."""
    lock = FileLock(directory / _NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"--data-dir {directory}",
            "another `huskies chat` uses it; stop that one, or the gateway that runs it",
        ) from None
    except OSError as error:
        problem = f"cannot be used: {error.strerror}; run it as the gateway's user"
        raise ConfigError(f"--data-dir {directory}", problem) from None
    try:
        yield
    finally:
        lock.release()
