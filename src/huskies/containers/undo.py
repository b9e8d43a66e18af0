"""What was made on the way, to be taken back in the opposite order where the way does not lead to its end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger("huskies.containers")


class Undo:
    """Made things, each by what it is in words, with what removes it."""

    def __init__(self) -> None:
        self._made: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def add(self, what: str, remove: Callable[[], Awaitable[object]]) -> None:
        """From now on this is (perhaps) there; `remove` must also do where it is not."""
        self._made.append((what, remove))

    async def run(self) -> tuple[str, ...]:
        """Remove everything, the newest first; returns what could not be, in words."""
        left: list[str] = []
        while self._made:
            what, remove = self._made.pop()
            try:
                await remove()
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are removed
                _log.error("%s could not be removed again: %s", what, error)
                left.append(what)
        return tuple(left)
