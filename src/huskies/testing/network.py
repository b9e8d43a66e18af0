"""The network of a simulation: TCP connections between places, in memory and in virtual time.

It stands where sockets would, below aiohttp, so that everything above is what production runs. Bytes come in
order or not at all; they are late, cut into other pieces, held up while two places are cut off from each
other (and come when they no longer are, as TCP sends again), or lost with the connection.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import Callable
from contextvars import copy_context
from random import Random
from typing import Any, TypeAlias

from huskies.testing.connection import Connected, Connection, Transport, place_of
from huskies.testing.loop import Process, SimulatedLoop
from huskies.testing.place import Place

_Pair: TypeAlias = frozenset[str]


class Network:
    """All connections; `cut_off` names the pairs of hosts between which nothing gets through now."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self._loop = loop
        self._random = random
        self.cut_off: set[_Pair] = set()
        # Every place by its host.
        self.places: dict[str, Place] = {}
        self.connections: dict[Connection, None] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._reached: dict[Any, tuple[str, int]] = {}
        self._numbers = itertools.count(1)
        self.bytes = 0

    def is_cut_off(self, one: Place, other: Place) -> bool:
        """Whether nothing gets through between these."""
        return bool(self.cut_off) and frozenset((one.host, other.host)) in self.cut_off

    def heal(self, pair: _Pair) -> None:
        """Let bytes through again, those that were held up first."""
        self.cut_off.discard(pair)
        for connection in list(self.connections):
            if frozenset(end.place.host for end in connection.ends) == pair:
                connection.release()

    def booted(self, place: Place) -> None:
        """A place is on again, and knows nothing of the connections that it had."""
        for connection in list(self.connections):
            if any(end.place is place and end.is_gone for end in connection.ends):
                connection.over()

    # --- what the loop asks ------------------------------------------------------------------------

    def listen(
        self, process: Process, factory: Callable[[], Connected], host: str, port: int
    ) -> asyncio.AbstractServer:
        """Listen at an address; raises `OSError` where another process does."""
        if (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        listener = self._listeners[host, port] = Listener(self, process, factory, (host, port))
        return listener

    def forget(self, listener: Listener) -> None:
        """Nobody listens there any more."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    async def reach(self, process: Process, sock: Any, address: tuple[str, int]) -> None:  # noqa: ANN401 - a socket
        """A handshake with who listens there; raises `OSError`, and waits while it is cut off or off."""
        here = place_of(process)
        while not self._lets_through(here, address):  # noqa: ASYNC110 - that is what TCP does
            # SYN is sent again and again.
            await asyncio.sleep(self._random.uniform(0.5, 3.0))
        await asyncio.sleep(self._random.uniform(0.0002, 0.005))
        if address not in self._listeners:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self._reached[sock] = address

    def connect(
        self,
        process: Process,
        factory: Callable[[], Connected],
        sock: Any,  # noqa: ANN401 - a socket
    ) -> tuple[Transport, Connected]:
        """The connection to what was reached."""
        address = self._reached.pop(sock)
        sock.close()
        listener = self._listeners.get(address)
        if listener is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        connection = Connection(self, self._loop, Random(self._random.getrandbits(64)))  # noqa: S311 - repeatable
        connection.number = next(self._numbers)
        self.connections[connection] = None
        here = (place_of(process).host, 40_000 + connection.number % 20_000)
        near = Transport(connection, process, copy_context(), factory(), here, address)
        far = Transport(
            connection,
            listener.process,
            listener.context,
            listener.context.run(listener.factory),
            address,
            here,
        )
        connection.ends = (near, far)
        near.made()
        far.made()
        return near, near.protocol

    def _lets_through(self, here: Place, address: tuple[str, int]) -> bool:
        there = self.places.get(address[0])
        return there is not None and there.is_on and not self.is_cut_off(here, there)


class Listener(asyncio.AbstractServer):
    """A port that a process listens on."""

    def __init__(
        self, network: Network, process: Process, factory: Callable[[], Connected], address: tuple[str, int]
    ) -> None:
        self._network = network
        self.process = process
        self.factory = factory
        self.address = address
        self.context = copy_context()
        process.holds[self] = None

    @property
    def sockets(self) -> list[Listener]:
        """Itself: it has a name as a socket has."""
        return [self]

    def getsockname(self) -> tuple[str, int]:
        """Host and port."""
        return self.address

    def die(self) -> None:
        """The process is gone."""
        self._network.forget(self)

    def close(self) -> None:
        """Accept no more."""
        self.process.holds.pop(self, None)
        self._network.forget(self)

    async def wait_closed(self) -> None:
        """It is closed at once."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to."""
        return self.process.loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self in self.process.holds

    async def start_serving(self) -> None:
        """It serves from the beginning."""

    async def serve_forever(self) -> None:
        """Nobody asks for that."""
        raise NotImplementedError
