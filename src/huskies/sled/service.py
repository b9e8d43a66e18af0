"""The sled as a whole: puts the parts of one project together, starts and stops them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from aiohttp import web
from filelock import BaseFileLock

from huskies.config import SledSettings
from huskies.errors import ConfigError, StoreError
from huskies.events.model import StatusEvent
from huskies.events.names import is_project_name, make_project_name
from huskies.httpd import serve
from huskies.limits import PROJECT_NAME_MAX
from huskies.sled.broadcast import Receipt, StatusBroadcaster
from huskies.sled.follow import Follower
from huskies.sled.http import SledHttp
from huskies.sled.keys import Keyring
from huskies.sled.layout import Layout, ensure_state
from huskies.sled.opening import open_store
from huskies.sled.outbox import Outbox, draw_epoch
from huskies.sled.outbox_store import Keeping
from huskies.sled.pins import load_pins
from huskies.sled.relay import Relay, RelayStatus
from huskies.sled.relay_connect import Connector
from huskies.sled.spool_drain import SpoolDrain
from huskies.sled.state import lock_state
from huskies.sled.watch import DirectoryWatch, StartWatch
from huskies.storage.commits import CommitThread, StartCommits
from huskies.tls import trusted

_log = logging.getLogger("huskies.sled")


class Sled:
    """One project's sled. Many can run in one event loop; each is started and stopped once."""

    def __init__(
        self,
        settings: SledSettings,
        *,
        commits: StartCommits = CommitThread,
        watch: StartWatch = DirectoryWatch,
    ) -> None:
        self._settings = settings
        self._commits = commits
        self._watch = watch
        self._layout = Layout(settings.project_dir)
        self._name = settings.name or make_project_name(self._layout.project_dir.name)
        self._url = ""
        self._lock: BaseFileLock | None = None
        self._outbox: Outbox | None = None
        self._server: web.AppRunner | None = None
        self._relay: Relay | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None
        self._over = asyncio.Event()
        self.broadcaster = StatusBroadcaster(self._record)

    @property
    def name(self) -> str:
        """The project's name."""
        return self._name

    @property
    def url(self) -> str:
        """Where the sled answers, such as `http://127.0.0.1:3001`; empty before it was started."""
        return self._url

    @property
    def sled_id(self) -> str:
        """The public key in hex under which events are recorded now; empty before the sled was started."""
        return "" if self._outbox is None else self._outbox.head.sled_id

    async def start(self) -> None:
        """Open the outbox, serve, follow the pipeline and relay.

        Raises `ConfigError` where a setting, the directory, its state or the port cannot be used,
        `StoreError` where the outbox cannot be written.
        """
        if not is_project_name(self._name):
            raise ConfigError(
                "name", f"expected 1 to {PROJECT_NAME_MAX} of A-Z a-z 0-9 . _ -, got `{self._name[:80]}`"
            )
        token = self._settings.sled_token
        ca = self._settings.tls_ca
        connectors = [Connector(url, token, tls=trusted(url, ca)) for url in self._settings.gateway_urls]
        try:
            await self._start(connectors)
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Until the sled was stopped. Raises `StoreError` as soon as its store has failed."""
        await self._over.wait()
        if self._failure is not None:
            raise self._failure
        await self._stopped.wait()

    async def stop(self) -> None:
        """Record what was published, end subscribers and sessions, release the state directory."""
        self._stopping = True
        if self._server is not None:
            await self._server.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._outbox is not None:
            await self._outbox.stop()
        self.broadcaster.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._over.set()
        self._stopped.set()

    async def _start(self, connectors: Sequence[Connector]) -> None:
        ensure_state(self._layout)
        self._lock = lock_state(self._layout)
        keyring = Keyring(self._layout.keys)
        store, identity = open_store(self._layout, self._name, keyring, draw_epoch)
        seen, drained = store.seen(), store.drained()
        outbox = self._outbox = Outbox(
            store,
            identity=identity,
            keyring=keyring,
            relay_rate_limits=self._settings.relay_rate_limits,
            keep=Keeping(ms=self._settings.keep_acked_ms, copies=self._settings.keep_until_held_by),
            now_ms=_now_ms,
            announce=self.broadcaster.announce,
            failed=self._fail,
            commits=self._commits,
        )
        spool = SpoolDrain(self._layout, outbox, self._name, drained)
        await spool.tidy()
        http = SledHttp(name=self._name, outbox=outbox, broadcaster=self.broadcaster, status=self._status)
        self._server, self._url = await serve(http.app(), self._settings.host, self._settings.port)
        follower = Follower(
            layout=self._layout,
            project=self._name,
            outbox=outbox,
            spool=spool,
            seen=seen,
            watch=self._watch,
        )
        # Whoever is told that the sled runs may rely on it: what moves from now on is seen to move.
        await follower.look()
        self._run(follower.run())
        if connectors:
            pins = load_pins(self._layout)
            self._relay = Relay(connectors, outbox, pins=pins, clock=asyncio.get_running_loop().time)
            self._run(self._relay.run())
        _log.info("The sled of %s answers at %s.", self._name, self._url, extra={"project": self._name})

    async def _record(self, event: StatusEvent) -> Receipt:
        if self._outbox is None:
            raise StoreError(f"{self._layout.outbox}: the sled was not started")
        return await self._outbox.publish(event)

    def _status(self) -> RelayStatus:
        return RelayStatus() if self._relay is None else self._relay.status

    def _run(self, part: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(part)
        task.add_done_callback(self._part_ended)
        self._tasks.append(task)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        error = None if task.cancelled() else task.exception()
        self._fail(error or RuntimeError("a part of the sled ended by itself"))

    def _fail(self, error: BaseException) -> None:
        """Nothing more can be recorded, or a part broke: the process has to end."""
        if self._failure is None:
            self._failure = error
            _log.error("The sled cannot go on: %s", error, extra={"project": self._name})
            self._over.set()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
