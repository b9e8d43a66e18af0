"""What of a directory would be there after a power loss: kept beside it, brought up to date by each sync.

`synced/` holds each file as it was last fsynced, under the name it has now; `named/` holds the names that are
durable because their directory was fsynced after they were made. Both are hard links to the same copy, so
that renaming a file and syncing it again are told apart as on a disk.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

# The real ones: `files.plant` replaces them for everyone else.
_rename, _unlink, _open, _mkdir = os.rename, os.unlink, os.open, os.mkdir


class Durable:
    """The durable state of the files below `root`; for the process that writes them, from any thread."""

    def __init__(self, root: Path, directory: Path) -> None:
        self._root = str(root)
        self._synced = str(directory / "synced")
        self._named = str(directory / "named")
        # What was written to a file since it was last synced; None: anything.
        self._written: dict[str, list[tuple[int, int]] | None] = {}
        self._lock = threading.Lock()

    def holds(self, path: str) -> bool:
        """Whether the path lies on this disk."""
        return path == self._root or path.startswith(self._root + os.sep)

    def wrote(self, path: str, offset: int, size: int) -> None:
        with self._lock:
            written = self._written.setdefault(path, [])
            if written is not None:
                written.append((offset, size))

    def truncated(self, path: str) -> None:
        with self._lock:
            self._written[path] = None

    def sync_file(self, path: str) -> None:
        """The content of this file is durable now; its name may not be."""
        with self._lock:
            written = self._written.pop(path, None)
            copy = self._place(self._synced, path)
            if written is None or not os.path.exists(copy):
                written = [(0, os.path.getsize(path))]
            _copy_ranges(path, copy, written)

    def sync_directory(self, path: str) -> None:
        """The names in this directory are durable now, with what of each file was synced."""
        with self._lock:
            named = self._place(self._named, path)
            os.makedirs(named, exist_ok=True)
            entries = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(path)}
            for name, is_directory in entries.items():
                if is_directory:
                    os.makedirs(os.path.join(named, name), exist_ok=True)
                else:
                    self._link(os.path.join(path, name), os.path.join(named, name))
            for entry in list(os.scandir(named)):
                if entry.name not in entries:
                    shutil.rmtree(entry.path) if entry.is_dir() else _unlink(entry.path)

    def renamed(self, before: str, after: str) -> None:
        with self._lock:
            source, target = self._place(self._synced, before), self._place(self._synced, after)
            if os.path.exists(source):
                _rename(source, target)
            else:
                _remove(target)
            self._written.pop(after, None)
            if before in self._written:
                self._written[after] = self._written.pop(before)

    def removed(self, path: str) -> None:
        with self._lock:
            _remove(self._place(self._synced, path))
            self._written.pop(path, None)

    def _link(self, path: str, named: str) -> None:
        copy = self._place(self._synced, path)
        if not os.path.exists(copy):
            # A name without content: nothing of the file was ever synced.
            os.close(_open(copy, os.O_WRONLY | os.O_CREAT, 0o600))
        if not (os.path.exists(named) and os.path.samefile(copy, named)):
            _remove(named)
            os.link(copy, named)

    def _place(self, base: str, path: str) -> str:
        place = base + path[len(self._root) :]
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return place


def _copy_ranges(path: str, copy: str, ranges: list[tuple[int, int]]) -> None:
    source = _open(path, os.O_RDONLY)
    target = _open(copy, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size = os.fstat(source).st_size
        for offset, count in ranges:
            os.pwrite(target, os.pread(source, count, offset), offset)
        os.truncate(target, size)
    finally:
        os.close(source)
        os.close(target)


def _remove(path: str) -> None:
    if os.path.lexists(path):
        _unlink(path)
