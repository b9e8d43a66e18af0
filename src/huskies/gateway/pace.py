"""How often something may be done: a token bucket for each key. Pure; time comes in."""

from __future__ import annotations

import math
from collections.abc import Hashable


class Pace:
    """Lets each key go on `at_once` times, and then `a_second` times a second."""

    def __init__(self, *, at_once: int, a_second: float) -> None:
        self._at_once = at_once
        self._a_second = a_second
        # When each was last let through, and how often it could have been once more; the longest ago first.
        self._left: dict[Hashable, tuple[float, float]] = {}

    def wait(self, key: Hashable, now: float, count: int = 1) -> int:
        """Take so many, or whole seconds until there are; 0: they were taken. More than all counts as all."""
        count = min(count, self._at_once)
        self._forget_full(now)
        since, left = self._left.pop(key, (now, float(self._at_once)))
        left = min(self._at_once, left + (now - since) * self._a_second)
        taken = left >= count
        self._left[key] = (now, left - count if taken else left)
        return 0 if taken else math.ceil((count - left) / self._a_second)

    def _forget_full(self, now: float) -> None:
        # Who was let through so long ago may be as often at once as anyone new.
        while self._left:
            key, (since, _) = next(iter(self._left.items()))
            if (now - since) * self._a_second < self._at_once:
                return
            del self._left[key]
