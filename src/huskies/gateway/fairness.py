"""Fairness: sleds that push as much as they can give way to those that push little. Pure; time comes in.

What counts is the event loop's time, which everything that a sled sends costs: batches, snapshots, pings. Who
takes much of it is a heavy project, be it hostile or behind by a million events. As long as others push
little, and are to be acknowledged at once, all the heavy ones together get a part of the loop's time, in
short pieces. Where nobody else is there, or everybody is heavy, nobody waits.
"""

from __future__ import annotations

from typing import Final

# Long enough that one large frame makes no project heavy for long, short enough that a flood is noticed.
WINDOW: Final = 0.1
# Who took a larger share of a window is heavy.
HEAVY_SHARE: Final = 0.1
# What all heavy projects together get of the loop's time while others push, each an equal part.
HEAVY_TOTAL: Final = 0.5
# How long who pushed little is counted on to push again.
LIGHT_FOR: Final = 1.0
# Seconds that are worth no pause yet, and the longest pause: a sled that waits for longer seems dead.
SPRINT: Final = 0.001
PAUSE_MAX: Final = 1.0


class Fairness:
    """Who took how much of the event loop's time of late; `now` and all lengths are in seconds."""

    def __init__(self) -> None:
        self._began = 0.0
        self._used: dict[str, float] = {}
        self._heavy: frozenset[str] = frozenset()
        self._light_until = 0.0
        # What each heavy project gets of the loop's time, where it gives way.
        self._share = 1.0

    def gives_way(self, project: str) -> bool:
        """Whether what the project pushes is to be taken in short pieces."""
        return self._share < 1 and project in self._heavy

    def spend(self, project: str, seconds: float, now: float) -> float:
        """The project took so much of the loop's time; how long it is to pause."""
        if now - self._began >= WINDOW:
            self._next_window(now)
        used = self._used[project] = self._used.get(project, 0.0) + seconds
        if not self.gives_way(project):
            return 0.0
        over = used - SPRINT - self._share * (now - self._began)
        return min(PAUSE_MAX, over / self._share) if over > 0 else 0.0

    def _next_window(self, now: float) -> None:
        seconds, used = now - self._began, self._used
        heavy = {project for project, spent in used.items() if spent > HEAVY_SHARE * seconds}
        if self._share < 1:
            # Who gives way takes less for that alone: it is heavy until it goes on no more.
            heavy |= self._heavy & used.keys()
        if used.keys() - heavy:
            self._light_until = now + LIGHT_FOR
        self._heavy = frozenset(heavy)
        self._share = HEAVY_TOTAL / len(heavy) if heavy and now < self._light_until else 1.0
        self._began, self._used = now, {}
