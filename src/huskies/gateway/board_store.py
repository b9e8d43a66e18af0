"""Boards as sleds say them in snapshots: the newest of each project, kept beside the log (SPEC 5, rule 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from huskies.gateway.fleet import Fleet
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log
from huskies.protocol.wire import SnapshotStory

_decoder = msgspec.json.Decoder(list[SnapshotStory])


class Board(msgspec.Struct, frozen=True):
    """Where all of a project's stories stood as of `seq` of a stream.

    `received_ms`: when the first gateway received it; `position`: where the log ended when this one did.
    """

    stream: Stream
    seq: int
    received_ms: int
    stories: Sequence[SnapshotStory]
    position: int = 0


class _Rank(msgspec.Struct, frozen=True):
    origin: tuple[str, str]
    seq: int
    received_ms: int


class BoardStore:
    """Corrects the fleet by boards, whoever brings them, and tells `listeners` of each that was news."""

    def __init__(self, log: Log, fleet: Fleet) -> None:
        self._log = log
        self._fleet = fleet
        self._newest: dict[str, _Rank] = {}
        self.listeners: list[Callable[[Board], None]] = []

    async def load(self) -> list[Board]:
        """The boards that are kept."""
        rows = await self._log.call(
            lambda db: db.execute(
                "SELECT stream_id, seq, received_ms, stories, position FROM snapshots"
            ).fetchall()
        )
        boards = []
        for stream_id, seq, received_ms, stories, position in rows:
            stream = self._log.streams[stream_id]
            assert stream is not None  # noqa: S101 - a stream is registered before its first board
            boards.append(Board(stream, seq, received_ms, _decoder.decode(stories), position))
            self._newest[stream.project] = _Rank(stream.origin, seq, received_ms)
        return boards

    def correct(self, board: Board) -> None:
        """A sled says so."""
        project = board.stream.project
        self._newest[project] = _Rank(board.stream.origin, board.seq, board.received_ms)
        self._fleet.apply_snapshot(project, board.stream.id, board.seq, board.stories, board.received_ms)
        board = msgspec.structs.replace(board, position=self._fleet.position)
        values = (project, board.stream.id, board.seq, board.position, board.received_ms)
        stories = msgspec.json.encode(board.stories)
        self._log.later(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", (*values, stories)
            )
        )
        for listener in self.listeners:
            listener(board)

    def merge(self, board: Board) -> None:
        """Another gateway says so: it counts if it is newer than what is known."""
        known = self._newest.get(board.stream.project)
        if known is None or _is_newer(board, known):
            self.correct(board)


def _is_newer(board: Board, known: _Rank) -> bool:
    if board.stream.origin == known.origin:
        return (board.seq, board.received_ms) > (known.seq, known.received_ms)
    return board.received_ms > known.received_ms
