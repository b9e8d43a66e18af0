"""An event loop with virtual time, shared by simulated processes: nothing in it waits, and chance is seeded.

Time stands still while anything is ready and then jumps to the next timer. Each process has its own queue
of what is ready, first in, first out as in any event loop; which process runs next is drawn by lot. A process
can be killed between any two callbacks, after which nothing of it runs, and paused, while what comes for it
waits.
"""

# ruff: noqa: ANN401 - the signatures are asyncio's own

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import sqlite3
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from huskies.testing.connection import Connected
    from huskies.testing.network import Network
    from huskies.testing.place import Place

_T = TypeVar("_T")
# So many callbacks without time passing are a program that spins.
_SPINNING: Final = 2_000_000
_PRUNE_TASKS: Final = 256

_Run: TypeAlias = Callable[..., object]


class SpinningError(AssertionError):
    """Something runs without end while no time passes."""


class Dies(Protocol):
    """What a process holds and loses when it is killed."""

    def die(self) -> None:
        """The process is gone."""


class Process:
    """One process at a `place`, from its start to its end; everything it does runs in its `context`."""

    def __init__(self, loop: SimulatedLoop, name: str, place: Place | None = None) -> None:
        self.loop = loop
        self.name = name
        self.place = place
        self.alive = True
        self.paused = False
        self.queued = False
        self.ready: deque[Handle] = deque()
        self.holds: dict[Dies, None] = {}
        self.stores: list[sqlite3.Connection] = []
        # After so many more callbacks it is killed; 0: it is not.
        self.fuse = 0
        self.on_death: Callable[[], None] | None = None
        self.context = copy_context()
        self.context.run(CURRENT.set, self)
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, _T], name: str | None = None) -> asyncio.Task[_T]:
        """Let the process do something, beside what it does."""
        return self.loop.create_task(work, name=name, context=self.context)

    def kill(self) -> None:
        """End it as SIGKILL does: no more of it runs, and what it held is let go of."""
        if not self.alive:
            return
        self.alive = False
        with self.loop.burying():
            self.ready.clear()
            if self.on_death is not None:
                self.on_death()
            for held in list(self.holds):
                held.die()
            self._bury()
        for store in self.stores:
            store.close()
        self.stores.clear()

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Remember a task, to be able to end it."""
        self._tasks.append(task)
        if len(self._tasks) % _PRUNE_TASKS == 0:
            self._tasks = [task for task in self._tasks if not task.done()]

    def _bury(self) -> None:
        # What a coroutine does while it is closed reaches nothing any more, whatever it tries.
        while self._tasks:
            task = self._tasks.pop()
            if task.done():
                continue
            vars_of(task)._log_destroy_pending = False  # noqa: SLF001 - it is meant to be pending
            with contextlib.suppress(BaseException):
                self.context.run(task.get_coro().close)


CURRENT: ContextVar[Process] = ContextVar("CURRENT")


def vars_of(task: asyncio.Task[Any]) -> Any:
    """The task itself, for what its type does not tell of."""
    return task


class Handle:
    """A callback that is ready or waits for its time; it belongs to the process that asked for it."""

    __slots__ = ("__weakref__", "args", "context", "process", "run", "time")

    def __init__(
        self, process: Process, time: float, run: _Run | None, args: tuple[Any, ...], context: Context
    ) -> None:
        self.process = process
        self.time = time
        self.run = run
        self.args = args
        self.context = context

    def cancel(self) -> None:
        """Never run it; what is cancelled stays in the heap until its time."""
        self.run = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it will not run."""
        return self.run is None

    def when(self) -> float:
        """The loop's time at which it is due."""
        return self.time


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See the module. `network` carries what processes open; `turn` is called before time jumps."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._now = 0.0
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self._runnable: list[Process] = []
        self._burying = 0
        self._closed = False
        self.network: Network | None = None
        self.errors: list[str] = []
        self.callbacks = 0
        self.root = Process(self, "driver")

    # --- running -----------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run until this, which belongs to no place, is done."""
        token = CURRENT.set(self.root)
        before = events._get_running_loop()  # noqa: SLF001 - documented for those who write event loops
        hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(self)  # noqa: SLF001 - as above
        sys.set_asyncgen_hooks(firstiter=None, finalizer=None)
        try:
            task = self.root.start(work)
            while not task.done():
                self._advance()
            return task.result()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(before)  # noqa: SLF001 - as above
            CURRENT.reset(token)

    def _advance(self) -> None:
        """Run everything that is ready now, then jump to the next timer."""
        left = _SPINNING
        while self._runnable:
            left -= self._turn()
            if left < 0:
                raise SpinningError(f"no time passes at {self._now:.3f}: {self._runnable[-1].name}")
        timers = self._timers
        while timers and timers[0][2].run is None:
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("nothing is ready and nothing will be")
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if handle.run is not None:
                self._make_ready(handle)

    def _turn(self) -> int:
        """One turn of one process: what was ready when it began. How many callbacks that was."""
        runnable = self._runnable
        at = int(self._random.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[at]
        runnable[at] = runnable[-1]
        runnable.pop()
        ready = process.ready
        count = len(ready)
        for _ in range(count):
            if process.paused or not ready:
                break
            # Nothing here keeps the callback: what it refers to dies with the process.
            self._call(ready.popleft())
            if process.fuse:
                process.fuse -= 1
                if not process.fuse:
                    process.kill()
        process.queued = False
        self._enqueue(process)
        self.callbacks += count
        return count or 1

    def _call(self, handle: Handle) -> None:
        if handle.run is None:
            return
        try:
            handle.context.run(handle.run, *handle.args)
        except Exception as error:  # noqa: BLE001 - as in any event loop
            self.call_exception_handler(
                {"message": f"Exception in {handle.run.__qualname__}", "exception": error}
            )

    def _make_ready(self, handle: Handle) -> None:
        process = handle.process
        if process.alive:
            process.ready.append(handle)
            if not process.queued:
                self._enqueue(process)

    def _enqueue(self, process: Process) -> None:
        if process.ready and not process.queued and not process.paused:
            process.queued = True
            self._runnable.append(process)

    def pause(self, process: Process) -> None:
        """Let nothing of it run until `resume`."""
        process.paused = True

    def resume(self, process: Process) -> None:
        """Let a paused process go on; timers that became due meanwhile are."""
        process.paused = False
        self._enqueue(process)

    @contextlib.contextmanager
    def burying(self) -> Generator[None]:
        """Meanwhile nobody hears of errors: what raises them is being thrown away."""
        before = sys.unraisablehook
        self._burying += 1
        sys.unraisablehook = _say_nothing
        try:
            yield
        finally:
            sys.unraisablehook = before
            self._burying -= 1

    # --- what asyncio asks of an event loop --------------------------------------------------------
    #
    # The ignored overrides: asyncio's own signatures allow what nothing here ever passes.

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def call_soon(self, callback: _Run, *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        """Run it in the next turn of the process."""
        if context is None:
            context = copy_context()
        handle = Handle(context[CURRENT], self._now, callback, args, context)
        self._make_ready(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(self, when: float, callback: _Run, *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        """Run it at that time."""
        if context is None:
            context = copy_context()
        handle = Handle(context[CURRENT], when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(self, delay: float, callback: _Run, *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        """Run it after so many seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, _T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[_T]:
        """A task of the process that asks for it."""
        if context is None:
            context = copy_context()
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        context[CURRENT].keep(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """What would run in a thread runs in a later turn of the process."""
        del executor
        done: asyncio.Future[_T] = self.create_future()
        self.call_soon(_run_inline, done, func, args)
        return done

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        """Every host is an address."""
        raise OSError(f"{host}:{port}: no names are known in a simulation")

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Reach the listener at an address of the simulated network."""
        await self._net.reach(CURRENT.get(), sock, address)

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **_: Any,
    ) -> tuple[Any, Any]:
        """Connect over the simulated network."""
        del host, port
        return self._net.connect(CURRENT.get(), protocol_factory, sock)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Connected], host: Any = None, port: Any = None, **_: Any
    ) -> asyncio.AbstractServer:
        """Listen on the simulated network."""
        return self._net.listen(CURRENT.get(), protocol_factory, str(host), int(port))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody caught, and that would be in a process's log."""
        if not self._burying:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether it is the one that runs."""
        return events._get_running_loop() is self  # noqa: SLF001 - as above

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Nothing runs any more."""
        self._closed = True
        self._burying += 1
        self.root.kill()
        self._timers.clear()
        self._runnable.clear()

    @property
    def _net(self) -> Network:
        assert self.network is not None  # noqa: S101 - the simulation sets it first
        return self.network


def _say_nothing(_: object) -> None:
    """What is thrown away may complain of it."""


def _run_inline(done: asyncio.Future[_T], func: Callable[..., _T], args: tuple[Any, ...]) -> None:
    try:
        result = func(*args)
    except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
        if not done.cancelled():
            done.set_exception(error)
    else:
        if not done.cancelled():
            done.set_result(result)
