from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from huskies.gateway.keys import gateway_key, make_key
from huskies.storage.files import ensure_private_directory


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was fsynced, in order."""
    found: list[Path] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return found


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs /proc to tell what is synced"
)


def test_a_directory_is_made_durably_with_those_above_it(tmp_path: Path, synced: list[Path]) -> None:
    ensure_private_directory(tmp_path / "a" / "b" / "c", parents=True)
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o700
    synced.clear()
    ensure_private_directory(tmp_path / "a" / "b" / "c", parents=True)
    assert not synced


def test_a_gateways_key_is_durable_under_its_name(tmp_path: Path, synced: list[Path]) -> None:
    gateway_key(tmp_path)
    assert synced == [tmp_path / "gateway.new", tmp_path]
    synced.clear()
    make_key(tmp_path)
    assert synced == [tmp_path / "gateway.new", tmp_path]
