from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.ports import reserved


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """Ports that a process which is restarted can take again, until the end of the test."""
    with ExitStack() as kept:
        yield lambda: kept.enter_context(reserved())
