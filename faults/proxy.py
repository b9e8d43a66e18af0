"""A TCP proxy between sleds and a gateway that breaks the network in every way a test asks for.

It also is the witness outside the system: it notes what was sent and acknowledged under which identity.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from faults.frames import Piece, Scanner

Mode = Literal["pass", "refuse", "black hole", "slice", "delay", "trickle"]
# Written at a time where it trickles.
_DROP = 256
Direction = Literal["up", "down"]
_T = TypeVar("_T")


@dataclass(eq=False)
class Line:
    """One connection through the proxy; `sent` and `acked` are the newest seqs that were passed on.

    What the gateway held when it welcomed the sled counts as acknowledged.
    """

    client: asyncio.StreamWriter
    gateway: asyncio.StreamWriter
    project: str = ""
    origin: tuple[str, str] = ("", "")
    sent: int = 0
    acked: int = 0
    # The client's side was broken and the gateway's is held open.
    half_open: bool = False
    # Something of it fell into a black hole; nothing can follow it.
    swallowed: bool = False


@dataclass
class Seen:
    """A frame that is about to be passed on."""

    line: Line
    direction: Direction
    kind: str
    frame: dict[str, Any] = field(default_factory=dict)


class Proxy:
    """Listens on a free port; `target` is where the gateway listens now, None where there is none.

    `watch` sees each frame of the relay protocol first, in the proxy's own thread, and says whether it is
    passed on. `acked` is the newest seq that the gateway has acknowledged of each history, passed on or not.
    `blind`: it looks into nothing, as between two gateways.
    """

    def __init__(self, *, blind: bool = False) -> None:
        self._blind = blind
        self.target: int | None = None
        self.mode: Mode = "pass"
        self.delay = 0.0
        # Bytes a second, of each connection each way, where it trickles.
        self.rate = 0.0
        self.watch: Callable[[Seen], bool] | None = None
        self.acked: dict[tuple[str, str], int] = {}
        self.lines: set[Line] = set()
        self.connections = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reset(self, *, sleds_only: bool = False) -> int:
        """Break all connections with a reset; says how many."""

        async def act() -> int:
            broken = [line for line in self.lines if line.project or not sleds_only]
            for line in broken:
                reset_now(line.client)
                reset_now(line.gateway)
            return len(broken)

        return self._call(act())

    def break_clients_side(self) -> int:
        """Break the sleds' sides of all push connections while the gateway's stay open and silent."""

        async def act() -> int:
            broken = [line for line in self.lines if line.project and not line.half_open]
            for line in broken:
                line.half_open = True
                reset_now(line.client)
            return len(broken)

        return self._call(act())

    # --- in the proxy's thread ---------------------------------------------------------------------

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=4096)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        ready.set()
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            reset_now(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "black hole":
            while await reader.read(1 << 16):
                pass
            return
        if self.target is None or self.mode == "refuse":
            return
        from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self.target)
        line = Line(writer, to_gateway)
        self.lines.add(line)
        ways = [
            asyncio.create_task(self._pump(line, "up", reader, to_gateway)),
            asyncio.create_task(self._pump(line, "down", from_gateway, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if line.half_open:
                # Until the gateway gives up on it, which is what this fault is about.
                await asyncio.wait(ways)
        finally:
            self.lines.discard(line)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_gateway.close()

    async def _pump(
        self, line: Line, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        scanner = Scanner()
        try:
            while data := await reader.read(1 << 16):
                for piece in [Piece(data)] if self._blind else scanner.feed(data):
                    if self._passes(line, direction, piece) and not (line.half_open and direction == "down"):
                        await self._send(line, writer, piece.raw)
            if not line.half_open:
                writer.close()
        except ConnectionError:
            pass

    async def _send(self, line: Line, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.mode == "black hole":
            line.swallowed = True
        if line.swallowed:
            return
        if self.mode == "delay":
            await asyncio.sleep(self.delay)
        drop, pause = {"slice": (1, 0.0), "trickle": (_DROP, _DROP / (self.rate or 1))}.get(
            self.mode, (len(data), None)
        )
        for start in range(0, len(data), drop):
            if writer.is_closing():
                raise ConnectionResetError
            writer.write(data[start : start + drop])
            if pause is not None:
                await asyncio.sleep(pause)
        await writer.drain()

    def _passes(self, line: Line, direction: Direction, piece: Piece) -> bool:
        if piece.head and direction == "up" and b" /gateway/events/push?" in piece.raw:
            line.project = piece.raw.partition(b"project=")[2].split(b"&")[0].split(b" ")[0].decode()
        if piece.text is None:
            return True
        seen = Seen(line, direction, *_parsed(piece.text))
        if seen.kind == "hello":
            line.origin = (seen.frame["sled_id"], seen.frame["epoch"])
        elif seen.kind == "ack":
            self.acked[line.origin] = max(self.acked.get(line.origin, 0), seen.frame["seq"])
        passes = self.watch is None or self.watch(seen)
        if passes and seen.kind == "events":
            line.sent = max(line.sent, seen.frame["last_seq"])
        elif passes and seen.kind in ("welcome", "ack"):
            line.acked = max(line.acked, seen.frame.get("seq", seen.frame.get("last_seq", 0)))
        return passes


def _parsed(text: bytes) -> tuple[str, dict[str, Any]]:
    head = b'{"type":"events","first_seq":'
    if text.startswith(head):
        # Not decoded: it may be large, and only where it begins and how many there are is wanted.
        first = int(text[len(head) : text.index(b",", len(head))])
        return "events", {"last_seq": first + text.count(b'"timestamp_ms":') - 1}
    frame: dict[str, Any] = json.loads(text)
    return frame["type"], frame


def reset_now(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: what is under way is lost."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
