"""How long to wait before the next attempt to reach the gateway (SPEC 3)."""

from __future__ import annotations

from huskies.limits import BACKOFF_FIRST, BACKOFF_JITTER, BACKOFF_MAX


class Backoff:
    """Doubles from `BACKOFF_FIRST` for each failed attempt; the jitter never takes it above `BACKOFF_MAX`."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """A session was accepted: the next delay is the first one again."""
        self._failures = 0

    def next_delay(self, chance: float) -> float:
        """Seconds to wait; counts a failed attempt. `chance` is drawn evenly from [0, 1)."""
        # 2**32 s is far beyond any cap; the bound keeps the power small however long the outage.
        nominal = BACKOFF_FIRST * 2.0 ** min(self._failures, 32)
        self._failures += 1
        return jittered(min(nominal, BACKOFF_MAX / (1 + BACKOFF_JITTER)), chance)


def first_delay(chance: float) -> float:
    """Seconds between attempts that say nothing of each other; `chance` is drawn from [0, 1)."""
    return jittered(BACKOFF_FIRST, chance)


def jittered(seconds: float, chance: float) -> float:
    """So many seconds, spread evenly by `BACKOFF_JITTER` to each side; `chance` is drawn from [0, 1)."""
    return seconds * (1 - BACKOFF_JITTER + 2 * BACKOFF_JITTER * chance)
