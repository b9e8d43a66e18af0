"""Walking the log from its beginning to its live end, and sending another gateway what it lacks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from huskies.gateway.board_store import KeptBoard
from huskies.gateway.peers.holders import Sent
from huskies.gateway.peers.outgoing import Outgo, Outgoing, RunsOut
from huskies.gateway.store.blocks import Run
from huskies.protocol import peer_wire as wire
from huskies.protocol.effects import Send
from huskies.protocol.peer import PeerSession

if TYPE_CHECKING:
    from huskies.gateway.peers.peers import Peers

# What is read from the log at a time, and how long nothing new is waited for (s).
_CHUNK_EVENTS: Final = 5_000
_LOOK_AGAIN: Final = 1.0


class Walk:
    """One connection's way through the log; `put` takes what is to be sent.

    `out` knows what the other gateway has, `core` numbers frames and says whether there is room for more, and
    `sent` remembers what is not acknowledged.
    """

    def __init__(
        self, peers: Peers, core: PeerSession, out: Outgoing, sent: Sent, put: Callable[[Send], None]
    ) -> None:
        self._peers = peers
        self._core = core
        self._out = out
        self._sent = sent
        self._put = put
        self._room = asyncio.Event()
        self._position = 0
        # Counts how often the log is walked from its beginning.
        self._walks = 0
        # As of which walk and which drops the bases were said.
        self._bases_said = (-1, 0)
        self._boards: deque[KeptBoard] = deque()

    @property
    def unsent(self) -> int:
        """How many events of the log have not been looked at yet."""
        return self._peers.feed.head.position - self._position

    def begin_anew(self) -> None:
        """Look through the log again: something is to be sent that was not, or could not be."""
        self._position = 0
        self._walks += 1

    def room_was_made(self) -> None:
        """The other gateway acknowledged something, perhaps."""
        if self._core.may_send:
            self._room.set()

    def add_boards(self, boards: Iterable[KeptBoard]) -> None:
        """Send these boards, once what they are as of was sent."""
        self._boards.extend(boards)

    async def go(self) -> NoReturn:
        """For ever."""
        peers = self._peers
        while True:
            if not self._core.may_send:
                self._room.clear()
                await self._room.wait()
                continue
            self._send_boards()
            position, walk = self._position, self._walks
            blocks = peers.feed.recent(position)
            if blocks is None:
                blocks, reached = await peers.history.blocks_lacking(position, self._lacks, _CHUNK_EVENTS)
            elif blocks:
                reached = blocks[-1].last_position
            else:
                self._send_bases()
                await peers.feed.wait(None, _LOOK_AGAIN)
                continue
            # Meanwhile it may have been told to begin anew, also where it had only just begun.
            if self._walks == walk:
                self._position = reached
                self._send(self._out.frames(blocks, peers.log.streams))
            await asyncio.sleep(0)

    def _lacks(self, runs: Sequence[Run]) -> bool:
        streams = self._peers.log.streams
        # What is damaged may name a stream that there is not.
        return any(
            0 < run.stream_id < len(streams)
            and (stream := streams[run.stream_id]) is not None
            and self._out.lacks(run, stream)
            for run in runs
        )

    def _send_bases(self) -> None:
        """All that is retained was sent: say up to where nothing is, where that is all there is to say."""
        sequences = self._peers.log.sequences
        state = (self._walks, sequences.drops)
        if self._bases_said != state:
            self._bases_said = state
            self._send(self._out.bases(sequences.all_live()))

    def _send(self, frames: Iterable[Outgo]) -> None:
        now = asyncio.get_running_loop().time()
        for frame in frames:
            if isinstance(frame, RunsOut):
                self._put(self._core.send_runs(frame.runs, frame.events_json, now))
                self._sent.frame(self._core.sent_frame, self._out.ends(frame.runs))
                continue
            if isinstance(frame, wire.Base) and (origin := self._out.origin(frame.number)) is not None:
                self._sent.base(origin)
            self._put(Send(wire.encode(frame)))

    def _send_boards(self) -> None:
        """Send the boards that are as of what was sent."""
        while self._boards and self._boards[0].position <= self._position:
            board = self._boards.popleft()
            is_named = self._out.is_named(board.stream.origin)
            announcement = self._out.announcement(board.stream)
            if not is_named:
                self._put(Send(wire.encode(wire.Sequences(sequences=[announcement]))))
            frame = wire.Board(
                number=announcement.number,
                seq=board.seq,
                received_ms=board.received_ms,
                stories=list(board.stories),
            )
            self._put(Send(wire.encode(frame)))
