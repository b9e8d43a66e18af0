"""The gateway: its parts put together, started and stopped."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huskies import limits
from huskies.config import GatewaySettings, ProjectsFile
from huskies.containers.engine import Engine
from huskies.errors import StoreError
from huskies.gateway.access.enrolling import Enrolling
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.gate import Gate
from huskies.gateway.access.guard import Guard
from huskies.gateway.access.live import LiveReaders
from huskies.gateway.access.people import People
from huskies.gateway.access.pushing import PushPolicy
from huskies.gateway.admission import Admission
from huskies.gateway.api import Api
from huskies.gateway.board_store import BoardStore
from huskies.gateway.boards import ProjectView, project_views
from huskies.gateway.bridge import Bridge
from huskies.gateway.feed import Feed
from huskies.gateway.forgetting import Forgetting
from huskies.gateway.identity import settled_key
from huskies.gateway.keys import gateway_id
from huskies.gateway.lock import locked
from huskies.gateway.making import Making
from huskies.gateway.metrics import Metrics
from huskies.gateway.new_projects import NewProjects
from huskies.gateway.notifications import Notifications
from huskies.gateway.peers.holders import Holders
from huskies.gateway.peers.peers import Peers
from huskies.gateway.policy import PolicyFile
from huskies.gateway.sessions import Sessions
from huskies.gateway.statistics import Statistics
from huskies.gateway.store import views
from huskies.gateway.store.blocks import Block
from huskies.gateway.store.history import History
from huskies.gateway.store.index import IndexReader
from huskies.gateway.store.keeper import Keeper
from huskies.gateway.store.log import Log
from huskies.gateway.store.refold import refold
from huskies.gateway.store.retention import Rules
from huskies.httpd import errors_as_json, serve
from huskies.protocol.gateway import Elsewhere
from huskies.protocol.vectors import Origin
from huskies.storage.commits import CommitThread, StartCommits
from huskies.tls import Certificate
from huskies.urls import is_loopback

_log = logging.getLogger("huskies.gateway")

_TICK_INTERVAL: Final = 1.0
_EXPIRY_TURNS: Final = 10
# How long sleds have for taking the last acks and closing, of the SHUTDOWN_LIMIT for everything.
_DRAIN_LIMIT: Final = 2.0


class Gateway:
    """One gateway in `settings.data_dir`. `start`, then `wait`; `stop` may be called at any time after."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        slow_after: float = limits.SLOW_READER_LIMIT,
        commits: StartCommits = CommitThread,
    ) -> None:
        self._settings = settings
        self._commits = commits
        self.slow_after = slow_after
        self.ready = False
        # While its log is filled from other gateways, it takes no sleds.
        self.refilling = False
        self.url = ""
        self.metrics = Metrics()
        self._urls: dict[str, str] = {}
        self._certificate: Certificate | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._refolding = asyncio.Lock()
        # What was opened, to be closed in the opposite order.
        self._opened = AsyncExitStack()
        self._ended: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Open the log and listen; raises `ConfigError` where a setting, directory or port is unusable."""
        settings = self._settings
        self._ended = asyncio.get_running_loop().create_future()
        try:
            self._opened.enter_context(locked(settings.data_dir))
            self._policy = PolicyFile(settings.data_dir)
            if settings.tls_cert is not None and settings.tls_key is not None:
                self._certificate = Certificate(settings.tls_cert, settings.tls_key)
            self._open_access()
            self.admission = Admission(loopback=is_loopback(settings.host))
            self.admission.check_start(self.push_policy(), settings.host)
            await self._open_log()
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._tick())
        self._spawn(self._keep_access())
        self._spawn(self.bridge.keep(lambda: bool(self._making.made())))
        self._spawn(self.keeper.run())
        self._spawn(
            views.follow(
                index=self.index,
                fleet=self.fleet,
                feed=self.feed,
                history=self.history,
                log=self.log,
                quota=self.quota,
                metrics=self.metrics,
                fairness=self.sessions.fairness,
            )
        )
        self.peers.start(self._spawn)
        if self.log.position == 0 and self.peers.are_named:
            self.refilling = True
            self._spawn(self._refill())
        self.ready = True
        _log.info("the gateway listens", extra={"url": self.url, "data_dir": str(settings.data_dir)})

    async def wait(self) -> None:
        """Until `stop`; raises `StoreError` as soon as the log cannot be written any more."""
        assert self._ended is not None, "start the gateway first"  # noqa: S101 - a caller's mistake
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Acknowledge what was accepted, tell sleds and readers, and close everything."""
        self.ready = False
        await self._opened.aclose()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def policy(self) -> ProjectsFile:
        """What projects.toml says now."""
        return self._policy.current()

    def own_token(self, project: str) -> str:
        """A token for the project's sled in this process (`huskies up`)."""
        return self.guard.own(project)

    def push_policy(self) -> PushPolicy:
        """Who may push, as projects.toml and the tokens say now."""
        return PushPolicy(self.policy(), self.guard)

    def add_project(self, name: str, url: str) -> None:
        """Show a project's own address although projects.toml does not list it (`huskies up`)."""
        self._urls[name] = url

    def project_views(self) -> list[ProjectView]:
        """What `GET /gateway/projects` shows."""
        listed = {name: entry.url for name, entry in self.policy().projects.items()}
        elsewhere = self.peers.presence.elsewhere(asyncio.get_running_loop().time())
        return project_views({**self._urls, **listed}, self.fleet, self.sessions, self.log, elsewhere)

    # --- starting ----------------------------------------------------------------------------------

    def _open_access(self) -> None:
        directory = self._settings.data_dir
        reader, self._access = AccessFile(directory), AccessFile(directory)
        self._opened.callback(reader.close)
        self._opened.callback(self._access.close)
        self._access_lock = asyncio.Lock()
        loopback = is_loopback(self._settings.host)
        self.guard = Guard(reader, self._access, loopback=loopback, now_ms=now_ms)
        # What is read in the event loop from now on waits for nobody.
        reader.wait_no_more()
        self._opened.callback(self.guard.write)
        self.gate = Gate(self.guard, reach=self._policy.reach, metrics=self.metrics, now_ms=now_ms)
        self.readers = LiveReaders()

    async def _open_log(self) -> None:
        directory = self._settings.data_dir
        self.index = views.open_index(directory)
        self._opened.callback(self.index.close)
        lookup = IndexReader(self.index)
        self._opened.callback(lookup.close)
        self.log = Log(
            directory,
            lookup=lookup,
            published=self._published,
            failed=self._failed,
            now_ms=now_ms,
            commits=self._commits,
        )
        self.history = History(self.log.path, self.log.log_id, self.index, self.log.streams, self.log.damaged)
        self._opened.callback(self.history.close)
        self._opened.push_async_callback(self.log.stop)
        self.fleet = await views.restore(self.index, self.history, self.log)
        self._opened.callback(lambda: views.keep(self.index, self.fleet))
        self.feed = Feed(self.log.log_id, self.log.position, self.log.chain)
        self.statistics = Statistics(self.index.path, self.log.log_id, self.fleet, now_ms)
        self.boards = BoardStore(self.log, self.fleet)
        await self.boards.load()
        self.metrics.opened(self.log.position, self.index.position)
        self.log.on_cut.append(lambda stream: self._spawn(self._refold(stream.origin)))
        self.log.on_repaired.append(
            lambda block: views.take_repaired(self.index, self.fleet, block, self.log)
        )
        self.quota = await views.measured(self.index, self.log, self._quota_bytes())
        self.keeper = Keeper(
            log=self.log,
            index=self.index,
            fleet=self.fleet,
            quota=self.quota,
            metrics=self.metrics,
            rules=Rules(self._settings.retain_ms, self._settings.retain_bytes),
        )
        key = await settled_key(self.log, directory)
        self.holders = Holders()
        self.sessions = Sessions(
            log=self.log,
            fleet=self.fleet,
            boards=self.boards,
            holders=self.holders,
            metrics=self.metrics,
            quota=self.quota,
            gateway_id=gateway_id(key),
            sign=key.sign,
            ask_others=self._ask_others,
            policy=self.push_policy,
            may_push=self.guard.may_push,
            now_ms=now_ms,
        )
        self.peers = self._make_peers(key)

    def _quota_bytes(self) -> int:
        settings = self._settings
        if settings.quota_bytes is not None:
            return settings.quota_bytes
        return shutil.disk_usage(settings.data_dir).total // limits.QUOTA_OF_DISK

    async def _ask_others(self, origin: Origin) -> Elsewhere | None:
        return await self.peers.ask(origin)

    def _make_peers(self, key: Ed25519PrivateKey) -> Peers:
        settings, policy = self._settings, self.policy()
        return Peers(
            log=self.log,
            feed=self.feed,
            history=self.history,
            boards=self.boards,
            holders=self.holders,
            key=key,
            policy=lambda: self.policy().peers,
            urls=tuple(dict.fromkeys((*settings.peers, *policy.peers.urls))),
            token=settings.peer_token,
            tls_ca=settings.tls_ca,
            loopback=is_loopback(settings.host),
            present=self.sessions.present,
            end_session=self.sessions.end_session,
            lets_replicate=self.guard.lets_replicate,
            now_ms=now_ms,
        )

    async def _listen(self) -> None:
        app = web.Application(middlewares=[errors_as_json, self.gate.middleware], client_max_size=1 << 16)
        app.add_routes(Api(self).routes())
        app.add_routes(People(self.gate, self._access, self._access_lock).routes())
        enrolling = Enrolling(
            self.gate, self._access, self._access_lock, gateway_id=lambda: self.peers.gateway_id
        )
        app.add_routes(enrolling.routes())
        app.add_routes(Notifications(self._settings.data_dir, self.gate, now_ms).routes())
        tls = None if self._certificate is None else self._certificate.context
        self.new_projects = self._make_new_projects()
        app.add_routes(self.new_projects.routes())
        runner, self.url = await serve(app, self._settings.host, self._settings.port, tls)
        self._opened.push_async_callback(self._cancel_tasks)
        self._opened.push_async_callback(runner.cleanup)
        self._opened.push_async_callback(self._say_goodbye)
        self.bridge.serve_by(runner, urlsplit(self.url).port or 0, tls)
        self._opened.push_async_callback(self.new_projects.stop)

    def _make_new_projects(self) -> NewProjects:
        engine = Engine()
        forgetting = Forgetting(
            log=self.log, index=self.index, fleet=self.fleet, quota=self.quota, sessions=self.sessions
        )
        self.bridge = Bridge(self._settings.host, engine)
        self._making = Making(
            data_dir=self._settings.data_dir,
            own_url=lambda: self.url,
            gateway_id=lambda: self.peers.gateway_id,
            policy=self.policy,
            guard=self.guard,
            writer=self._access,
            lock=self._access_lock,
            bridge=self.bridge,
            is_connected=lambda name: self.sessions.state(name).connected,
            forget_history=forgetting.forget,
            now_ms=now_ms,
        )
        return NewProjects(self.gate, self._making, engine)

    async def _say_goodbye(self) -> None:
        self.feed.close()
        self.sessions.drain()
        await self.peers.stop()
        await self.sessions.gone(_DRAIN_LIMIT)

    async def _cancel_tasks(self) -> None:
        # What is cut from now on is folded again at the next start.
        self.log.on_cut.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    # --- running -----------------------------------------------------------------------------------

    def _published(self, blocks: list[Block]) -> None:
        if not blocks:
            return
        streams = self.log.streams
        for block in blocks:
            self.fleet.apply_block(block, streams)
        self.quota.appended(blocks, streams)
        self.metrics.appended(sum(block.count for block in blocks), blocks[-1].last_position)
        self.feed.publish(blocks, streams)

    def _failed(self, error: StoreError) -> None:
        # Whatever else finds the same out says it no second time.
        if self._ended is None or self._ended.done():
            return
        # Nothing more is acknowledged: the sleds keep everything until a gateway can.
        _log.critical("the log cannot be written: %s", error)
        self.ready = False
        self._ended.set_exception(error)

    async def _refold(self, origin: Origin) -> None:
        async with self._refolding:
            await refold(self.fleet, self.log, origin)

    async def _refill(self) -> None:
        if not await self.peers.refill():
            _log.warning("no other gateway could be asked what was in the log; it begins empty")
        self.refilling = False

    async def _keep_access(self) -> None:
        """End what was revoked, and write down what happened."""
        said: tuple[ProjectsFile, int] | None = None
        for turn in itertools.count():
            await asyncio.sleep(limits.ACCESS_POLL)
            self.guard.refresh()
            before, said = said, (self.policy(), self.guard.reloads)
            if self._certificate is not None:
                self._certificate.refresh()
            # What expires by itself is looked at less often: ten thousand sleds take a while.
            if said != before or turn % _EXPIRY_TURNS == 0:
                self.sessions.end_revoked()
                self.readers.end_revoked(self.gate.holds)
                self.peers.end_revoked(self.guard.is_valid)
            if self.guard.has_news:
                async with self._access_lock:
                    await asyncio.to_thread(self.guard.write)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_INTERVAL)
            await self.sessions.tick()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        problem = task.exception()
        if isinstance(problem, StoreError):
            # The store's, of which it asked something: said in one line.
            self._failed(problem)
            return
        _log.critical("a part of the gateway failed", exc_info=problem)
        self._failed(StoreError(str(problem)))


def now_ms() -> int:
    """The wall clock, in Unix milliseconds."""
    return time.time_ns() // 1_000_000
