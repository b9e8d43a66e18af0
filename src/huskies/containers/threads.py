"""Blocking calls and what must come to its end, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")


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
