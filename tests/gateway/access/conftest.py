"""An `access.db` of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from huskies.gateway.access.file import AccessFile


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AccessFile]:
    opened = AccessFile(tmp_path)
    yield opened
    opened.close()
