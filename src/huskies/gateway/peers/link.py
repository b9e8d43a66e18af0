"""One connection to another gateway: the shell around `protocol.peer`, on a WebSocket and the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import aiohttp

from huskies import limits
from huskies.errors import StoreError
from huskies.events.model import RelayedEvent
from huskies.gateway.board_store import KeptBoard
from huskies.gateway.peers.asking import Questions
from huskies.gateway.peers.bases import Bases
from huskies.gateway.peers.holders import Sent
from huskies.gateway.peers.incoming import Incoming
from huskies.gateway.peers.mending import Fetches, answer
from huskies.gateway.peers.news import News
from huskies.gateway.peers.outgoing import Outgoing
from huskies.gateway.peers.walk import Walk
from huskies.protocol import peer_wire as wire
from huskies.protocol.effects import End, Ping, Send
from huskies.protocol.gateway import Elsewhere
from huskies.protocol.peer import (
    Acknowledged,
    AdoptBase,
    AllAnnounced,
    Announced,
    AnswerAsk,
    Greeted,
    PeerEffect,
    PeerSession,
    SendAgain,
    SendFetched,
    TakeAnswer,
    TakeBoard,
    TakeFetched,
    TakePresence,
    TakeRuns,
)
from huskies.protocol.vectors import Origin
from huskies.protocol.wire import CLOSE_GOING_AWAY, CLOSE_POLICY, CLOSE_UNSUPPORTED, INVALID
from huskies.sockets import Socket, clean, close_socket, first_of

if TYPE_CHECKING:
    from huskies.gateway.peers.peers import Peers

_log = logging.getLogger("huskies.peers")

_TICK: Final = 1.0
_CHECKS_AT_ONCE: Final = 200


class PeerLink:
    """Exchanges what is missing with one other gateway, until the connection ends."""

    def __init__(self, peers: Peers, socket: Socket, core: PeerSession, *, dialed: bool) -> None:
        self.dialed = dialed
        # The id of the token by which it was let in, if by one.
        self.token: str | None = None
        self.core = core
        self.open = self.was_open = False
        self._peers = peers
        self._socket = socket
        self._out = Outgoing()
        self._incoming = Incoming(
            peers.log,
            self._out,
            held=lambda held: peers.holders.note(self.peer_id, held),
            settled=lambda frame: self._carry_out_now(core.settled(frame)),
            gap=lambda seq: self.end(INVALID, f"seq {seq} of a sequence was expected next"),
            rescan=self._rescan,
            ask_again=lambda number: self._say(wire.Again(number=number)),
        )
        self.bases = Bases(
            peers.log,
            self._incoming,
            peers.waits,
            others=lambda: peers.others(self),
            ask_again=lambda number: self._say(wire.Again(number=number)),
            say=lambda *held: self._say(wire.Sequences(sequences=[self._out.announcement(*held)])),
        )
        self._fetches = Fetches(self._say)
        self._questions = Questions(self._say)
        self._answering: set[asyncio.Task[None]] = set()
        self._sent = Sent()
        self._outgoing: deque[Send | Ping] = deque()
        self._wake = asyncio.Event()
        self._all_said = asyncio.Event()
        self.ended = asyncio.Event()
        self._walk = Walk(peers, core, self._out, self._sent, self._put)
        self._frame_size = 0
        # How far the other gateway held what this one lacked when the connection began.
        self._awaited: dict[Origin, int] = {}
        self._news = News(peers.log.sequences)
        self._began = asyncio.get_running_loop().time()
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    @property
    def peer_id(self) -> str:
        """The other gateway's id; empty until it is proven."""
        return self.core.peer_id

    @property
    def unsent(self) -> int:
        """How many events of the log have not been looked at for this gateway yet."""
        return self._walk.unsent

    def has_caught_up(self) -> bool:
        """Whether everything that the other gateway held when the connection began is here."""
        sequences = self._peers.log.sequences
        for origin, seq in list(self._awaited.items()):
            stream = sequences.live(origin)
            if stream is None or stream.last_seq < seq:
                return False
            del self._awaited[origin]
        return self.was_open

    def has_yet_to_send(self, origin: Origin) -> bool:
        """Whether the other gateway said that it holds more of the sequence than this log does."""
        stream = self._peers.log.sequences.live(origin)
        return self._awaited.get(origin, 0) > (0 if stream is None else stream.last_seq)

    def progress(self) -> object:
        """Changes as what the other gateway held when the connection began comes."""
        return self._began, self._incoming.replayed_runs

    async def run(self) -> str:
        """Until the connection ends; says why."""
        self._carry_out_now(self.core.start())
        try:
            reason = await first_of(
                self._read(), self._write(), self._walk.go(), self._tick(), self._until_end()
            )
        finally:
            self.open = False
            if self.core.was_too_much:
                self._peers.slow.add(self.peer_id)
            self._questions.give_up()
            for task in self._answering:
                task.cancel()
            end = self._end.result() if self._end.done() else End(CLOSE_GOING_AWAY, "")
            await close_socket(self._socket, end.close_code, end.reason)
        # What the other side said before it closed says more than that it did.
        return clean(end.reason or reason)

    def end(self, code: str, reason: str, close_code: int = CLOSE_POLICY) -> None:
        """End the connection and say why."""
        self._carry_out_now(self.core.refuse(code, reason, close_code))

    def say_presence(self, presence: wire.Presence) -> None:
        """Tell the other gateway who is connected somewhere."""
        if self.open:
            self._say(presence)

    def _put(self, frame: Send) -> None:
        self._outgoing.append(frame)
        self._wake.set()

    def _say(self, frame: wire.Frame) -> None:
        self._carry_out_now([Send(wire.encode(frame))])

    def board_changed(self, board: KeptBoard) -> None:
        """A project's board was corrected by its sled: the other gateway hears of it."""
        if self.open:
            self._walk.add_boards([board])

    # --- what comes --------------------------------------------------------------------------------

    async def _read(self) -> str:
        now = asyncio.get_running_loop().time
        while True:
            message = await self._socket.receive()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    self._frame_size = len(message.data)
                    for effect in self.core.receive(message.data, now()):
                        await self._carry_out(effect)
                    self._walk.room_was_made()
                    if self._peers.log.crowded:
                        await self._peers.log.room()
                case aiohttp.WSMsgType.PING:
                    self.core.heard(now())
                    await self._socket.pong(message.data)
                case aiohttp.WSMsgType.PONG:
                    self.core.heard(now())
                case aiohttp.WSMsgType.BINARY:
                    self._end_with(End(CLOSE_UNSUPPORTED, "frames are JSON text"))
                case _:
                    return "the connection ended"

    async def _carry_out(self, effect: PeerEffect) -> None:
        match effect:
            case Greeted():
                await self._greeted()
            case Announced(sequences):
                for start in range(0, len(sequences), _CHECKS_AT_ONCE):
                    await self._announced(sequences[start : start + _CHECKS_AT_ONCE])
            case AllAnnounced():
                await self._opened()
            case AdoptBase(base):
                await self.bases.take(base, asyncio.get_running_loop().time())
            case TakeBoard(board):
                await self._take_board(board)
            case SendFetched() | TakeFetched() | AnswerAsk() | TakeAnswer():
                await self._serve(effect)
            case _:
                self._carry_out_now([effect])

    async def _serve(self, request: SendFetched | TakeFetched | AnswerAsk | TakeAnswer) -> None:
        """What one gateway asks of another, and what it says to that."""
        match request:
            case SendFetched(fetch):
                self._say(await answer(self._peers.log, fetch))
            case TakeFetched(fetched):
                self._fetches.take(fetched)
            case AnswerAsk(ask):
                self._begin_to_answer(ask)
            case TakeAnswer(answered):
                self._questions.take(answered)

    def _carry_out_now(self, effects: Iterable[PeerEffect]) -> None:
        for effect in effects:
            match effect:
                case Send() | Ping():
                    self._outgoing.append(effect)
                case End():
                    self._end_with(effect)
                case TakeRuns(runs):
                    self._incoming.take(runs, self._frame_size)
                case Acknowledged(frame):
                    self._acknowledged(frame)
                case SendAgain(number):
                    self._send_again(number)
                case TakePresence(presence):
                    self._peers.take_presence(presence, self)
                case _:
                    raise AssertionError("this effect waits; see _carry_out")
        self._wake.set()

    async def _greeted(self) -> None:
        if (problem := self._peers.admit(self)) is not None:
            self.end(*problem)
            return
        self._peers.holders.connected(self.peer_id)
        if self.peer_id in self._peers.slow:
            self._out.frame_bytes = limits.PEER_FRAME_BYTES_SLOW
        news = self._peers.log.sequences.news
        standing = await self._peers.log.standing()
        self._news.said([each.stream for each in standing], news)
        self._carry_out_now(self.core.announce(self._out.announcement(*each) for each in standing))

    async def _announced(self, sequences: Sequence[wire.Sequence]) -> None:
        held: dict[Origin, int] = {}
        # What lies beyond could not be compared; it counts once it came and continued what is held here.
        lives = [self._peers.log.sequences.live((each.sled_id.lower(), each.epoch)) for each in sequences]
        before = {live.origin: live.last_seq for live in lives if live is not None}
        for known in await self._peers.log.compare(sequences):
            theirs, origin = known.theirs, known.stream.origin
            self._incoming.name(theirs.number, known.stream, theirs.last_seq)
            if known.agrees:
                self._out.they_have(origin, theirs.last_seq, theirs.digest, known.stream.id)
                if 0 < theirs.last_seq <= before.get(origin, 0):
                    held[origin] = theirs.last_seq
                    self._sent.heard(origin)
            else:
                self._incoming.diverged(known.stream)
            if not self.open and theirs.last_seq > known.stream.last_seq:
                self._awaited[known.stream.origin] = theirs.last_seq
        self._peers.holders.note(self.peer_id, held)

    async def _opened(self) -> None:
        boards = await self._peers.boards.load()
        self.open = self.was_open = True
        self._walk.add_boards(boards)
        self._peers.greet(self)
        self._wake.set()
        _log.info("connected to a gateway", extra={"peer": self.peer_id})

    def _acknowledged(self, frame: int) -> None:
        if not self.unsent and not self.core.unacked_bytes:
            # It got through: the next connection may try more again.
            self._peers.slow.discard(self.peer_id)
        held = self._sent.acknowledged(frame)
        # What is of a history that lost is acknowledged, and not held.
        held = {origin: seq for origin, seq in held.items() if not self._incoming.is_settling(origin)}
        self._peers.holders.note(self.peer_id, held)

    def _send_again(self, number: int) -> None:
        origin = self._out.origin(number)
        if origin is None:
            self.end(INVALID, "a sequence was asked for that was not named")
            return
        self._sent.again(origin)
        self._rescan(origin, 0, 0)

    async def _take_board(self, board: wire.Board) -> None:
        stream = self._incoming.stream(board.number)
        # Behind the events that came before it.
        await self._peers.log.call(lambda _: None)
        stream = self._peers.log.sequences.live(stream.origin) or stream
        self._peers.boards.merge(KeptBoard(stream, board.seq, board.received_ms, board.stories))

    async def fetch(self, origin: Origin, first_seq: int, last_seq: int) -> list[RelayedEvent]:
        """These events as the other gateway holds them, or none."""
        return await self._fetches.fetch(origin, first_seq, last_seq)

    async def ask(self, origin: Origin, asked: Collection[str]) -> Elsewhere:
        """How far the other gateway, and those behind it that are not `asked` already, hold an epoch."""
        return await self._questions.ask(origin, asked)

    def _begin_to_answer(self, ask: wire.Ask) -> None:
        """Others are asked for the answer: meanwhile this connection goes on."""
        if len(self._answering) >= limits.ASKS_AT_ONCE:
            # Whoever asks so much at once asks again.
            self._say(wire.Answer(number=ask.number, last_seq=0, complete=False))
            return
        task = asyncio.create_task(self._answer(ask))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, ask: wire.Ask) -> None:
        # A log that cannot be read ends the gateway.
        with contextlib.suppress(StoreError):
            self._say(await self._peers.answer(ask))

    def rescan(self) -> None:
        """Something that could not be sent may be there now: look through the log again."""
        self._walk.begin_anew()

    def _rescan(self, origin: Origin, seq: int, digest: int) -> None:
        self._out.they_have_only(origin, seq, digest)
        self._walk.begin_anew()

    # --- what goes ---------------------------------------------------------------------------------

    async def _write(self) -> str:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._write_on()
        # What came before the connection broke says why, and is still to be read.
        await asyncio.Event().wait()
        return "the connection is lost"

    async def _write_on(self) -> None:
        while True:
            self._wake.clear()
            while self._outgoing:
                match self._outgoing.popleft():
                    case Send(data):
                        await self._socket.send_frame(data, aiohttp.WSMsgType.TEXT)
                    case Ping():
                        await self._socket.ping()
            if self._end.done():
                self._all_said.set()
            await self._wake.wait()

    # --- time --------------------------------------------------------------------------------------

    async def _tick(self) -> str:
        while True:
            await asyncio.sleep(_TICK)
            now = asyncio.get_running_loop().time()
            self._carry_out_now(self.core.tick(now))
            await self.bases.look_again(now)
            if self.open and self._news.is_any:
                said = [self._out.announcement(stream) for stream in self._news.take()]
                self._say(wire.Sequences(sequences=said))

    async def _until_end(self) -> str:
        """Until the end, and until what was to be said before it is said, if that goes quickly."""
        end = await asyncio.shield(self._end)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.CLOSE_LIMIT):
                await self._all_said.wait()
        return end.reason

    def _end_with(self, end: End) -> None:
        if not self._end.done():
            self._end.set_result(end)
            self._wake.set()
