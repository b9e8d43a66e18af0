"""A disk that fails or forgets: SQLite's and Python's file calls of one process go through it.

No compiler, no privileges and no file system of its own: SQLite lets a program put a layer between itself and
the disk, and what Python calls can be replaced.
"""

from __future__ import annotations

from pathlib import Path

from faults.disk import files, vfs
from faults.disk.durable import Durable
from faults.disk.failing import Failing


def plant(root: Path, *, durable: Path | None, forget: str | None, fail: str | None) -> None:
    """From now on, calls on files below `root` go through the planted disk.

    `durable` is where that which was synced is kept; `forget` and `fail` are as `faults.process` takes them.
    """
    store = None if durable is None else Durable(root.resolve(), durable)
    failing = None if fail is None else Failing(root.resolve(), fail)
    vfs.plant(store, failing, forget=forget)
    files.plant(store, failing, forget=forget)
