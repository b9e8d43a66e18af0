"""Who is connected: admits sleds, lets a newer session end the older, knows how each project stands."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web

from huskies import limits
from huskies.gateway.access.attempts import Attempts
from huskies.gateway.access.guard import OWN
from huskies.gateway.admission import Credential, Policy, RefusedError
from huskies.gateway.board_store import Board, BoardStore
from huskies.gateway.fairness import Fairness
from huskies.gateway.fleet import Fleet
from huskies.gateway.inflow import ProjectInflow
from huskies.gateway.metrics import Metrics
from huskies.gateway.pace import Pace
from huskies.gateway.peers.holders import Holders
from huskies.gateway.push import V1Connection, V2Connection
from huskies.gateway.quota import Quota
from huskies.gateway.snapshots import Snapshots
from huskies.gateway.store.log import Log
from huskies.protocol import wire
from huskies.protocol.gateway import Elsewhere, GatewaySession
from huskies.protocol.peer_wire import Present
from huskies.protocol.vectors import Origin
from huskies.signing import is_signed

_log = logging.getLogger("huskies.push")

# Between two slices of sessions the loop does other work, so that ten thousand idle sleds delay no one.
_TICK_SLICE: Final = 500
# One session ending another is a sled that came back before its old connection was found dead. So often
# within so many seconds, two sleds have the same identity.
_SUPERSEDED_OFTEN: Final = 3
_SUPERSEDED_WITHIN: Final = 600.0


class ProjectState(msgspec.Struct, frozen=True):
    """How a project's sleds stand: `outstanding` is None where no one can know."""

    connected: bool
    outstanding: int | None
    last_seen_ms: int | None
    identity_used_twice: bool


class Sessions:
    """All push connections of one gateway. `now_ms` is the wall clock."""

    def __init__(
        self,
        *,
        log: Log,
        fleet: Fleet,
        boards: BoardStore,
        holders: Holders,
        metrics: Metrics,
        quota: Quota,
        gateway_id: str,
        sign: Callable[[bytes], bytes],
        ask_others: Callable[[Origin], Awaitable[Elsewhere | None]],
        policy: Callable[[], Policy],
        may_push: Callable[[str, str], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self.log = log
        self.metrics = metrics
        self.quota = quota
        self.now_ms = now_ms
        self._fleet = fleet
        self._snapshots = Snapshots(boards.correct)
        self._holders = holders
        holders.listeners.append(self._more_is_held)
        self._gateway_id = gateway_id
        self._sign = sign
        self._ask_others = ask_others
        self._policy = policy
        self._may_push = may_push
        self._v1_epoch = secrets.token_hex(16)
        self._by_sled: dict[str, V2Connection] = {}
        self._by_project: dict[str, set[V1Connection | V2Connection]] = {}
        self._superseded: dict[str, list[float]] = {}
        self._greetings = Pace(at_once=limits.GREETINGS_AT_ONCE, a_second=limits.GREETINGS_A_SECOND)
        self._floods = Attempts(most=limits.FLOODS_MAX, seconds=limits.FLOODS_WITHIN)
        self.fairness = Fairness()
        self._inflows: dict[str, ProjectInflow] = {}
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    def check_room(self, project: str) -> None:
        """Raises `RefusedError` where nothing more is taken of the project now."""
        if project in self.quota.over:
            raise RefusedError(507, self.quota.reason(project))
        if len(self._by_project.get(project, ())) >= limits.CONNECTIONS_PER_PROJECT:
            raise RefusedError(429, f"project {project} has as many sleds connected as it may have")
        now = asyncio.get_running_loop().time()
        wait = self._floods.wait(project, now) or self._greetings.wait(project, now)
        if wait:
            raise RefusedError(
                429, f"the sleds of project {project} connect too often: try again in {wait} s"
            )

    def inflow(self, project: str) -> ProjectInflow:
        """What all connections of the project have on the way into the log."""
        found = self._inflows.get(project)
        if found is None:
            found = ProjectInflow(self.log, self.fairness, project)
            self._inflows[project] = found
        return found

    def flooded(self, project: str) -> None:
        """A sled of the project was cut off for a flood."""
        self.metrics.refused("flood")
        _log.warning("cut a sled off that sends nothing but pings", extra={"project": project})
        self._floods.failed(project, asyncio.get_running_loop().time())

    async def serve(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        project: str,
        credential: Credential | None,
    ) -> None:
        """Carry a connection whose upgrade was accepted, by `credential` if one was shown, until it ends."""
        connection: V1Connection | V2Connection
        if socket.ws_protocol == wire.SUBPROTOCOL:
            core = GatewaySession(
                project=project,
                gateway_id=self._gateway_id,
                nonce=secrets.token_hex(32),
                verify=is_signed,
                sign=self._sign,
                now=asyncio.get_running_loop().time(),
            )
            connection = V2Connection(self, project, socket, request, core)
        else:
            if self._policy().takes_enrolled(project):
                await socket.close(code=wire.CLOSE_POLICY, message=b"the sleds of this project are enrolled")
                return
            admitted = await self.log.admit(self._v1_sled_id(project), self._v1_epoch, project)
            assert not isinstance(admitted, str)  # noqa: S101 - the identity is made from the project
            connection = V1Connection(self, project, socket, request, admitted[0])
        connection.credential = credential
        self._by_project.setdefault(project, set()).add(connection)
        self._empty.clear()
        self.metrics.connections(connection.version, 1)
        _log.info("a sled connected", extra={"project": project, "protocol": connection.version})
        try:
            if not self._may_go_on(self._policy(), project, connection):
                # Revoked while the connection was being made.
                self._revoke(connection)
            if self._draining:
                self._drain(connection)
            await connection.serve()
        finally:
            self._forget(connection)

    async def admit(self, connection: V2Connection, hello: wire.Hello) -> None:
        """Let the sled in whose signature holds, unless it belongs to another project."""
        sled_id = hello.sled_id.lower()
        if not self._is_enrolled(connection, sled_id):
            reason = f"this sled is not one of those enrolled for project {connection.project}"
            connection.apply_now(connection.core.unauthorized(reason))
            return
        older = self._by_sled.get(sled_id)
        if older is not None and older.stream is not None and older.project != connection.project:
            # Not the sled's own newer session: it ends nothing.
            reason = f"this sled belongs to project {older.project}"
            connection.apply_now(connection.core.unauthorized(reason))
            return
        self._by_sled[sled_id] = connection
        connection.sled_id = sled_id
        if older is not None and older is not connection:
            self._supersede(older)
        previous = [entry for entry in hello.previous if entry.epoch != hello.epoch]
        admitted = await self.log.admit(sled_id, hello.epoch, connection.project, previous)
        if isinstance(admitted, str):
            connection.apply_now(connection.core.unauthorized(f"this sled belongs to project {admitted}"))
            return
        connection.stream, last_seq = admitted
        self.quota.registered(self.log.streams)
        await connection.apply(connection.core.admitted(last_seq))
        self._say_held(connection)

    def end_revoked(self) -> None:
        """End the sessions whose sleds may not push any more."""
        policy = self._policy()
        for project, connections in list(self._by_project.items()):
            for connection in list(connections):
                if not self._may_go_on(policy, project, connection):
                    self._revoke(connection)

    def _may_go_on(self, policy: Policy, project: str, connection: V1Connection | V2Connection) -> bool:
        credential = connection.credential
        if credential is not None and not policy.holds(credential, project):
            return False
        if isinstance(connection, V2Connection) and not connection.sled_id:
            # It is greeting; what it may is looked at then.
            return True
        if policy.takes_enrolled(project):
            return isinstance(connection, V2Connection) and self._is_enrolled(connection, connection.sled_id)
        return credential is not None or not policy.takes_tokens(project)

    @staticmethod
    def _revoke(connection: V1Connection | V2Connection) -> None:
        reason = f"pushing for project {connection.project} was revoked"
        if isinstance(connection, V2Connection):
            connection.apply_now(connection.core.unauthorized(reason))
        else:
            connection.close(wire.CLOSE_POLICY, reason)

    def _is_enrolled(self, connection: V2Connection, sled_id: str) -> bool:
        project, credential = connection.project, connection.credential
        is_own = credential is not None and credential.name.startswith(OWN)
        return is_own or not self._policy().takes_enrolled(project) or self._may_push(project, sled_id)

    async def ask_others(self, connection: V2Connection) -> None:
        """The log lacks what a sled no longer holds: ask the other gateways how far they have it."""
        stream = connection.stream
        assert stream is not None  # noqa: S101 - the core asks only once the log has been asked
        others = await self._ask_others(stream.origin)
        # Meanwhile some of it may have come.
        admitted = await self.log.admit(stream.sled_id, stream.epoch, stream.project)
        assert not isinstance(admitted, str)  # noqa: S101 - it was admitted before
        connection.stream, last_seq = admitted
        connection.apply_now(connection.core.told(last_seq, others))

    def end_session(self, sled_id: str) -> None:
        """The sled has come back to another gateway: what it sent here before is all that comes."""
        connection = self._by_sled.get(sled_id)
        if connection is not None:
            connection.inflow.hand_over()
            connection.apply_now(connection.core.superseded())

    def _more_is_held(self, held: Mapping[Origin, int]) -> None:
        """Other gateways hold more: the sleds that wait for that are told."""
        for sled_id, epoch in held:
            connection = self._by_sled.get(sled_id)
            if connection is not None and connection.stream is not None and connection.stream.epoch == epoch:
                self._say_held(connection)

    def _say_held(self, connection: V2Connection) -> None:
        core, stream = connection.core, connection.stream
        if core.copies > 1 and stream is not None:
            held = self._holders.seq(stream.origin, core.committed_seq, core.copies)
            connection.apply_now(core.held(held))

    def snapshot(self, connection: V2Connection, snapshot: wire.Snapshot) -> None:
        """Correct the board by what a sled says of all its stories, and keep that for the next start."""
        stream = connection.stream
        assert stream is not None  # noqa: S101 - the core takes a snapshot only after admission
        self._snapshots.take(Board(stream, snapshot.seq, self.now_ms(), snapshot.stories))

    def conflict(self, connection: V2Connection, seq: int) -> None:
        """A sled sent another content under an identity that the log holds: say it loudly."""
        self.metrics.refused("conflict")
        # What came is kept too, beside the log; how much that is, only the next start counts.
        self.quota.add(connection.project, limits.FRAME_BYTES_MAX)
        _log.error(
            "the same identity came with other content; what came is in quarantine",
            extra={"project": connection.project, "sled_id": connection.sled_id, "seq": seq},
        )

    def note_end(self, connection: V2Connection, reason: str) -> None:
        """The gateway ends a session: say why."""
        self.metrics.refused("session")
        _log.warning("ended a sled's session: %s", reason, extra={"project": connection.project})

    def state(self, project: str) -> ProjectState:
        """How the project's sleds stand right now."""
        connections = _let_in(self._by_project.get(project, set()))
        known = self._fleet.projects.get(project)
        last_seen_ms = self.now_ms() if connections else known.last_seen_ms if known is not None else None
        return ProjectState(
            connected=bool(connections),
            outstanding=_outstanding(connections),
            last_seen_ms=last_seen_ms,
            identity_used_twice=any(
                isinstance(connection, V2Connection) and self._is_used_twice(connection.sled_id)
                for connection in connections
            ),
        )

    def present(self) -> list[Present]:
        """The projects that a sled is connected for, and what is outstanding of each."""
        return [
            Present(project, _outstanding(connections))
            for project, found in self._by_project.items()
            if (connections := _let_in(found))
        ]

    def projects(self) -> set[str]:
        """The projects that a sled is connected for."""
        return {project for project, connections in self._by_project.items() if _let_in(connections)}

    async def tick(self) -> None:
        """Let every session notice that time passed; call it once a second."""
        connections = list(self._by_sled_or_greeting())
        for start in range(0, len(connections), _TICK_SLICE):
            now = asyncio.get_running_loop().time()
            for connection in connections[start : start + _TICK_SLICE]:
                connection.apply_now(connection.core.tick(now))
            await asyncio.sleep(0)

    def forget_board(self, project: str) -> None:
        """A board that its sled said, and that has not been taken yet, is not taken any more."""
        self._snapshots.drop(project)

    def drain(self) -> None:
        """The gateway stops: tell every sled, after acknowledging what it sent."""
        self._draining = True
        self._snapshots.flush()
        for connections in list(self._by_project.values()):
            for connection in list(connections):
                self._drain(connection)

    async def gone(self, seconds: float) -> None:
        """Wait until no sled is connected any more, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    def _is_used_twice(self, sled_id: str) -> bool:
        times = self._superseded.get(sled_id, [])
        recent = asyncio.get_running_loop().time() - _SUPERSEDED_WITHIN
        return len([at for at in times if at > recent]) >= _SUPERSEDED_OFTEN

    @staticmethod
    def _drain(connection: V1Connection | V2Connection) -> None:
        if isinstance(connection, V2Connection):
            connection.apply_now(connection.core.draining())
        else:
            connection.close(wire.CLOSE_GOING_AWAY, "the gateway is stopping")

    def _supersede(self, older: V2Connection) -> None:
        sled_id = older.sled_id
        times = self._superseded.setdefault(sled_id, [])
        times[:] = [*times[1 - _SUPERSEDED_OFTEN :], asyncio.get_running_loop().time()]
        if self._is_used_twice(sled_id):
            _log.error(
                "an identity is used twice: two sleds end each other's sessions",
                extra={"project": older.project, "sled_id": sled_id},
            )
        # What it took in this turn goes to the log ahead of the newer session's admission.
        older.inflow.hand_over()
        older.apply_now(older.core.superseded())

    def _forget(self, connection: V1Connection | V2Connection) -> None:
        connection.inflow.hand_over()
        connections = self._by_project.get(connection.project, set())
        connections.discard(connection)
        if not connections:
            self._by_project.pop(connection.project, None)
            self._inflows.pop(connection.project, None)
        if not self._by_project:
            self._empty.set()
        if isinstance(connection, V2Connection) and self._by_sled.get(connection.sled_id) is connection:
            del self._by_sled[connection.sled_id]
        if _let_in([connection]):
            self._fleet.seen(connection.project, self.now_ms())
        self.metrics.connections(connection.version, -1)
        _log.info("a sled disconnected", extra={"project": connection.project})

    def _by_sled_or_greeting(self) -> list[V2Connection]:
        return [
            connection
            for connections in self._by_project.values()
            for connection in connections
            if isinstance(connection, V2Connection)
        ]

    def _v1_sled_id(self, project: str) -> str:
        # An identity of the gateway's own: stable for the project, and never another gateway's.
        return hashlib.sha256(f"huskies v1\n{self._gateway_id}\n{project}".encode()).hexdigest()


def _let_in(connections: Iterable[V1Connection | V2Connection]) -> list[V1Connection | V2Connection]:
    """Those that are more than a greeting, which may be anyone's."""
    return [one for one in connections if isinstance(one, V1Connection) or one.stream is not None]


def _outstanding(connections: Sequence[V1Connection | V2Connection]) -> int | None:
    total = 0
    for connection in connections:
        if not isinstance(connection, V2Connection) or connection.stream is None:
            return None
        core = connection.core
        total += max(core.replayed_through, core.received_seq) - core.committed_seq
    return total if connections else None
