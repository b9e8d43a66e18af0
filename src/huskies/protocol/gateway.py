"""The gateway's side of one `huskies.relay.v2` session: decides, and touches nothing.

A shell feeds it what happened together with the time (monotonic seconds) and carries out the effects it gets
back in order. Contiguity is not checked here but where commits are serialised (`protocol.contiguity`); the
outcome comes back through `committed`, `gap` or `conflict`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

import msgspec

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.events import codec
from huskies.events.words import problem_in_words
from huskies.protocol import wire
from huskies.protocol.effects import (
    Admit,
    Append,
    ApplySnapshot,
    AskOthers,
    End,
    GatewayEffect,
    Ping,
    Send,
)


class _State(Enum):
    AWAIT_HELLO = auto()
    ADMITTING = auto()
    OPEN = auto()
    DOOMED = auto()
    OVER = auto()


class Elsewhere(msgspec.Struct, frozen=True):
    """How far other gateways hold an epoch; `complete`: all that may hold something of it said so.

    `asked` are those that did.
    """

    last_seq: int
    complete: bool
    asked: frozenset[str] = frozenset()


class _EventsShape(msgspec.Struct, tag="events"):
    first_seq: wire.FirstSeq
    events: msgspec.Raw


_events_shape = msgspec.json.Decoder(_EventsShape)


class GatewaySession:
    """One session of the project that the query and the join token agreed on.

    `verify(public_key_hex, signature, text)` says whether the Ed25519 signature holds, `sign` makes the
    gateway's own (64 bytes).
    """

    def __init__(
        self,
        *,
        project: str,
        gateway_id: str,
        nonce: str,
        verify: Callable[[str, bytes, bytes], bool],
        sign: Callable[[bytes], bytes],
        now: float,
    ) -> None:
        self._project = project
        self._gateway_id = gateway_id
        self._nonce = nonce
        self._verify = verify
        self._sign_text = sign
        self._state = _State.AWAIT_HELLO
        self._step_at = now
        self._heard_at = now
        self._pinged_at = now
        self._unsettled = 0
        # What was sent behind a gap or conflict is part of another history: it is never acknowledged.
        self._refused_by_log = False
        self._last_words: list[GatewayEffect] = []
        self.received_seq = 0
        self.committed_seq = 0
        self.replayed_through = 0
        self._oldest = 1
        # How many gateways are to hold this sled's events; what is held so far is told with its acks.
        self.copies = 1
        self._held_seq = 0
        self._acked_seq = 0

    def start(self) -> list[GatewayEffect]:
        """The upgrade was accepted."""
        text = wire.challenge_text(gateway_id=self._gateway_id, nonce=self._nonce, project=self._project)
        challenge = wire.Challenge(
            gateway_id=self._gateway_id, nonce=self._nonce, signature=self._sign_text(text).hex()
        )
        return [Send(wire.encode(challenge))]

    # --- what came from the sled -------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[GatewayEffect]:  # noqa: PLR0911 - one a frame
        """A text frame came."""
        self._heard_at = now
        if self._state in (_State.DOOMED, _State.OVER):
            return []
        if len(data) > limits.FRAME_BYTES_MAX:
            return self._end(wire.CLOSE_TOO_BIG, "a frame is larger than 1 MiB")
        try:
            frame = wire.decode_from_sled(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return self._undecodable(data, problem_in_words(error))
        match frame:
            case wire.Events() if self._state is _State.OPEN:
                return self._on_events(frame)
            case wire.Hello() if self._state is _State.AWAIT_HELLO:
                return self._on_hello(frame, now)
            case wire.Snapshot() if self._state is _State.OPEN:
                return [ApplySnapshot(frame)]
            case _:
                return self._refuse(wire.INVALID, "a frame came out of turn")

    def heard(self, now: float) -> None:
        """A ping or pong came."""
        self._heard_at = now

    def tick(self, now: float) -> list[GatewayEffect]:
        """Time passed; call it about once a second."""
        if self._state is _State.OVER:
            return []
        if self._state is _State.AWAIT_HELLO and now - self._step_at > limits.GREETING_LIMIT:
            return self._end(wire.CLOSE_POLICY, "the sled did not go on with the greeting")
        if now - self._heard_at > limits.SILENCE_LIMIT:
            return self._end(wire.CLOSE_POLICY, "the sled has gone silent")
        if now - self._pinged_at >= limits.PING_INTERVAL:
            self._pinged_at = now
            return [Ping()]
        return []

    # --- what the gateway decided ------------------------------------------------------------------

    def admitted(self, last_seq: int) -> list[GatewayEffect]:
        """The older session is settled and the log holds `last_seq` of this epoch."""
        if self._state is not _State.ADMITTING:
            return []
        if self._is_behind(last_seq):
            # A welcome would make the sled begin a new history, and give what it still holds new names.
            return [AskOthers()]
        return self._welcome(last_seq)

    def told(self, last_seq: int, others: Elsewhere | None) -> list[GatewayEffect]:
        """What the other gateways hold of this epoch (None: there are none), and how far the log does now."""
        if self._state is not _State.ADMITTING:
            return []
        if others is None or not self._is_behind(last_seq):
            return self._welcome(last_seq)
        if others.last_seq > last_seq:
            reason = "another gateway holds more of this epoch, and has yet to send it"
        elif not others.complete:
            reason = "another gateway may hold more of this epoch, and cannot be asked now"
        else:
            return self._welcome(last_seq, asked=sorted({*others.asked, self._gateway_id}))
        return self._refuse(wire.GAP, reason, expected=last_seq + 1)

    def unauthorized(self, reason: str) -> list[GatewayEffect]:
        """The sled may not push for this project."""
        return self._refuse(wire.UNAUTHORIZED, reason)

    def committed(self, last_seq: int, batches: int) -> list[GatewayEffect]:
        """The log holds everything up to `last_seq`, the end of so many batches that were asked for."""
        self._unsettled -= batches
        self.committed_seq = max(self.committed_seq, last_seq)
        if self._state is _State.OVER or self._refused_by_log:
            return self._when_settled()
        self._acked_seq = max(self._acked_seq, last_seq)
        return [Send(wire.encode(wire.Ack(seq=last_seq))), *self._when_settled()]

    def held(self, seq: int) -> list[GatewayEffect]:
        """As many gateways as the sled asked for hold everything up to `seq`.

        Nothing more is acknowledged with it: what was held at the welcome has not been compared yet.
        """
        if self._state is not _State.OPEN or seq <= self._held_seq:
            return []
        self._held_seq = seq
        return [Send(wire.encode(wire.Ack(seq=self._acked_seq, held=seq)))]

    def gap(self, expected: int, batches: int) -> list[GatewayEffect]:
        """So many batches began beyond what may come next."""
        self._unsettled -= batches
        self._refused_by_log = True
        return self._refuse(wire.GAP, f"seq {expected} was expected next", expected=expected)

    def conflict(self, seq: int, batches: int) -> list[GatewayEffect]:
        """The log holds something else as `seq`, and the same as was sent for everything before it."""
        self._unsettled -= batches
        held: list[GatewayEffect] = []
        if self._state is not _State.OVER and not self._refused_by_log and seq > 1:
            held = [Send(wire.encode(wire.Ack(seq=seq - 1)))]
        self._refused_by_log = True
        return [*held, *self._refuse(wire.CONFLICT, f"seq {seq} is held with other content", seq=seq)]

    def over_quota(self, reason: str) -> list[GatewayEffect]:
        """There is no room for the batch that was to be appended last, nor for what comes behind it."""
        self._unsettled -= 1
        return self._refuse(wire.DRAINING, reason, close_code=wire.CLOSE_GOING_AWAY)

    def superseded(self) -> list[GatewayEffect]:
        """A newer session of the same sled begins."""
        return self._refuse(wire.SUPERSEDED, "a newer session of this sled has begun", settle=False)

    def draining(self) -> list[GatewayEffect]:
        """The gateway is about to stop."""
        return self._refuse(wire.DRAINING, "the gateway is stopping", close_code=wire.CLOSE_GOING_AWAY)

    # --- steps -------------------------------------------------------------------------------------

    def _is_behind(self, last_seq: int) -> bool:
        """Whether the log lacks what the sled no longer holds."""
        return last_seq + 1 < self._oldest and last_seq < self.replayed_through

    def _welcome(self, last_seq: int, *, asked: Sequence[str] = ()) -> list[GatewayEffect]:
        self._state = _State.OPEN
        self.received_seq = self.committed_seq = last_seq
        welcome = wire.Welcome(last_seq=last_seq, max_in_flight=limits.MAX_IN_FLIGHT, asked=list(asked))
        return [Send(wire.encode(welcome))]

    def _on_hello(self, hello: wire.Hello, now: float) -> list[GatewayEffect]:
        if hello.project != self._project:
            return self.unauthorized(f"the hello names {hello.project}, the connection {self._project}")
        text = wire.signed_text(
            gateway_id=self._gateway_id,
            nonce=self._nonce,
            project=hello.project,
            sled_id=hello.sled_id,
            epoch=hello.epoch,
        )
        if not self._verify(hello.sled_id, bytes.fromhex(hello.signature), text):
            return self.unauthorized("the signature does not match the sled_id")
        self._state = _State.ADMITTING
        self._step_at = now
        self.replayed_through = hello.last_seq
        self._oldest = hello.oldest
        self.copies = hello.copies
        return [Admit(hello)]

    def _on_events(self, frame: wire.Events) -> list[GatewayEffect]:
        self.received_seq = max(self.received_seq, frame.first_seq + len(frame.events) - 1)
        self._unsettled += 1
        return [Append(frame.first_seq, frame.events)]

    def _undecodable(self, data: bytes, problem: str) -> list[GatewayEffect]:
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            problem = f"the frame is {problem_in_words(error)}"
            return self._refuse(wire.INVALID, problem, close_code=wire.CLOSE_NOT_JSON)
        return self._refuse(wire.INVALID, problem, seq=_first_invalid(data))

    def _refuse(
        self,
        code: str,
        reason: str,
        *,
        close_code: int = wire.CLOSE_POLICY,
        settle: bool = True,
        expected: int | None = None,
        seq: int | None = None,
    ) -> list[GatewayEffect]:
        if self._state in (_State.DOOMED, _State.OVER):
            return self._when_settled()
        # What was accepted before is acknowledged first, so that the sled knows exactly what is held.
        frame = wire.Refused(code=code, reason=reason, expected=expected, seq=seq)
        self._last_words = [Send(wire.encode(frame)), End(close_code, f"{code}: {reason}")]
        self._state = _State.DOOMED
        return self._when_settled(wait=settle)

    def _when_settled(self, *, wait: bool = True) -> list[GatewayEffect]:
        if self._state is not _State.DOOMED or (wait and self._unsettled):
            return []
        self._state = _State.OVER
        return self._last_words

    def _end(self, close_code: int, reason: str) -> list[GatewayEffect]:
        self._state = _State.OVER
        return [End(close_code, reason)]


def _first_invalid(data: bytes) -> int | None:
    """The seq of the first event that is none, where the frame is one of events at all."""
    try:
        shape = _events_shape.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    try:
        codec.decode_batch(shape.events)
    except InvalidEventError as error:
        return shape.first_seq + error.index
    return None
