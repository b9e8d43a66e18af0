"""Lets requests in: finds out who asks, and whether that one may (`access.guard` knows)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from huskies import limits
from huskies.gateway.access import proxies
from huskies.gateway.access.attempts import Attempts
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.guard import ANYONE, Caller, Guard
from huskies.gateway.access.proxies import Origin
from huskies.gateway.admission import RefusedError
from huskies.gateway.metrics import Metrics
from huskies.gateway.pace import Pace
from huskies.gateway.policy import Reach
from huskies.gateway.stats_view import STATS_PATH
from huskies.httpd import Handler, bearer, came_to_loopback, error_response, is_foreign
from huskies.protocol import wire
from huskies.protocol.enrolment import ENROL_PATH
from huskies.protocol.peer_wire import PEERS_PATH
from huskies.urls import is_loopback

_log = logging.getLogger("huskies.access")

LOGIN_PATH: Final = "/login"
LOGOUT_PATH: Final = "/logout"
# Below it messages are sent again.
NOTIFICATIONS_PATH: Final = "/gateway/notifications"
# With the prefix a browser keeps it for this host and TLS alone, whatever a neighbour sets.
COOKIE: Final = "huskies"
SECURE_COOKIE: Final = "__Host-huskies"


class Need(Enum):
    """What a request needs."""

    # Nothing, or something that its handler looks at: a sled's token, an invitation.
    NOTHING = auto()
    READ = auto()
    READ_ALL = auto()
    ADMIN = auto()


_NEEDS: Final = {
    wire.EVENTS_PATH: Need.READ,
    wire.PROJECTS_PATH: Need.READ,
    STATS_PATH: Need.READ,
    NOTIFICATIONS_PATH: Need.READ,
    "/gateway/digests": Need.READ_ALL,
    PEERS_PATH: Need.READ_ALL,
    "/metrics": Need.READ_ALL,
    "/": Need.READ,
    wire.TOKENS_PATH: Need.NOTHING,
    wire.PUSH_PATH: Need.NOTHING,
    ENROL_PATH: Need.NOTHING,
    "/healthz": Need.NOTHING,
    "/readyz": Need.NOTHING,
    "/openapi.json": Need.NOTHING,
    LOGIN_PATH: Need.NOTHING,
    LOGOUT_PATH: Need.NOTHING,
}
# What begins a connection of a sled or a gateway, or registers one.
_HANDSHAKES: Final = frozenset((wire.TOKENS_PATH, wire.PUSH_PATH, PEERS_PATH, ENROL_PATH))
_PUBLIC: Final = "/static/"
CONTAINERS_PATH: Final = "/gateway/containers"
# What is asked of one project's container, by what stands behind its name.
_METHODS_BELOW: Final = {"": "DELETE", "stop": "POST", "start": "POST", "logs": "GET"}
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429
_SAID_MAX: Final = 200


class _Asked(msgspec.Struct):
    """What the gate found out about a request."""

    origin: Origin
    caller: Caller | None = None


_ASKED: Final = web.RequestKey("asked", _Asked)


def is_of_containers(method: str, path: str) -> bool:
    """Whether a request makes, changes or looks into containers."""
    if path == CONTAINERS_PATH:
        return method == "GET"
    if path == wire.PROJECTS_PATH:
        return method == "POST"
    _, below, rest = path.partition(f"{wire.PROJECTS_PATH}/")
    if not below:
        return False
    return method == _METHODS_BELOW.get(rest.partition("/")[2])


def need_of(request: web.Request) -> Need:
    """What a request needs; what nobody thought of needs everything."""
    if request.path.startswith(_PUBLIC):
        return Need.NOTHING
    if request.path == PEERS_PATH and "Upgrade" in request.headers:
        return Need.NOTHING
    if request.method == "POST" and request.path.startswith(f"{NOTIFICATIONS_PATH}/"):
        return Need.ADMIN
    if is_of_containers(request.method, request.path):
        return Need.ADMIN
    return _NEEDS.get(request.path, Need.READ_ALL)


class Gate:
    """The way in. `reach` is what `[access]` of projects.toml says now; `now_ms` is the wall clock."""

    def __init__(
        self,
        guard: Guard,
        *,
        reach: Callable[[], Reach],
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self.guard = guard
        self._reach = reach
        self._metrics = metrics
        self.now_ms = now_ms
        self._under_way: Counter[str] = Counter()
        self._failures = Attempts(most=limits.FAILED_LOGINS_MAX, seconds=limits.FAILED_LOGINS_WITHIN)
        self._handshakes = Pace(at_once=limits.HANDSHAKES_AT_ONCE, a_second=limits.HANDSHAKES_A_SECOND)
        self._refusals = Attempts(most=limits.REFUSALS_SAID, seconds=limits.FAILED_LOGINS_WITHIN)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who may not; handlers find the caller in `caller_of`."""
        self.guard.refresh()
        asked = request[_ASKED] = _Asked(self._origin(request))
        address = asked.origin.address
        try:
            self._check_room(request, asked.origin)
            self._check_origin(request)
            asked.caller = self._admit(request)
        except RefusedError as error:
            return self.refused(request, error)
        self._under_way[address] += 1
        try:
            return await handler(request)
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]

    def refused(self, request: web.Request, error: RefusedError) -> web.Response:
        """Answer who may not, and say so in the log and the audit."""
        self.say_refused(request, error)
        if error.status == _UNAUTHORIZED and request.path == "/":
            return web.Response(status=303, headers={"Location": LOGIN_PATH, "Cache-Control": "no-store"})
        answer = error_response(error.status, error.problem)
        if error.status == _UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="huskies"'
        return answer

    def say_refused(self, request: web.Request, error: RefusedError) -> None:
        """Say in the log and the audit that someone was refused; after too many, in the metrics alone."""
        self._metrics.refused("access")
        if error.status == _TOO_MANY or not self.may_say(request):
            return
        address = origin_of(request).address
        self.note(request, "refused", request.path if request.path in _NEEDS else "", outcome=error.problem)
        _log.warning("refused a request: %s", error.problem, extra={"path": request.path, "peer": address})

    def may_say(self, request: web.Request) -> bool:
        """Whether one more refusal of this address is to be said."""
        address, now = origin_of(request).address, asyncio.get_running_loop().time()
        if self._refusals.wait(address, now):
            return False
        self._refusals.failed(address, now)
        return True

    def note(
        self, request: web.Request, action: str, subject: str, *, who: str = "", outcome: str = "ok"
    ) -> None:
        """Keep what a request did for the audit."""
        self.guard.note(
            Entry(
                at_ms=self.now_ms(),
                who=_said(who),
                action=action,
                subject=_said(subject),
                outcome=_said(outcome),
                address=_said(origin_of(request).address),
            )
        )

    # --- guessing ----------------------------------------------------------------------------------

    def failed(self, request: web.Request) -> RefusedError:
        """A secret was tried that is none: the refusal, which no longer says so after too many."""
        address, now = origin_of(request).address, asyncio.get_running_loop().time()
        wait = self._failures.wait(address, now)
        if wait:
            problem = f"too many failed attempts from this address: try again in {wait} s"
            return RefusedError(_TOO_MANY, problem)
        self._failures.failed(address, now)
        return RefusedError(_UNAUTHORIZED, "the token is unknown, revoked or has expired")

    def _check_room(self, request: web.Request, origin: Origin) -> None:
        address = origin.address
        if origin.direct and is_loopback(address):
            return
        if self._under_way[address] >= limits.REQUESTS_PER_ADDRESS:
            raise RefusedError(
                _TOO_MANY, "too many requests from this address are under way: try again later"
            )
        if request.path not in _HANDSHAKES:
            return
        wait = self._handshakes.wait(address, asyncio.get_running_loop().time())
        if wait:
            raise RefusedError(_TOO_MANY, f"sleds connect too often from this address: try again in {wait} s")

    # --- who ---------------------------------------------------------------------------------------

    def _admit(self, request: web.Request) -> Caller | None:
        need = need_of(request)
        if need is Need.NOTHING:
            return None
        caller = self._caller(request)
        if caller is None:
            raise RefusedError(
                _UNAUTHORIZED, "a token is needed: `huskies token create NAME --scope read` makes one"
            )
        if not caller.scopes.may_read_something:
            raise RefusedError(403, f"{caller.who} may not read here")
        if need is Need.ADMIN and not caller.scopes.admin:
            raise RefusedError(403, f"{caller.who} may read, and change nothing here")
        if need is Need.READ_ALL and not caller.scopes.reads_all:
            raise RefusedError(403, f"{caller.who} may read single projects, and not this")
        return caller

    def _caller(self, request: web.Request) -> Caller | None:
        secret = bearer(request)
        if secret is not None:
            caller = self.guard.by_token(secret)
            if caller is None and not self.is_open_to(request):
                raise self.failed(request)
            return caller or self._anyone(request)
        login = cookie_of(request)
        if login is not None and (caller := self.guard.by_login(login)) is not None:
            return caller
        return self._named_by_proxy(request) or self._anyone(request)

    def _anyone(self, request: web.Request) -> Caller | None:
        """Who needs no name: someone on this machine, as long as no token says who may read.

        Not whoever comes through a proxy, listed or not, nor a page whose name was pointed at this machine.
        """
        return ANYONE if self.is_open_to(request) else None

    def is_open_to(self, request: web.Request) -> bool:
        """Whether a request may read without saying who it comes from."""
        if not self.guard.is_open or not origin_of(request).direct:
            return False
        return not _may_be_pointed_anywhere(request.headers.get("Host", ""))

    def _named_by_proxy(self, request: web.Request) -> Caller | None:
        """Whom a trusted proxy has authenticated."""
        reach = self._reach()
        if reach.user_header is None or not origin_of(request).proxied:
            return None
        named = request.headers.getall(reach.user_header, [])
        # Of two one is the client's own.
        user = _said(named[0].strip()) if len(named) == 1 else ""
        return Caller(f"{user} (proxy)", reach.user_scopes, by_proxy=True) if user else None

    def holds(self, caller: Caller) -> bool:
        """Whether what the caller may do holds still; whom a proxy named is otherwise the proxy's to end."""
        if not caller.by_proxy:
            return self.guard.holds(caller)
        reach = self._reach()
        return reach.user_header is not None and reach.user_scopes == caller.scopes

    # --- from where --------------------------------------------------------------------------------

    def _origin(self, request: web.Request) -> Origin:
        return proxies.seen(
            remote=request.remote or "",
            # A gateway on loopback may listen where containers reach it, too, which is not this machine.
            local=came_to_loopback(request),
            secure=request.secure,
            host=request.host,
            headers=request.headers,
            trusted=self._reach().trusted,
        )

    def _check_origin(self, request: web.Request) -> None:
        """A browser's page of another origin changes nothing, opens no stream or socket, embeds nothing."""
        origin, allowed = request.headers.get("Origin"), self._reach().origins
        if origin is None:
            if _is_embedded(request):
                raise RefusedError(403, "what is here is for no page of another origin to embed")
            return
        opens = "Upgrade" in request.headers or request.path in (wire.EVENTS_PATH, wire.PUSH_PATH)
        if request.method in ("GET", "HEAD") and not opens:
            return
        seen = origin_of(request)
        foreign = is_foreign(request, seen.host, secure=seen.secure) if seen.proxied else is_foreign(request)
        if (origin not in allowed) if allowed else foreign:
            raise RefusedError(403, "requests from pages of another origin are refused")


def _is_embedded(request: web.Request) -> bool:
    """Whether a page of another origin asks without saying which, as `<script>` and `no-cors` do.

    It cannot read what comes, but keeps a stream open, and its process holds what it was sent. That a person
    follows a link is none of that. Over plain HTTP browsers say so to loopback alone (Fetch Metadata).
    """
    if request.headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
        return False
    return request.headers.get("Sec-Fetch-Dest") != "document"


def _may_be_pointed_anywhere(host: str) -> bool:
    """Whether a `Host` is a name that someone can own, and point at any address; one label is nobody's."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return True
    return "." in name and not name.endswith(".localhost") and not _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _said(text: str) -> str:
    """As much of a text as is worth keeping; a header may hold bytes that are no text."""
    return text[:_SAID_MAX].encode("utf-8", "replace").decode()


def origin_of(request: web.Request) -> Origin:
    """Where a request that came through the gate comes from."""
    return request[_ASKED].origin


def cookie_of(request: web.Request) -> str | None:
    """The session that a browser's cookie names; over TLS only one that nobody else can have set."""
    return request.cookies.get(SECURE_COOKIE if origin_of(request).secure else COOKIE)


def caller_of(request: web.Request) -> Caller:
    """Who asks, where the gate let only those in who may."""
    caller = request[_ASKED].caller
    assert caller is not None  # noqa: S101 - the gate asked for one
    return caller
