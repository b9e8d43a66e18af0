"""One process at a time tells people from a gateway's directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from huskies.errors import ConfigError

_NAME: Final = "chat.lock"
_INTERVAL: Final = 0.1


@asynccontextmanager
async def locked(directory: Path, patience: float) -> AsyncIterator[None]:
    """Hold the directory for telling people; raises `ConfigError` where another process does.

    Which is waited for so long (s): one whose gateway was killed ends, and may have something under way.
    """
    lock = FileLock(directory / _NAME)
    until = asyncio.get_running_loop().time() + patience
    while not _acquired(lock, directory):
        if asyncio.get_running_loop().time() >= until:
            problem = "another `huskies chat` uses it; stop that one, or the gateway that runs it"
            raise ConfigError(f"--data-dir {directory}", problem)
        await asyncio.sleep(_INTERVAL)
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, directory: Path) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        problem = f"cannot be used: {error.strerror}; run it as the gateway's user"
        raise ConfigError(f"--data-dir {directory}", problem) from None
    return True
