"""Calls that fail: `write:EIO:log.db-wal:7` fails the 7th write to such a file, and every one after it."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path

MARK = "planted fault"


class Failing:
    """Counts calls of one kind on files whose names end in a suffix; a disk that failed keeps failing."""

    def __init__(self, root: Path, plan: str) -> None:
        call, error, suffix, number = plan.split(":")
        self._root = str(root)
        self._call = call
        self._suffix = suffix
        self._left = int(number)
        self._lock = threading.Lock()
        self.error: int = getattr(errno, error)

    def fails(self, call: str, path: str) -> bool:
        """Whether this call is to fail; the first one that does is told on stderr."""
        if call != self._call or not path.startswith(self._root) or not path.endswith(self._suffix):
            return False
        with self._lock:
            self._left -= 1
            left = self._left
        if left == 0:
            name = errno.errorcode[self.error]
            os.write(sys.stderr.fileno(), f"{MARK}: {name} on {call} of {path}\n".encode())
        return left <= 0

    def as_os_error(self, path: str) -> OSError:
        return OSError(self.error, os.strerror(self.error), path)
