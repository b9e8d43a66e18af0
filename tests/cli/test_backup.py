"""A backup holds who may do what, and no secret of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from huskies.gateway.store.index import Index, IndexReader
from huskies.gateway.store.log import Log

if TYPE_CHECKING:
    from tests.cli.conftest import Run


async def make_log(directory: Path) -> None:
    index = Index(directory)
    lookup = IndexReader(index)
    log = Log(directory, lookup=lookup, published=lambda _: None, failed=lambda _: None, now_ms=lambda: 1)
    await log.stop()
    lookup.close()
    index.close()


async def test_tokens_survive_a_restore(huskies: Run, tmp_path: Path) -> None:
    data, copy, new = (tmp_path / name for name in ("data", "copy", "new"))
    secret = huskies("token", "create", "ci", "--scope", "read", "--data-dir", data).stdout.strip()
    await make_log(data)
    assert huskies("backup", str(copy), "--data-dir", data).status == 0
    assert set(json.loads((copy / "backup.json").read_text())["files"]) == {"log.db", "access.db"}
    assert all(secret.encode() not in path.read_bytes() for path in copy.iterdir())
    restored = huskies("restore", str(copy), "--data-dir", new)
    assert restored.status == 0, restored
    assert huskies("token", "list", "--data-dir", new).stdout.startswith("ci  ")


async def test_tokens_that_are_there_are_not_replaced(huskies: Run, tmp_path: Path) -> None:
    data, copy, new = (tmp_path / name for name in ("data", "copy", "new"))
    huskies("token", "create", "old", "--scope", "read", "--data-dir", data)
    await make_log(data)
    huskies("backup", str(copy), "--data-dir", data)
    huskies("token", "create", "new", "--scope", "read", "--data-dir", new)
    assert huskies("restore", str(copy), "--data-dir", new).status == 0
    assert huskies("token", "list", "--data-dir", new).stdout.startswith("new  ")
