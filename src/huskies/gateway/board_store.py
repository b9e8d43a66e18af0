"""Boards as sleds say them in snapshots: the newest of each project, kept beside the log (SPEC 5, rule 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from huskies.gateway.fleet import Fleet
from huskies.gateway.standing import Snapshot, Story
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log
from huskies.protocol.peer_wire import BoardStory
from huskies.protocol.wire import SnapshotStory

_decoder = msgspec.json.Decoder(list[BoardStory])
# No clock says so much; what is added to it still fits into the log's file.
_RECEIVED_MS_MAX: Final = 2**62


class Board(msgspec.Struct, frozen=True):
    """Where all of a project's stories stood as of `seq` of a stream.

    `received_ms`: when the first gateway received it; `position`: where the log ended when this one did.
    """

    stream: Stream
    seq: int
    received_ms: int
    stories: Sequence[SnapshotStory]
    position: int = 0


class KeptBoard(Board, frozen=True):
    """A board with all that is known since when, as gateways keep it and pass it on."""

    stories: Sequence[BoardStory]


class BoardStore:
    """Corrects the fleet by boards, whoever brings them, and tells `listeners` of each that was news."""

    def __init__(self, log: Log, fleet: Fleet) -> None:
        self._log = log
        self._fleet = fleet
        self.listeners: list[Callable[[KeptBoard], None]] = []

    async def load(self) -> list[KeptBoard]:
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
            boards.append(KeptBoard(stream, seq, received_ms, _decoder.decode(stories), position))
        return boards

    def correct(self, board: Board) -> None:
        """A sled says so, now: it counts rather than all that is known, whatever the clocks say."""
        project = self._fleet.project(board.stream.project)
        received_ms = max(board.received_ms, project.newest_ms() + 1)
        before = project.stories()
        stories = [_with_times(said, before.get(said.story_id), board.received_ms) for said in board.stories]
        self._take(KeptBoard(board.stream, board.seq, received_ms, stories))

    def merge(self, board: KeptBoard) -> None:
        """Another gateway says so: it counts if it is newer than what is known, and not forgotten."""
        forgotten = self._log.sequences.forgotten(board.stream.origin)
        if board.received_ms <= _RECEIVED_MS_MAX and (forgotten is None or board.seq > forgotten):
            self._take(board)

    def _take(self, board: KeptBoard) -> None:
        project = board.stream.project
        snapshot = snapshot_of(board.stream, board.seq, board.received_ms, board.stories)
        if not self._fleet.apply_snapshot(project, snapshot):
            return
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


def snapshot_of(stream: Stream, seq: int, received_ms: int, stories: Sequence[SnapshotStory]) -> Snapshot:
    """What the fleet keeps of a board. What it does not say since when is so since it was received."""
    told = (_with_times(story, None, received_ms) for story in stories)
    return Snapshot(
        stream.sled_id,
        stream.epoch,
        seq,
        received_ms,
        {
            story.story_id: Story(
                story.story_name,
                story.stage,
                story.since_ms,
                story.blocked,
                story.blocked_since_ms,
                story.merge_failure,
                story.merge_failure_since_ms,
            )
            for story in told
        },
    )


def _with_times(said: SnapshotStory, before: Story | None, now_ms: int) -> BoardStory:
    """Since when it is so, where that is not said: what stands as it stood before has done so since then.

    It is said with the board from then on, for every gateway shows the same.
    """
    before = before or Story()
    blocked_ms = said.blocked_since_ms if isinstance(said, BoardStory) else None
    failed_ms = said.merge_failure_since_ms if isinstance(said, BoardStory) else None
    return BoardStory(
        story_id=said.story_id,
        story_name=said.story_name,
        stage=said.stage,
        since_ms=_since(said.since_ms, said.stage, before.stage, before.since_ms, now_ms),
        blocked=said.blocked,
        blocked_since_ms=_since(blocked_ms, said.blocked, before.blocked, before.blocked_since_ms, now_ms),
        merge_failure=said.merge_failure,
        merge_failure_since_ms=_since(
            failed_ms, said.merge_failure, before.merge_failure, before.merge_failure_since_ms, now_ms
        ),
    )


def _since(
    said_ms: int | None, value: str | None, before: str | None, before_ms: int | None, now_ms: int
) -> int | None:
    if said_ms is not None or value is None:
        return said_ms
    return before_ms if value == before and before_ms is not None else now_ms
