"""Runs servers until a signal or until one of them fails, then stops them all within `SHUTDOWN_LIMIT`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

from huskies.errors import EXIT_FAILURE, HuskiesError
from huskies.limits import SHUTDOWN_LIMIT

# Leaves the interpreter time to end after the servers did.
_STOP_LIMIT: Final = SHUTDOWN_LIMIT - 0.5

_log = logging.getLogger(__name__)


class Service(Protocol):
    """A server: `start` raises `ConfigError`, `wait` raises what makes going on impossible."""

    async def start(self) -> None:
        """Return once it serves."""

    async def stop(self) -> None:
        """End it; what it accepted is finished first."""

    async def wait(self) -> None:
        """Return when it was stopped."""


async def until_one_ends(services: Sequence[Service]) -> None:
    """Wait until one of them ends; raises its error."""
    waiting = [asyncio.create_task(service.wait()) for service in services]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waiting:
            task.cancel()


class Services:
    """What runs in this process; the one started first is what the others need, so it is stopped last."""

    def __init__(self) -> None:
        self._running: list[Service] = []

    async def start(self, service: Service) -> None:
        """Start one; raises `ConfigError`."""
        await service.start()
        self._running.append(service)

    async def wait(self) -> None:
        """Wait until one of them fails, and raise its error."""
        await until_one_ends(self._running)
        raise HuskiesError("a server ended without being told to; its log above says more")

    async def stop(self) -> None:
        """Stop them; a failure to stop is logged and does not keep the others running."""
        first, others = self._running[:1], self._running[1:]
        for together in (others, first):
            outcomes = await asyncio.gather(*(one.stop() for one in together), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    _log.error("could not stop cleanly: %s", outcome)


Launch: TypeAlias = Callable[[Services], Awaitable[None]]


def run(launch: Launch) -> None:
    """Start what `launch` starts, and return after Ctrl-C or SIGTERM stopped it; raises `HuskiesError`."""
    _fill_standard_streams()
    # Bounds what stopping takes, whatever hangs; nothing is lost, as what was acknowledged is on disk.
    limit = threading.Timer(_STOP_LIMIT, _end_by_force)
    limit.daemon = True
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(launch, on_stopping=limit.start))
    finally:
        limit.cancel()


async def _serve(launch: Launch, on_stopping: Callable[[], None]) -> None:
    services = Services()
    with _stop_signal() as stop:
        serving = asyncio.create_task(_launch_and_wait(launch, services))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            on_stopping()
            serving.cancel()
            stopped.cancel()
            await asyncio.gather(serving, stopped, return_exceptions=True)
            await services.stop()


async def _launch_and_wait(launch: Launch, services: Services) -> None:
    await launch(services)
    await services.wait()


@contextmanager
def _stop_signal() -> Iterator[asyncio.Event]:
    """Set the event at SIGINT and SIGTERM; a second one of these ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stop.set)

    # Not loop.add_signal_handler, which Windows lacks.
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fill_standard_streams() -> None:
    """Open what was closed of stdin, stdout and stderr: a socket that got its number would end libuv."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _end_by_force() -> None:
    # Not through logging, which may be what hangs.
    os.write(sys.stderr.fileno(), b"huskies: not stopped within %g s, ended by force\n" % _STOP_LIMIT)
    os._exit(EXIT_FAILURE)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
