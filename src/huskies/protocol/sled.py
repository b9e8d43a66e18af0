"""The sled's side of one `huskies.relay.v2` session: decides, and touches nothing.

A shell feeds it what happened (`receive`, `recorded`, `tick`, …) together with the time, carries out the
effects it gets back in order, and brings it events when `wants` says so. After an `End` or `OpenEpoch` the
session is over; what the outbox then holds decides how the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from huskies import limits
from huskies.events.words import problem_in_words
from huskies.protocol import wire
from huskies.protocol.effects import (
    Accepted,
    Acked,
    End,
    Held,
    OpenEpoch,
    Ping,
    Send,
    SetBarrier,
    SledEffect,
    TakeSnapshot,
)
from huskies.protocol.outbox_view import OutboxView
from huskies.protocol.pinned import Pinned


class Want(msgspec.Struct, frozen=True):
    """Read events from the outbox: from `first_seq` on, at most `count`, and hand them to `fetched`."""

    first_seq: int
    count: int


# By how much batches get smaller where one was not acknowledged in time, and larger again with each that was.
_SHRINK: Final = 8
_GROW: Final = 2


class _State(Enum):
    AWAIT_CHALLENGE = auto()
    AWAIT_WELCOME = auto()
    OPEN = auto()
    OVER = auto()


class SledSession:
    """One session; `sign` makes the sled's Ed25519 signature (64 bytes), `now` is monotonic seconds.

    `elsewhere`: through which seq another gateway may hold what it did not acknowledge; None where this sled
    delivers to this one alone. What another one acknowledged or may hold, no new epoch carries over: it would
    be stored twice. `others`: the gateway_ids of those, where one is not known yet something that is none.
    `batch_events`: how many events a frame may have at first; after the session, at first in the next one.
    """

    def __init__(
        self,
        outbox: OutboxView,
        sign: Callable[[bytes], bytes],
        now: float,
        *,
        elsewhere: int | None = None,
        others: Collection[str] = (),
        pinned: Pinned | None = None,
        batch_events: int = limits.BATCH_EVENTS_MAX,
    ) -> None:
        self.batch_events = min(batch_events, limits.BATCH_EVENTS_MAX)
        self._outbox = outbox
        self._sign = sign
        self._elsewhere = elsewhere
        self._others = frozenset(others)
        self._pinned = pinned
        self._state = _State.AWAIT_CHALLENGE
        self._last_seq = outbox.last_seq
        self._barrier = outbox.barrier
        self._barrier_set_aside = outbox.barrier_set_aside
        self._acked = outbox.acked
        self._sent = outbox.acked
        self._held = outbox.held
        self._progressed = False
        self._leave_by: float | None = None
        self._welcomed_with: int | None = None
        self._refused_at: int | None = None
        self._window = 0
        self._snapshot_due = True
        self._step_at = now
        self._heard_at = now
        self._pinged_at = now
        self._progress_at = now
        self.gateway_id = ""
        self.refused_code = ""

    @property
    def accepted(self) -> bool:
        """Whether the gateway has welcomed this session, and something could come of that."""
        return self._window > 0

    @property
    def in_flight(self) -> int:
        """How many events were sent in this session and not acknowledged."""
        return self._sent - self._acked

    @property
    def may_be_held(self) -> int | None:
        """Through which seq the gateway may hold this epoch; None where it has not said so."""
        if self._refused_at is not None:
            return self._refused_at - 1
        return None if self._welcomed_with is None else max(self._welcomed_with, self._sent)

    @property
    def fruitful(self) -> bool:
        """Whether the gateway took what it was sent, or nothing waited: it may well take what comes next."""
        goes_on = self.refused_code in ("", wire.CONFLICT, wire.INVALID)
        return self.accepted and goes_on and (self._progressed or self._acked == self._last_seq)

    # --- what happened -----------------------------------------------------------------------------

    def receive(self, data: bytes | str, now: float) -> list[SledEffect]:  # noqa: PLR0911 - one a frame
        """A text frame came."""
        self._heard_at = now
        if self._state is _State.OVER:
            return []
        try:
            frame = wire.decode_from_gateway(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            problem = f"the gateway sent a frame that cannot be read: {problem_in_words(error)}"
            return self._end(wire.CLOSE_POLICY, problem)
        match frame:
            case wire.Refused():
                return self._refused(frame)
            case wire.Challenge() if self._state is _State.AWAIT_CHALLENGE:
                return self._challenged(frame, now)
            case wire.Welcome() if self._state is _State.AWAIT_WELCOME:
                return self._welcomed(frame, now)
            case wire.Ack() if self._state is _State.OPEN:
                return self._on_ack(frame, now)
            case _:
                return self._end(wire.CLOSE_POLICY, "the gateway sent a frame out of turn")

    def heard(self, now: float) -> None:
        """A ping or pong came."""
        self._heard_at = now

    def recorded(self, last_seq: int) -> None:
        """The outbox now holds events up to `last_seq`."""
        self._last_seq = max(self._last_seq, last_seq)

    def stories_changed(self) -> list[SledEffect]:
        """Stories appeared or vanished without an event: the snapshot is due again."""
        self._snapshot_due = True
        return self._when_settled()

    def leave(self, now: float) -> list[SledEffect]:
        """Another gateway is to be used: nothing more is sent, and the session ends.

        It ends once everything that was sent is acknowledged, or after `LEAVE_LIMIT`.
        """
        self._leave_by = now + limits.LEAVE_LIMIT
        return self._when_settled()

    def tick(self, now: float) -> list[SledEffect]:  # noqa: PLR0911 - one a limit
        """Time passed; call it about once a second."""
        if self._state is _State.OVER:
            return []
        if self._leave_by is not None and now > self._leave_by:
            return self._left()
        if self._state is not _State.OPEN and now - self._step_at > limits.GREETING_LIMIT:
            return self._end(wire.CLOSE_POLICY, "the gateway did not go on with the greeting")
        if now - self._heard_at > limits.SILENCE_LIMIT:
            return self._end(wire.CLOSE_POLICY, "the gateway has gone silent")
        if self.in_flight and now - self._progress_at > limits.ACK_LIMIT:
            # A slow network may be all that is wrong: less at a time gets through in time.
            self.batch_events = max(1, min(self.batch_events, self.in_flight) // _SHRINK)
            return self._end(wire.CLOSE_POLICY, "the gateway acknowledges nothing")
        if now - self._pinged_at >= limits.PING_INTERVAL:
            self._pinged_at = now
            return [Ping()]
        return []

    # --- events out --------------------------------------------------------------------------------

    def wants(self) -> Want | None:
        """What to read from the outbox next; None while there is nothing that may be sent."""
        if self._state is not _State.OPEN or self._leave_by is not None:
            return None
        end = self._last_seq if self._barrier is None else min(self._last_seq, self._barrier - 1)
        count = min(end - self._sent, self._window - self.in_flight, self.batch_events)
        return Want(self._sent + 1, count) if count > 0 else None

    def fetched(self, first_seq: int, events: Sequence[bytes], now: float) -> list[SledEffect]:
        """Events read from the outbox, as JSON, in answer to `wants`; sends as many as one frame holds."""
        if self._state is not _State.OPEN or first_seq != self._sent + 1 or not events:
            return []
        batch: list[bytes] = []
        room = limits.BATCH_BYTES_MAX * self.batch_events // limits.BATCH_EVENTS_MAX
        size = 0
        for event in events:
            size += len(event) + 1
            if batch and size > room:
                break
            batch.append(event)
        if not self.in_flight:
            self._progress_at = now
        self._sent += len(batch)
        return [Send(wire.encode_events(first_seq, batch))]

    def snapshot_taken(self, seq: int, stories: Sequence[wire.SnapshotStory]) -> list[SledEffect]:
        """Where the stories stand as of `seq`; sent if nothing was recorded or sent since."""
        self.recorded(seq)
        if not self._settled():
            return []
        self._snapshot_due = False
        return [Send(wire.encode(wire.Snapshot(seq=seq, stories=list(stories))))]

    # --- steps -------------------------------------------------------------------------------------

    def _challenged(self, frame: wire.Challenge, now: float) -> list[SledEffect]:
        view = self._outbox
        if self._pinned is not None and (problem := self._pinned.problem_with(frame, view.project)):
            return self._end(wire.CLOSE_POLICY, problem)
        self.gateway_id = frame.gateway_id
        signature = self._sign(
            wire.signed_text(
                gateway_id=frame.gateway_id,
                nonce=frame.nonce,
                project=view.project,
                sled_id=view.sled_id,
                epoch=view.epoch,
            )
        )
        self._state = _State.AWAIT_WELCOME
        self._step_at = now
        hello = wire.Hello(
            project=view.project,
            sled_id=view.sled_id,
            epoch=view.epoch,
            # What was recorded since the session began is held too: it was recorded before the welcome.
            last_seq=self._last_seq,
            signature=signature.hex(),
            previous=list(view.previous),
            copies=view.copies,
            oldest=view.oldest,
        )
        return [Send(wire.encode(hello))]

    def _welcomed(self, frame: wire.Welcome, now: float) -> list[SledEffect]:
        view = self._outbox
        self._welcomed_with = frame.last_seq
        self._progress_at = now
        if frame.last_seq < view.last_seq and frame.last_seq + 1 < view.oldest:
            # The gateway lost, or never had, what this outbox no longer holds: a new history begins.
            return self._begin_anew(frame, "the gateway asks for events no longer held")
        self._state = _State.OPEN
        self._window = frame.max_in_flight
        effects: list[SledEffect] = [Accepted()]
        if frame.last_seq > view.last_seq and self._barrier is None:
            # The gateway holds a history that this outbox does not know: it is an older copy. What was
            # never acknowledged is still compared under this epoch, what comes later is not part of it.
            self._barrier = view.last_seq + 1
            reason = f"the gateway holds {frame.last_seq} events and the outbox {view.last_seq}"
            effects.append(SetBarrier(self._barrier, set_aside=False, reason=reason))
        # Events acknowledged earlier that the gateway no longer has are sent again.
        self._acked = self._sent = min(view.acked, frame.last_seq)
        return [*effects, *self._when_settled()]

    def _on_ack(self, frame: wire.Ack, now: float) -> list[SledEffect]:
        # A gateway may know more of this epoch than was sent in this session: that much was not compared.
        seq = min(frame.seq, self._sent)
        if seq <= self._acked:
            return self._on_held(frame)
        self._acked = seq
        self.batch_events = min(limits.BATCH_EVENTS_MAX, self.batch_events * _GROW)
        self._progress_at = now
        self._progressed = True
        return [Acked(seq), *self._on_held(frame), *self._when_settled()]

    def _on_held(self, frame: wire.Ack) -> list[SledEffect]:
        if self._outbox.copies == 1 or frame.held is None:
            return []
        held = min(frame.held, self._acked)
        if held <= self._held:
            return []
        self._held = held
        return [Held(held)]

    def _when_settled(self) -> list[SledEffect]:
        if self._barrier is not None and self._state is _State.OPEN and self._acked >= self._barrier - 1:
            return self._open_epoch(
                self._barrier + self._barrier_set_aside, "all that belongs to the old epoch was delivered"
            )
        if self._leave_by is not None and self._state is _State.OPEN and not self.in_flight:
            return self._left()
        return [TakeSnapshot()] if self._snapshot_due and self._settled() else []

    def _settled(self) -> bool:
        return self._state is _State.OPEN and self._barrier is None and self._acked == self._last_seq

    def _refused(self, frame: wire.Refused) -> list[SledEffect]:
        self.refused_code = frame.code
        reason = f"the gateway refused: {frame.code}: {frame.reason}"
        seq = frame.seq
        if self._state is not _State.OPEN or seq is None or not self._acked < seq <= self._sent:
            return self._end(wire.CLOSE_POLICY, reason)
        if frame.code in (wire.CONFLICT, wire.INVALID):
            # What came before it may be in the log without having been acknowledged: it is delivered and
            # compared under this epoch before the next one begins.
            self._refused_at = seq
            barrier = self._nowhere_from(seq)
            set_aside = frame.code == wire.INVALID and barrier == seq
            effects: list[SledEffect] = []
            if barrier != self._barrier:
                effects.append(SetBarrier(barrier, set_aside=set_aside, reason=reason))
            if self._acked == seq - 1 and barrier - 1 <= self._acknowledged:
                return [*effects, *self._open_epoch(barrier + set_aside, reason)]
            return [*effects, *self._end(wire.CLOSE_POLICY, reason)]
        return self._end(wire.CLOSE_POLICY, reason)

    @property
    def _acknowledged(self) -> int:
        """Through which seq some gateway has acknowledged this epoch."""
        return self._acked if self._elsewhere is None else max(self._acked, self._outbox.acked)

    def _nowhere_from(self, seq: int) -> int:
        """From which seq on, `seq` at the earliest, no other gateway holds anything of this epoch."""
        return seq if self._elsewhere is None else max(seq, self._acknowledged + 1, self._elsewhere + 1)

    def _begin_anew(self, frame: wire.Welcome, reason: str) -> list[SledEffect]:
        if frame.asked and self._elsewhere is not None:
            if self._others <= {gateway_id.lower() for gateway_id in frame.asked}:
                # What is still held here no gateway has under this epoch, whoever acknowledged it once.
                return self._accept_and_open(frame, self._outbox.oldest, reason)
            return self._end(wire.CLOSE_POLICY, f"{reason}; another one of the list has to be asked first")
        carry_from = self._nowhere_from(self._outbox.oldest)
        if self._elsewhere is not None and carry_from - 1 > self._acknowledged:
            doubt = f"another one may hold event {carry_from - 1}, and has to be asked first"
            return self._end(wire.CLOSE_POLICY, f"{reason}; {doubt}")
        return self._accept_and_open(frame, carry_from, reason)

    def _accept_and_open(self, frame: wire.Welcome, carry_from: int, reason: str) -> list[SledEffect]:
        self._window = frame.max_in_flight
        return [Accepted(), *self._open_epoch(carry_from, reason)]

    def _open_epoch(self, carry_from: int, reason: str) -> list[SledEffect]:
        self._progressed = True
        return [OpenEpoch(carry_from, reason), *self._end(wire.CLOSE_POLICY, reason)]

    def _left(self) -> list[SledEffect]:
        return self._end(wire.CLOSE_GOING_AWAY, "an earlier gateway answers again")

    def _end(self, close_code: int, reason: str) -> list[SledEffect]:
        self._state = _State.OVER
        return [End(close_code, reason)]
