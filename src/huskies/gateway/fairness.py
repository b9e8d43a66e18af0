"""Fairness: sleds that push as much as they can give way to those that push little. Pure; time comes in.

What counts is the time that what a sled sends costs: the event loop's, and the disk's. Who takes much of it
is a heavy project, be it hostile or behind by a million events. As long as others push little, and are to be
acknowledged at once, all the heavy ones together get a part of the time, in short pieces. Where nobody else
is there, or everybody is heavy, nobody waits.
"""

from __future__ import annotations

from typing import Final

# Long enough that whoever is served in one long turn of the event loop, while a hundred others wait for
# theirs, takes no large share of it.
WINDOW: Final = 0.5
# Seconds that a frame takes of the event loop, and a byte of the disk, on a slow machine: reckoned, so that
# the same frames count the same wherever they come, and for many of them at once.
FRAME_COST: Final = 10e-6
BYTE_COST: Final = 20e-9
# Who took a larger share of a window is heavy.
HEAVY_SHARE: Final = 0.1
# What all heavy projects together get of the time while others push, each an equal part.
HEAVY_TOTAL: Final = 0.1
# How long who pushed little is counted on to push again, and who pushed much to have more than it may send.
LIGHT_FOR: Final = 1.0
HEAVY_FOR: Final = 1.0
# Seconds that are worth no pause yet, and the longest pause: a sled that waits for longer seems dead.
SPRINT: Final = 0.001
PAUSE_MAX: Final = 1.0


class Fairness:
    """Who took how much of late; `now` and all lengths are in seconds."""

    def __init__(self) -> None:
        self._began = 0.0
        self._used: dict[str, float] = {}
        # Until when each of them is heavy.
        self._heavy: dict[str, float] = {}
        # How much each of these took since it paused.
        self._run: dict[str, float] = {}
        self._light_until = 0.0
        # What each heavy project gets of the time, where it gives way.
        self._share = 1.0

    @property
    def is_needed(self) -> bool:
        """Whether some push much while others push little."""
        return self._share < 1

    def gives_way(self, project: str) -> bool:
        """Whether what the project pushes is to be taken in short pieces."""
        return self.is_needed and project in self._heavy

    def rest(self, project: str, seconds: float, now: float) -> float:
        """Something of a project that gives way took so long; how long what comes next is to wait."""
        self._heavy[project] = now + HEAVY_FOR
        return min(PAUSE_MAX, seconds * (1 / self._share - 1))

    def spend(self, project: str, frames: float, size: int, now: float) -> float:
        """So many frames of the project came, of so many bytes; how long it is to pause."""
        seconds = frames * FRAME_COST + size * BYTE_COST
        if now - self._began >= WINDOW:
            self._next_window(now)
        used = self._used[project] = self._used.get(project, 0.0) + seconds
        if used > HEAVY_SHARE * WINDOW:
            self._heavy[project] = now + HEAVY_FOR
        elif project not in self._heavy:
            self._light_until = now + LIGHT_FOR
        is_needed = bool(self._heavy) and now < self._light_until
        self._share = HEAVY_TOTAL / len(self._heavy) if is_needed else 1.0
        if not self.gives_way(project):
            return 0.0
        run = self._run[project] = self._run.get(project, 0.0) + seconds
        return 0.0 if run < SPRINT else self.rest(project, self._run.pop(project), now)

    def _next_window(self, now: float) -> None:
        # Who gives way takes less for that alone: it is heavy until that held it back no more.
        self._heavy = {project: until for project, until in self._heavy.items() if until > now}
        self._began, self._used, self._run = now, {}, {}
