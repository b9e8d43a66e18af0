"""The disk that forgets: what was synced stays, and nothing else has to."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.disk.durable import Durable
from faults.disk.power import begin, lose_power


class Disk:
    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.root.mkdir()
        (self.root / "old").write_bytes(b"old")
        self._durable = tmp_path / "durable"
        begin(self.root, self._durable)
        self.store = Durable(self.root, self._durable)

    def write(self, name: str, content: bytes) -> str:
        path = self.root / name
        path.write_bytes(content)
        self.store.wrote(str(path), 0, len(content))
        return str(path)

    def after_power_loss(self) -> dict[str, bytes]:
        lose_power(self.root, self._durable, random.Random(1), all_unsynced=True)  # noqa: S311 - a test
        return {path.name: path.read_bytes() for path in self.root.iterdir()}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_what_was_not_synced_is_lost(disk: Disk) -> None:
    disk.write("old", b"new")
    disk.write("other", b"new")
    assert disk.after_power_loss() == {"old": b"old"}


def test_what_was_synced_stays(disk: Disk) -> None:
    disk.store.sync_file(disk.write("old", b"newer"))
    assert disk.after_power_loss() == {"old": b"newer"}


def test_a_new_name_needs_its_directory_synced(disk: Disk) -> None:
    disk.store.sync_file(disk.write("one", b"1"))
    assert disk.after_power_loss() == {"old": b"old"}
    disk.store.sync_file(disk.write("two", b"2"))
    disk.store.sync_directory(str(disk.root))
    assert disk.after_power_loss() == {"old": b"old", "two": b"2"}


def test_a_name_without_synced_content_is_empty(disk: Disk) -> None:
    disk.write("new", b"1")
    disk.store.sync_directory(str(disk.root))
    assert disk.after_power_loss() == {"old": b"old", "new": b""}


@pytest.mark.parametrize("synced", [False, True])
def test_a_rename_needs_its_directory_synced(disk: Disk, *, synced: bool) -> None:
    path = disk.write("draft", b"new")
    disk.store.sync_file(path)
    disk.store.renamed(path, str(disk.root / "old"))
    (disk.root / "draft").rename(disk.root / "old")
    if synced:
        disk.store.sync_directory(str(disk.root))
    assert disk.after_power_loss() == {"old": b"new" if synced else b"old"}


def test_sectors_that_were_not_synced_survive_as_chance_has_it(tmp_path: Path) -> None:
    seen = set()
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        disk = Disk(tmp_path / str(seed))
        disk.write("old", b"x" * 2_048)
        lose_power(disk.root, tmp_path / str(seed) / "durable", random.Random(seed))  # noqa: S311 - a test
        content = (disk.root / "old").read_bytes()
        seen.add(tuple(content[start : start + 512].count(b"x") for start in range(0, 2_048, 512)))
    assert len(seen) > 5
