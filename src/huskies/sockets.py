"""What everyone who opens a WebSocket does with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import aiohttp

from huskies import limits

# A close frame holds 125 bytes, two of which are the code.
_CLOSE_REASON_MAX: Final = 120
_REASON_MAX: Final = 300


class Closable(Protocol):
    """A WebSocket of either side."""

    async def close(self, *, code: int, message: bytes) -> Any:  # noqa: ANN401 - of no interest
        """Close, and wait for the other side to."""


class Socket(Closable, Protocol):
    """What aiohttp's WebSockets of either side have in common."""

    async def receive(self) -> aiohttp.WSMessage:
        """The next frame."""

    async def send_frame(self, message: bytes, opcode: aiohttp.WSMsgType) -> None:
        """Send one; waits while the other side does not read."""

    async def ping(self, message: bytes = b"") -> None:
        """Send a ping."""

    async def pong(self, message: bytes = b"") -> None:
        """Send a pong."""


async def first_of(*parts: Coroutine[Any, Any, str]) -> str:
    """Why the first of the parts ended, a lost connection being a reason; the others are cancelled.

    Where several end at once, the last of them says why. Any other error is raised.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    try:
        return [task.result() for task in ended][-1]
    except (aiohttp.ClientError, OSError) as error:
        return f"the connection is lost ({type(error).__name__})"


async def close_socket(socket: Closable, code: int, reason: str) -> None:
    """Close, and wait for the other side no longer than `CLOSE_LIMIT`."""
    message = reason.encode()[:_CLOSE_REASON_MAX].decode(errors="ignore").encode()
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(limits.CLOSE_LIMIT):
            await socket.close(code=code, message=message)


def websocket_url(base: str, path: str) -> str:
    """The ws(s) URL of a path on a server whose base URL is of http(s) or ws(s)."""
    base = base.rstrip("/")
    return ("ws" + base.removeprefix("http") if base.startswith("http") else base) + path


def clean(text: str) -> str:
    """Text that another program said, fit for one line of a log."""
    printable = "".join(character if character.isprintable() else " " for character in text[:_REASON_MAX])
    return " ".join(printable.split())
