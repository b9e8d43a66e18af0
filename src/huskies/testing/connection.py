"""TCP connections of a simulation: two ends that send to each other in order, as asyncio knows them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Iterable
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol

from huskies.testing.loop import Process, SimulatedLoop
from huskies.testing.place import Place

if TYPE_CHECKING:
    from huskies.testing.network import Network

# What the two systems' socket buffers hold together, and how much more a program may write before it waits.
_SOCKET_BYTES: Final = 256 << 10
_HIGH_BYTES: Final = 64 << 10
# How long TCP takes to notice that bytes get through again, at most.
_SENDS_AGAIN: Final = 3.0
_SPLIT_CHANCE: Final = 0.1
_SPIKE_CHANCE: Final = 0.003
_SPIKE: Final = 2.0


class Connected(Protocol):
    """What an asyncio protocol is told."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""

    def data_received(self, data: bytes) -> None:
        """Bytes came."""

    def eof_received(self) -> bool | None:
        """No more bytes will come."""

    def pause_writing(self) -> None:
        """The other side does not keep up."""

    def resume_writing(self) -> None:
        """It does again."""


def place_of(process: Process) -> Place:
    """Where a process runs."""
    assert process.place is not None  # noqa: S101 - the driver opens no connections
    return process.place


class Connection:
    """Two ends; each sends to the other in order."""

    def __init__(self, network: Network, loop: SimulatedLoop, random: Random) -> None:
        self.network = network
        self._loop = loop
        # Of its own, so that what is drawn for one connection does not depend on what others do.
        self._random = random
        self.number = 0
        self.ends: tuple[Transport, Transport]
        self._over = False
        # A slow connection is slow all the time.
        self._typical = random.choice((0.0005, 0.002, 0.002, 0.02, 0.15))

    def other(self, end: Transport) -> Transport:
        """The other end."""
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def send(self, source: Transport, what: bytes | None) -> None:
        """Carry bytes (None: the end of them) to the other end."""
        target = self.other(source)
        random = self._random
        if self._over:
            # Refused: this is how an end finds out that it is alone.
            self._loop.call_later(self._typical, source.lost, _reset(), context=source.context)
            return
        if what and len(what) > 1 and random.random() < _SPLIT_CHANCE:
            cut = random.randrange(1, len(what))
            self._carry(target, what[:cut])
            what = what[cut:]
        self._carry(target, what)

    def _carry(self, target: Transport, what: bytes | None) -> None:
        random = self._random
        delay = self._typical * (0.5 + random.random())
        if random.random() < _SPIKE_CHANCE:
            delay += _SPIKE * random.random()
        target.due = max(target.due, self._loop.time() + delay)
        self._loop.call_at(target.due, self._arrive, target, what, context=target.context)

    def _arrive(self, target: Transport, what: bytes | None) -> None:
        if self._over:
            return
        if target.held or self.network.is_cut_off(*(end.place for end in self.ends)):
            target.held.append(what)
            return
        target.take(what)

    def release(self) -> None:
        """What was held up comes now, in order."""
        delay = self._random.uniform(0.0, _SENDS_AGAIN)
        for end in self.ends:
            self._loop.call_later(delay, self._release, end, context=end.context)

    def _release(self, end: Transport) -> None:
        if self.network.is_cut_off(*(one.place for one in self.ends)):
            return
        while end.held and not self._over:
            end.take(end.held.popleft())

    def reset(self, *, seen_by: Iterable[Transport]) -> None:
        """Break it: what is on its way is lost. The end that does not see it finds out when it sends."""
        self.over()
        for end in seen_by:
            end.lost(_reset())

    def over(self) -> None:
        """Nothing gets through any more."""
        self._over = True
        for end in self.ends:
            end.held.clear()

    def end_gone(self) -> None:
        """One end is gone; without both there is no connection."""
        if all(end.is_gone for end in self.ends):
            self.over()
            self.network.connections.pop(self, None)


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class Transport(asyncio.Transport):
    """One end of a connection, as asyncio's protocols know it."""

    def __init__(  # noqa: PLR0917 - one caller
        self,
        connection: Connection,
        process: Process,
        context: Context,
        protocol: Connected,
        here: tuple[str, int],
        there: tuple[str, int],
    ) -> None:
        super().__init__({"sockname": here, "peername": there})
        self.connection = connection
        self.process = process
        self.place = place_of(process)
        self.context = context
        self.protocol = protocol
        self.due = 0.0
        self.held: deque[bytes | None] = deque()
        self.is_gone = False
        self._closing = False
        self._reading = True
        self._unread: deque[bytes | None] = deque()
        self._outstanding = 0
        self._writing_paused = False
        process.holds[self] = None

    def made(self) -> None:
        """Tell the protocol that the connection stands."""
        self.context.run(self.protocol.connection_made, self)

    # --- what comes --------------------------------------------------------------------------------

    def take(self, what: bytes | None) -> None:
        """Bytes (None: the end of them) are here; runs in this end's process."""
        other = self.connection.other(self)
        if what is not None:
            other.taken(len(what))
        if self._closing or self.is_gone:
            return
        if not self._reading:
            self._unread.append(what)
        elif what is None:
            if not self.protocol.eof_received():
                self.close()
        else:
            self.connection.network.bytes += len(what)
            self.protocol.data_received(what)

    def pause_reading(self) -> None:
        """Take nothing for now."""
        self._reading = False

    def resume_reading(self) -> None:
        """Take what came meanwhile, and what comes."""
        if not self._reading:
            self._reading = True
            self.process.loop.call_soon(self._take_unread, context=self.context)

    def is_reading(self) -> bool:
        """Whether what comes is taken."""
        return self._reading and not self._closing

    def _take_unread(self) -> None:
        while self._reading and self._unread:
            what = self._unread.popleft()
            if self._closing or self.is_gone:
                return
            if what is None:
                if not self.protocol.eof_received():
                    self.close()
            else:
                self.protocol.data_received(what)

    # --- what goes ---------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if self._closing or self.is_gone or not data:
            return
        self._outstanding += len(data)
        self.connection.send(self, bytes(data))
        if not self._writing_paused and self.get_write_buffer_size() > _HIGH_BYTES:
            self._writing_paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:  # noqa: ANN401 - asyncio's
        """Send several at once."""
        self.write(b"".join(list_of_data))

    def taken(self, count: int) -> None:
        """So many bytes are off the wire."""
        self._outstanding -= count
        if self._writing_paused and not self.is_gone and self.get_write_buffer_size() == 0:
            self._writing_paused = False
            self.process.loop.call_soon(self.protocol.resume_writing, context=self.context)

    def get_write_buffer_size(self) -> int:
        """What the sockets' buffers do not hold."""
        return max(0, self._outstanding - _SOCKET_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """They are as they are."""

    def can_write_eof(self) -> bool:
        """Nobody needs it."""
        return False

    # --- the end -----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing or self.is_gone

    def close(self) -> None:
        """Send what was written, and end."""
        if not self._closing and not self.is_gone:
            self._closing = True
            self.connection.send(self, None)
            self.process.loop.call_soon(self._gone, None, context=self.context)

    def abort(self) -> None:
        """End at once."""
        if not self.is_gone:
            self._closing = True
            self.connection.reset(seen_by=(self.connection.other(self),))
            self.process.loop.call_soon(self._gone, None, context=self.context)

    def lost(self, error: Exception | None) -> None:
        """The connection broke."""
        if not self.is_gone:
            self._closing = True
            self.process.loop.call_soon(self._gone, error, context=self.context)

    def die(self) -> None:
        """The process is gone: its system ends the connection, unless that is gone too."""
        if not self.is_gone:
            self.is_gone = True
            if self.place.is_on:
                # Behind what it sent, which is still delivered.
                self.connection.send(self, None)
            self.connection.end_gone()

    def get_protocol(self) -> Any:  # noqa: ANN401 - asyncio's
        """Who is told."""
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:  # noqa: ANN401 - asyncio's
        """Tell another one."""
        self.protocol = protocol

    def _gone(self, error: Exception | None) -> None:
        if not self.is_gone:
            self.is_gone = True
            self.process.holds.pop(self, None)
            self.protocol.connection_lost(error)
            self.connection.end_gone()
