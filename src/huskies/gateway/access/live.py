"""Streams that are open: they end when whoever opened them may not read any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huskies.gateway.access.guard import Caller


class LiveReaders:
    """The tasks that serve streams, each with who asked for it."""

    def __init__(self) -> None:
        self._readers: dict[asyncio.Task[object], Caller] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._readers)

    @contextmanager
    def reading(self, caller: Caller) -> Iterator[None]:
        """Meanwhile the task that runs this is ended if the caller may not read any more."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - handlers run in tasks
        self._readers[task] = caller
        try:
            yield
        finally:
            self._readers.pop(task, None)

    def end_revoked(self, holds: Callable[[Caller], bool]) -> int:
        """End those of whose callers what they might do holds no more; how many that were."""
        ended = [task for task, caller in self._readers.items() if not holds(caller)]
        for task in ended:
            del self._readers[task]
            task.cancel()
        return len(ended)
