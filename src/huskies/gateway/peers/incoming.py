"""What another gateway sends: taken into the log, and settled frame by frame."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from huskies.gateway.peers.outgoing import Outgoing
from huskies.gateway.store.appends import Append, Claim, Diverged, Lost
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log
from huskies.gateway.store.streams import names_of
from huskies.protocol import peer_wire as wire
from huskies.protocol.vectors import Origin

_log = logging.getLogger("huskies.peers")


class _Taken(msgspec.Struct):
    """A frame: how many of its runs are not settled, and how far they go."""

    frame: int
    runs: int = 0
    ends: dict[Origin, int] = {}


class Incoming:
    """One connection's appends; `out` is told what the other gateway evidently holds.

    `held` is called with how far the other gateway holds sequences, as is known once what it sent is settled,
    `settled` with the newest frame of which nothing is left to wait for, `gap` with the seq that
    was expected where something was left out, `rescan` with a sequence that has to be sent beyond a seq (with
    the digest there), `ask_again` with the other side's number of one that it has to send from the beginning.
    """

    def __init__(
        self,
        log: Log,
        out: Outgoing,
        *,
        held: Callable[[Mapping[Origin, int]], None],
        settled: Callable[[int], None],
        gap: Callable[[int], None],
        rescan: Callable[[Origin, int, int], None],
        ask_again: Callable[[int], None],
    ) -> None:
        self._to_log = log
        self._out = out
        self._held = held
        self._settled = settled
        self._gap = gap
        self._rescan = rescan
        self._ask_again = ask_again
        self._streams: dict[int, Stream] = {}
        self._numbers: dict[Origin, int] = {}
        # Events up to here were recorded before this connection began: what comes of them is history.
        self._replayed: dict[int, int] = {}
        # Sequences of which two histories have met: what is in flight of the one that loses is nothing new.
        self._settling: set[Origin] = set()
        # Sequences of which a beginning is waited for: what lies behind the gap is not wanted meanwhile.
        self._held_back: set[Origin] = set()
        # Counts the runs that came of what the other gateway held when the connection began.
        self.replayed_runs = 0
        # The frames that are not settled.
        self._frames: deque[_Taken] = deque()

    def name(self, number: int, stream: Stream, last_seq: int) -> None:
        """The other side has a number for a sequence, and holds so much of it."""
        self._streams[number] = stream
        self._numbers[stream.origin] = number
        self._replayed.setdefault(number, last_seq)

    def is_settling(self, origin: Origin) -> bool:
        """Whether two histories of the sequence have met on this connection."""
        return origin in self._settling

    def stream(self, number: int) -> Stream:
        """The sequence that the other side named so."""
        return self._streams[number]

    def hold_back(self, number: int) -> None:
        """Until the gap before them is filled, runs of this sequence are not wanted."""
        self._held_back.add(self._streams[number].origin)

    def take(self, frame: wire.Runs, size: int) -> None:
        """Append what a frame of `size` bytes brings."""
        start, now_ms = 0, self._to_log.now_ms()
        taken = _Taken(frame.frame)
        self._frames.append(taken)
        for run in frame.runs:
            stream = self._streams[run.number]
            events = frame.events[start : start + run.count]
            start += run.count
            last_seq = run.first_seq + run.count - 1
            if stream.origin not in self._settling:
                self._out.they_have(stream.origin, last_seq, run.after, stream.id)
            self.replayed_runs += run.first_seq <= self._replayed[run.number]
            if self._is_unwanted(stream, run.first_seq):
                continue
            taken.runs += 1
            taken.ends[stream.origin] = last_seq
            self._to_log.append(
                Append(
                    stream,
                    run.first_seq,
                    events,
                    # A clock that is ahead must not keep events beyond their time.
                    min(run.received_ms, now_ms),
                    max(run.replayed_through, min(self._replayed[run.number], last_seq)),
                    self,
                    run.count,
                    size * run.count // len(frame.events),
                    claim=Claim(run.before, run.after, self._on_branch),
                )
            )
        self._settle()

    def _is_unwanted(self, stream: Stream, first_seq: int) -> bool:
        """Whether a run lies behind a gap that is waited for; what comes behind one that does not, fits."""
        if stream.origin not in self._held_back:
            return False
        live = self._to_log.sequences.live(stream.origin) or stream
        if first_seq > live.last_seq + 1:
            return True
        self._held_back.discard(stream.origin)
        return False

    def diverged(self, stream: Stream) -> None:
        """Both send all they retain of it; whoever holds the branch that loses then sees where it begins."""
        if stream.origin in self._settling:
            return
        self._settling.add(stream.origin)
        _log.error("another gateway holds another history of a sled", extra=names_of(stream))
        self._ask_again(self._numbers[stream.origin])
        self._rescan(stream.origin, 0, 0)

    # --- AppendOwner -------------------------------------------------------------------------------

    def on_committed(self, last_seq: int, batches: int, events: int) -> None:
        """So many runs are settled, in the order in which they came."""
        del last_seq, events
        for taken in self._frames:
            settled = min(batches, taken.runs)
            taken.runs -= settled
            batches -= settled
            if not batches:
                break
        self._settle()

    def _settle(self) -> None:
        done, held = 0, {}
        while self._frames and not self._frames[0].runs:
            taken = self._frames.popleft()
            done = taken.frame
            held.update(taken.ends)
        if done:
            # Of two histories it is not known which one the other gateway goes on with.
            self._held({origin: seq for origin, seq in held.items() if origin not in self._settling})
            self._settled(done)

    def on_gap(self, expected: int, batches: int, events: int) -> None:
        """The other gateway left something out."""
        del batches, events
        self._gap(expected)

    def on_conflict(self, seq: int, batches: int, events: int) -> None:
        """Never happens: of two branches one wins."""
        raise AssertionError(f"{seq}, {batches}, {events}: a conflict where a branch wins")

    def _on_branch(self, stream: Stream, branch: Lost | Diverged) -> None:
        if isinstance(branch, Diverged):
            self.diverged(stream)
            return
        _log.error(
            "another gateway holds a branch of a sled's history that lost; it is told",
            extra={**names_of(stream), "from": branch.seq},
        )
        self._settling.add(stream.origin)
        self._rescan(stream.origin, branch.seq - 1, branch.digest)
