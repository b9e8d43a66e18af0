"""Blocking calls and what must come to its end, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Found = TypeVar("Found")


class GivenUp:
    """Whether nobody wants any more what a thread is doing; what it waits for is ended then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self.is_set = False

    def set(self) -> None:
        """From any thread; only the first time counts."""
        with self._lock:
            self.is_set = True
            if self._end is not None:
                self._end()
                self._end = None

    @contextmanager
    def ends(self, end: Callable[[], None]) -> Iterator[None]:
        """Within, `end` is called where it is given up; at once, where it was before."""
        with self._lock:
            if self.is_set:
                end()
            else:
                self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None


async def in_thread(call: Callable[[], Found], *, give_up: Callable[[], None] = lambda: None) -> Found:
    """What a blocking call returns; cancelled, it says `give_up` and waits for the call all the same.

    What the call makes is known to be there, or not, when this returns.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        give_up()
        await to_its_end(asyncio.wait([work]))
        if not work.cancelled():
            work.exception()
        raise


async def to_its_end(work: Awaitable[Found]) -> Found:
    """What `work` returns, however often whoever waits for it is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    return task.result()
