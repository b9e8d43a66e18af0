"""One side of a connection between two gateways: decides, and touches nothing.

It greets, proves and verifies identities, checks what comes, numbers what is sent, and notices silence. What
is held and lacking is known to the shell, which owns the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from huskies import limits
from huskies.events.words import problem_in_words
from huskies.protocol import peer_wire as wire
from huskies.protocol.effects import End, Ping, Send
from huskies.protocol.wire import CLOSE_POLICY, INVALID, UNAUTHORIZED

_SEQUENCES_A_FRAME: Final = 1_000


class Greeted(msgspec.Struct, frozen=True):
    """The other side is who it says: check that it may replicate, then `announce`."""

    gateway_id: str


class Announced(msgspec.Struct, frozen=True):
    """The other side holds these sequences."""

    sequences: list[wire.Sequence]


class AllAnnounced(msgspec.Struct, frozen=True):
    """The other side has named everything that it held when the connection began."""


class TakeRuns(msgspec.Struct, frozen=True):
    """Append these; once that is settled, call `settled`."""

    runs: wire.Runs


class AdoptBase(msgspec.Struct, frozen=True):
    """What comes before `base.seq` will not come."""

    base: wire.Base


class SendAgain(msgspec.Struct, frozen=True):
    """The other side holds another branch of this sequence of ours."""

    number: int


class TakeBoard(msgspec.Struct, frozen=True):
    """The board of a project corrects ours, if it is newer."""

    board: wire.Board


class Acknowledged(msgspec.Struct, frozen=True):
    """The other side holds everything that was sent up to this frame."""

    frame: int


class SendFetched(msgspec.Struct, frozen=True):
    """The other side's log is damaged: send it these events, if all of them are held."""

    fetch: wire.Fetch


class TakeFetched(msgspec.Struct, frozen=True):
    """Events that this side asked for."""

    fetched: wire.Fetched


class AnswerAsk(msgspec.Struct, frozen=True):
    """The other side wants to know how far an epoch is held."""

    ask: wire.Ask


class TakeAnswer(msgspec.Struct, frozen=True):
    """What the other side says to a question of this side."""

    answer: wire.Answer


class TakePresence(msgspec.Struct, frozen=True):
    """A gateway's sleds, as it says itself or another passes on."""

    presence: wire.Presence


PeerEffect: TypeAlias = (
    Send
    | Ping
    | End
    | Greeted
    | Announced
    | AllAnnounced
    | TakeRuns
    | AdoptBase
    | SendAgain
    | TakeBoard
    | TakePresence
    | SendFetched
    | TakeFetched
    | AnswerAsk
    | TakeAnswer
    | Acknowledged
)


class _State(Enum):
    AWAIT_HELLO = auto()
    AWAIT_PROOF = auto()
    GREETED = auto()
    OPEN = auto()
    OVER = auto()


class PeerSession:
    """One connection; `sign` makes this gateway's Ed25519 signature, `now` is monotonic seconds."""

    def __init__(
        self,
        *,
        gateway_id: str,
        nonce: str,
        sign: Callable[[bytes], bytes],
        verify: Callable[[str, bytes, bytes], bool],
        now: float,
    ) -> None:
        self._gateway_id = gateway_id
        self._nonce = nonce
        self._sign = sign
        self._verify = verify
        self._state = _State.AWAIT_HELLO
        self._numbers: set[int] = set()
        self._received_frame = 0
        self._unacked: deque[tuple[int, int]] = deque()
        self._step_at = self._heard_at = self._pinged_at = self._progress_at = now
        self.sent_frame = 0
        self.unacked_bytes = 0
        self.peer_id = ""
        # What was sent was not acknowledged in time: perhaps the network takes no more.
        self.was_too_much = False

    def start(self) -> list[PeerEffect]:
        """The connection stands."""
        return [Send(wire.encode(wire.Hello(gateway_id=self._gateway_id, nonce=self._nonce)))]

    @property
    def may_send(self) -> bool:
        """Whether what is sent and not acknowledged leaves room for more."""
        return self._state is _State.OPEN and self.unacked_bytes < limits.PEER_IN_FLIGHT_BYTES

    # --- what came ---------------------------------------------------------------------------------

    def receive(self, data: bytes | str, now: float) -> list[PeerEffect]:
        """A text frame came."""
        self._heard_at = now
        if self._state is _State.OVER:
            return []
        try:
            frame = wire.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return self.refuse(INVALID, f"a frame is not one of this protocol: {problem_in_words(error)}")
        if isinstance(frame, wire.Refused):
            return self._end(f"the other gateway refused: {frame.code}: {frame.reason}")
        if self._state in (_State.AWAIT_HELLO, _State.AWAIT_PROOF):
            return self._greet(frame, now)
        return self._exchange(frame, now)

    def heard(self, now: float) -> None:
        """A ping or pong came."""
        self._heard_at = now

    def tick(self, now: float) -> list[PeerEffect]:
        """Time passed; call it about once a second."""
        if self._state is _State.OVER:
            return []
        greeting = self._state in (_State.AWAIT_HELLO, _State.AWAIT_PROOF)
        if greeting and now - self._step_at > limits.GREETING_LIMIT:
            return self._end("the other gateway did not go on with the greeting")
        if now - self._heard_at > limits.SILENCE_LIMIT:
            return self._end("the other gateway has gone silent")
        if self._unacked and now - self._progress_at > limits.ACK_LIMIT:
            self.was_too_much = True
            return self._end("the other gateway acknowledges nothing")
        if now - self._pinged_at >= limits.PING_INTERVAL:
            self._pinged_at = now
            return [Ping()]
        return []

    # --- what is sent ------------------------------------------------------------------------------

    def announce(self, sequences: Iterable[wire.Sequence]) -> Iterator[PeerEffect]:
        """Name everything that is held here."""
        left = iter(sequences)
        while some := list(islice(left, _SEQUENCES_A_FRAME)):
            yield Send(wire.encode(wire.Sequences(sequences=some)))
        yield Send(wire.encode(wire.Ready()))

    def send_runs(self, runs: list[wire.SentRun], events_json: bytes, now: float) -> Send:
        """The frame that sends these."""
        self.sent_frame += 1
        frame = wire.encode_runs(self.sent_frame, runs, events_json)
        if not self._unacked:
            self._progress_at = now
        self._unacked.append((self.sent_frame, len(frame)))
        self.unacked_bytes += len(frame)
        return Send(frame)

    def settled(self, frame: int) -> list[PeerEffect]:
        """Everything that came up to this frame is committed, or known not to be wanted."""
        return [] if self._state is _State.OVER else [Send(wire.encode(wire.Ack(frame=frame)))]

    def refuse(self, code: str, reason: str, close_code: int = CLOSE_POLICY) -> list[PeerEffect]:
        """End the connection and say why."""
        if self._state is _State.OVER:
            return []
        self._state = _State.OVER
        said = Send(wire.encode(wire.Refused(code=code, reason=reason)))
        return [said, End(close_code, f"{code}: {reason}")]

    # --- steps -------------------------------------------------------------------------------------

    def _greet(self, frame: wire.Frame, now: float) -> list[PeerEffect]:
        match frame:
            case wire.Hello() if self._state is _State.AWAIT_HELLO:
                return self._on_hello(frame, now)
            case wire.Proof() if self._state is _State.AWAIT_PROOF:
                text = wire.signed_text(prover=self.peer_id, verifier=self._gateway_id, nonce=self._nonce)
                if not self._verify(self.peer_id, bytes.fromhex(frame.signature), text):
                    return self.refuse(UNAUTHORIZED, "the signature does not match the gateway_id")
                self._state = _State.GREETED
                return [Greeted(self.peer_id)]
            case _:
                return self.refuse(INVALID, "a frame came out of turn")

    def _on_hello(self, hello: wire.Hello, now: float) -> list[PeerEffect]:
        self.peer_id = hello.gateway_id.lower()
        if self.peer_id == self._gateway_id:
            reason = "that gateway has this one's own identity: it is this one, or a copy of its directory"
            return self.refuse(UNAUTHORIZED, reason)
        self._state = _State.AWAIT_PROOF
        self._step_at = now
        text = wire.signed_text(prover=self._gateway_id, verifier=self.peer_id, nonce=hello.nonce)
        return [Send(wire.encode(wire.Proof(signature=self._sign(text).hex())))]

    def _exchange(self, frame: wire.Frame, now: float) -> list[PeerEffect]:  # noqa: PLR0911 - one a frame
        match frame:
            case wire.Sequences():
                self._numbers.update(sequence.number for sequence in frame.sequences)
                return [Announced(frame.sequences)]
            case wire.Ready() if self._state is _State.GREETED:
                self._state = _State.OPEN
                return [AllAnnounced()]
            case wire.Runs() if self._state is _State.OPEN:
                return self._on_runs(frame)
            case wire.Ack() if self._state is _State.OPEN:
                return self._on_ack(frame.frame, now)
            case wire.Base() if self._state is _State.OPEN and frame.number in self._numbers:
                return [AdoptBase(frame)]
            case wire.Board() if self._state is _State.OPEN and frame.number in self._numbers:
                return [TakeBoard(frame)]
            case _:
                return self._exchange_more(frame)

    def _exchange_more(self, frame: wire.Frame) -> list[PeerEffect]:  # noqa: PLR0911 - one a frame
        match frame:
            case wire.Again():
                return [SendAgain(frame.number)]
            case wire.Presence() if self._state is _State.OPEN:
                return [TakePresence(frame)]
            case wire.Fetch() if frame.last_seq - frame.first_seq < limits.FETCH_EVENTS_MAX:
                return [SendFetched(frame)]
            case wire.Fetched():
                return [TakeFetched(frame)]
            case wire.Ask():
                return [AnswerAsk(frame)]
            case wire.Answer():
                return [TakeAnswer(frame)]
            case _:
                return self.refuse(INVALID, "a frame came out of turn")

    def _on_runs(self, frame: wire.Runs) -> list[PeerEffect]:
        if frame.frame != self._received_frame + 1:
            return self.refuse(INVALID, f"frame {self._received_frame + 1} was expected next")
        if sum(run.count for run in frame.runs) != len(frame.events) or not frame.runs:
            return self.refuse(INVALID, "the runs of a frame do not add up to its events")
        if any(run.number not in self._numbers for run in frame.runs):
            return self.refuse(INVALID, "a run is of a sequence that was not named")
        self._received_frame = frame.frame
        return [TakeRuns(frame)]

    def _on_ack(self, frame: int, now: float) -> list[PeerEffect]:
        if frame > self.sent_frame:
            return self.refuse(INVALID, "a frame was acknowledged that was not sent")
        while self._unacked and self._unacked[0][0] <= frame:
            self.unacked_bytes -= self._unacked.popleft()[1]
            self._progress_at = now
        return [Acknowledged(frame)]

    def _end(self, reason: str) -> list[PeerEffect]:
        self._state = _State.OVER
        return [End(CLOSE_POLICY, reason)]
