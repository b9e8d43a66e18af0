"""The power comes back: on the disk lies what was synced, and of the rest whatever chance left."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512


@dataclass
class Loss:
    """What one power loss did."""

    bytes_lost: int = 0
    sectors_kept: int = 0
    names_lost: int = 0


def begin(root: Path, durable: Path) -> None:
    """All that lies below `root` now is durable."""
    if durable.exists():
        shutil.rmtree(durable)
    shutil.copytree(root, durable / "named")
    shutil.copytree(root, durable / "synced")
    for path in (durable / "named").rglob("*"):
        if path.is_file():
            copy = durable / "synced" / path.relative_to(durable / "named")
            copy.unlink()
            copy.hardlink_to(path)


def lose_power(root: Path, durable: Path, rng: random.Random, *, all_unsynced: bool = False) -> Loss:
    """Put below `root` what a disk might hold after the power was cut; its process must be dead.

    Which of the unsynced is lost is drawn, unless `all_unsynced` is.
    """
    rebuild = _Rebuild(root, durable, rng, all_unsynced=all_unsynced)
    rebuild.directory(Path())
    shutil.rmtree(root)
    rebuild.after.rename(root)
    begin(root, durable)
    return rebuild.loss


class _Rebuild:
    """One disk after a power loss, made in `after`."""

    def __init__(self, root: Path, durable: Path, rng: random.Random, *, all_unsynced: bool) -> None:
        self.after = root.with_name(root.name + ".after")
        self.loss = Loss()
        self._root = root
        self._durable = durable
        self._rng = rng
        self._all_unsynced = all_unsynced

    def directory(self, at: Path) -> None:
        (self.after / at).mkdir(mode=0o700)
        real, named = _names(self._root / at), _names(self._durable / "named" / at)
        # Changes of one directory that were not synced: the journal of a file system has all or none.
        use_real = not self._all_unsynced and self._rng.random() < 0.5
        self.loss.names_lost += 0 if use_real else len(set(real) ^ set(named))
        for name, is_directory in sorted((real if use_real else named).items()):
            # SQLite's shared memory is made anew after a crash.
            if name.endswith("-shm"):
                continue
            if is_directory:
                self.directory(at / name)
            else:
                self._file(at / name, use_real=use_real)

    def _file(self, path: Path, *, use_real: bool) -> None:
        synced, named = self._durable / "synced" / path, self._durable / "named" / path
        base = synced if use_real else named
        old = base.read_bytes() if base.exists() else b""
        same_file = use_real or (synced.exists() and named.exists() and synced.samefile(named))
        real = self._root / path
        (self.after / path).write_bytes(
            self._mixed(old, real.read_bytes() if same_file and real.exists() else old)
        )
        (self.after / path).chmod(0o600)

    def _mixed(self, old: bytes, new: bytes) -> bytes:
        """The synced content with some of the sectors that were written since."""
        if old == new:
            return old
        chance = 0.0 if self._all_unsynced else self._rng.choice((0.0, 0.5, 0.9))
        size = self._rng.choice((len(old), max(len(old), len(new))))
        result = bytearray(old.ljust(size, b"\0"))
        for start in range(0, len(new), SECTOR):
            sector = new[start : start + SECTOR]
            if old[start : start + SECTOR] == sector:
                continue
            if self._rng.random() < chance:
                result.extend(b"\0" * (start + len(sector) - len(result)))
                result[start : start + len(sector)] = sector
                self.loss.sectors_kept += 1
            else:
                self.loss.bytes_lost += len(sector)
        return bytes(result)


def _names(directory: Path) -> dict[str, bool]:
    return {path.name: path.is_dir() for path in directory.iterdir()} if directory.is_dir() else {}
