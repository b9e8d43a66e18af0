"""How often an address has tried and failed of late. Pure; time comes in."""

from __future__ import annotations

import math


class Attempts:
    """Counts failures by address: after `most` within `seconds`, it has to wait until those are over.

    At most `addresses` are remembered, the newest; who has so many to try from is slowed by other limits.
    """

    def __init__(self, *, most: int, seconds: float, addresses: int = 10_000) -> None:
        self._most = most
        self._seconds = seconds
        self._addresses = addresses
        # Each with how often it failed since when, in the order in which that began.
        self._failed: dict[str, tuple[int, float]] = {}

    def failed(self, address: str, now: float) -> None:
        """It tried, and was refused."""
        count, since = self._failed.get(address, (0, now))
        if now - since >= self._seconds:
            del self._failed[address]
            count, since = 0, now
        self._failed[address] = (count + 1, since)
        if len(self._failed) > self._addresses:
            del self._failed[next(iter(self._failed))]

    def wait(self, address: str, now: float) -> int:
        """Whole seconds until it may try again; 0: now."""
        count, since = self._failed.get(address, (0, now))
        left = since + self._seconds - now
        return math.ceil(left) if count >= self._most and left > 0 else 0
