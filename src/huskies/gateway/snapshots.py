"""Snapshots as sleds say them, on their way to the boards: no more of them than a gateway has time for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from huskies import limits
from huskies.gateway.board_store import Board
from huskies.gateway.pace import Pace


class Snapshots:
    """Hands boards to `correct`: at once, and where a project's sleds say too many, the newest in its time.

    A board replaces the one before it, so nothing is lost of what one waits for.
    """

    def __init__(self, correct: Callable[[Board], None]) -> None:
        self._correct = correct
        self._pace = Pace(at_once=limits.SNAPSHOT_STORIES_AT_ONCE, a_second=limits.SNAPSHOT_STORIES_A_SECOND)
        self._waiting: dict[str, Board] = {}

    def take(self, board: Board) -> None:
        """A sled says so."""
        project, loop = board.stream.project, asyncio.get_running_loop()
        if project in self._waiting:
            self._waiting[project] = board
        elif wait := self._pace.wait(project, loop.time(), 1 + len(board.stories)):
            self._waiting[project] = board
            loop.call_later(wait, self._take_newest, project)
        else:
            self._correct(board)

    def drop(self, project: str) -> None:
        """What waits of a project is of no use any more."""
        self._waiting.pop(project, None)

    def flush(self) -> None:
        """Hand over what waits now."""
        while self._waiting:
            self._correct(self._waiting.popitem()[1])

    def _take_newest(self, project: str) -> None:
        board = self._waiting.pop(project, None)
        if board is not None:
            self.take(board)
