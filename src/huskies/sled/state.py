"""The lock on a project's state directory: one sled at a time."""

from __future__ import annotations

from filelock import FileLock, Timeout

from huskies.errors import ConfigError
from huskies.sled.layout import Layout


def lock_state(layout: Layout) -> FileLock:
    """The held lock; the operating system releases it if the process dies.

    Raises `ConfigError` where another sled holds it or the file cannot be used.
    """
    # Not bound to a thread: it may be released from another one than it was acquired in.
    lock = FileLock(layout.lock, timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(str(layout.state), "is in use: another sled of this project is running") from None
    except (OSError, NotImplementedError) as error:
        raise ConfigError(str(layout.lock), f"cannot be locked: {error}") from None
    return lock
