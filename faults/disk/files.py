"""Python's own file calls on the planted disk: those that huskies makes outside SQLite."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any

from faults.disk.durable import Durable
from faults.disk.failing import Failing

# How macOS, which has no /proc, says where an open file lies.
_F_GETPATH = 50


def plant(store: Durable | None, failing: Failing | None, *, forget: str | None) -> None:
    """Replace `os.fsync`, `os.rename`, `os.replace`, `os.unlink` and `os.remove`."""
    fsync = os.fsync

    def planted_fsync(descriptor: Any) -> None:
        path = _path_of(descriptor if isinstance(descriptor, int) else descriptor.fileno())
        if failing is not None and failing.fails("fsync", path):
            raise failing.as_os_error(path)
        if store is None or not store.holds(path):
            fsync(descriptor)
        elif forget == "all":
            return
        elif os.path.isdir(path):
            store.sync_directory(path)
        else:
            store.sync_file(path)

    os.fsync = planted_fsync  # type: ignore[assignment]  # its parameter's type is no one else's to name
    if store is not None:
        os.rename = _renaming(os.rename, store)
        os.replace = _renaming(os.replace, store)
        os.unlink = _removing(os.unlink, store)
        os.remove = _removing(os.remove, store)


def _renaming(real: Callable[..., None], store: Durable) -> Callable[..., None]:
    def rename(source: Any, target: Any, **options: Any) -> None:
        before, after = os.path.abspath(source), os.path.abspath(target)
        if store.holds(before) and store.holds(after) and os.path.isfile(before):
            store.renamed(before, after)
        real(source, target, **options)

    return rename


def _removing(real: Callable[..., None], store: Durable) -> Callable[..., None]:
    def remove(path: Any, **options: Any) -> None:
        real(path, **options)
        if not options and store.holds(os.path.abspath(path)):
            store.removed(os.path.abspath(path))

    return remove


def _path_of(descriptor: int) -> str:
    if os.path.exists("/proc/self/fd"):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    path: bytes = fcntl.fcntl(descriptor, _F_GETPATH, b"\0" * 1024)
    return path.rstrip(b"\0").decode()
