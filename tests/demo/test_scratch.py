from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from huskies.demo.scratch import PREFIX, scratch, sweep

LATER = time.time() + 3_600


def interrupted(base: Path) -> None:
    with scratch(base) as directory:
        assert list(base.iterdir()) == [directory]
        if os.name == "posix":
            assert directory.stat().st_mode & 0o077 == 0
        (directory / "deep" / "er").mkdir(parents=True)
        raise KeyboardInterrupt


def test_it_is_gone_afterwards_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_one_that_was_killed_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}abc"
    left.mkdir()
    (left / "lock").touch()
    sweep(tmp_path, LATER)
    assert not left.exists()


def test_what_is_in_use_or_young_or_of_others_stays(tmp_path: Path) -> None:
    used, young, other = (tmp_path / f"{PREFIX}{name}" for name in ("used", "young", "other"))
    used.mkdir()
    with FileLock(used / "lock"):
        sweep(tmp_path, LATER)
    assert used.exists()
    young.mkdir()
    sweep(tmp_path, time.time())
    assert young.exists()
    (tmp_path / "mine").mkdir()
    other.symlink_to(tmp_path / "mine")
    sweep(tmp_path, LATER)
    assert (tmp_path / "mine").exists()
