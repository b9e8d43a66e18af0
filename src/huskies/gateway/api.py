"""The gateway's HTTP side (SPEC 4): one handler for each endpoint, each short."""

from __future__ import annotations

import asyncio
import logging
import secrets
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from huskies import limits
from huskies.config import PROJECT_NAME_RULE
from huskies.errors import CursorError
from huskies.events.model import EVENT_TYPES
from huskies.events.names import is_project_name
from huskies.gateway import metrics, stats_view
from huskies.gateway.access.gate import caller_of, origin_of
from huskies.gateway.admission import Policy, RefusedError
from huskies.gateway.openapi import document
from huskies.gateway.sse import EventStream
from huskies.gateway.stats_view import STATS_PATH
from huskies.gateway.store import cursors
from huskies.gateway.store.digests import DIGESTS_PATH, DigestsAnswer, all_digests, digest_at
from huskies.gateway.store.history import Page, Place
from huskies.gateway.store.selection import Filter
from huskies.httpd import bearer, error_response, json_response
from huskies.protocol import wire
from huskies.protocol.peer_wire import PEERS_PATH

if TYPE_CHECKING:
    from huskies.gateway.server import Gateway

_log = logging.getLogger("huskies.http")

_CONTENT_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_FILES: Final = resources.files("huskies.gateway").joinpath("static")
# The login page is served by who decides about logins.
_STATIC: Final = {
    "/" if file.name == "index.html" else f"/static/{file.name}": file.name
    for file in _FILES.iterdir()
    if PurePosixPath(file.name).suffix in _CONTENT_TYPES and file.name != "login.html"
}
# What stands in the page for whoever logged in.
_LOGOUT_PLACE: Final = b"<!-- logout -->"
_LOGOUT: Final = (
    b'<form class="logout" method="post" action="/logout"><button type="submit">Log out</button></form>'
)
_SEQ_MAX: Final = 2**53
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With `no-referrer` a browser says `Origin: null` of the page's own forms, which are refused then.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Api:
    """The handlers of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is served where."""
        return [
            web.post(wire.TOKENS_PATH, self.make_token),
            web.get(wire.PUSH_PATH, self.push, allow_head=False),
            web.get(wire.EVENTS_PATH, self.events, allow_head=False),
            web.get(wire.PROJECTS_PATH, self.projects),
            web.get(STATS_PATH, self.stats, allow_head=False),
            web.get(DIGESTS_PATH, self.digests, allow_head=False),
            web.get(PEERS_PATH, self.peers, allow_head=False),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/openapi.json", self.openapi),
            *(web.get(path, self.static) for path in _STATIC),
        ]

    # --- sleds -------------------------------------------------------------------------------------

    async def make_token(self, request: web.Request) -> web.Response:
        """`POST /gateway/tokens`."""
        secret = secrets.token_urlsafe(limits.JOIN_TOKEN_BYTES)
        now = asyncio.get_running_loop().time()
        try:
            if self._gateway.refilling:
                raise RefusedError(503, "this gateway is being filled from others; try again")  # noqa: TRY301 - answered below
            self._gateway.admission.issue(self._gateway.push_policy(), bearer(request), secret, now)
        except RefusedError as error:
            return self._refused(request, error)
        return json_response({"token": secret, "expires_in": int(limits.JOIN_TOKEN_LIFETIME)})

    async def push(self, request: web.Request) -> web.StreamResponse:
        """`GET /gateway/events/push`."""
        project = request.query.get("project", "")
        socket = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,),
            timeout=limits.CLOSE_LIMIT,
            autoping=False,
            compress=False,
            # One more, since aiohttp refuses a frame of just this size; both versions check the rest.
            max_msg_size=limits.FRAME_BYTES_MAX + 1,
            decode_text=False,
        )
        try:
            policy = self._gateway.push_policy()
            ready = socket.can_prepare(request)
            _check_push(project, policy, is_v2=ready.protocol == wire.SUBPROTOCOL or not ready.ok)
            secret = bearer(request) or request.query.get("token")
            asked = (policy, secret, project, asyncio.get_running_loop().time())
            direct = origin_of(request).direct
            if not ready.ok:
                # Only an upgrade consumes a token.
                self._gateway.admission.check(*asked, direct=direct)
                raise RefusedError(426, "this endpoint is a WebSocket")  # noqa: TRY301 - answered below
            credential = self._gateway.admission.redeem(*asked, direct=direct)
            self._gateway.sessions.check_room(project)
        except RefusedError as error:
            return self._refused(request, error, project)
        await socket.prepare(request)
        await self._gateway.sessions.serve(request, socket, project, credential)
        return socket

    async def peers(self, request: web.Request) -> web.StreamResponse:
        """`GET /gateway/peers`: how the other gateways stand, and where they connect."""
        if "Upgrade" not in request.headers:
            peers = self._gateway.peers
            return json_response({"gateway_id": peers.gateway_id, "peers": peers.states()})
        try:
            is_open = self._gateway.guard.is_open and origin_of(request).direct
            token = self._gateway.peers.check(bearer(request), is_open=is_open)
            return await self._gateway.peers.accept(request, token)
        except RefusedError as error:
            self._gateway.metrics.refused("peer")
            self._gateway.gate.say_refused(request, error)
            return error_response(error.status, error.problem)

    # --- readers -----------------------------------------------------------------------------------

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /gateway/events`: a stream or a page, as `Accept` says."""
        caller = caller_of(request)
        try:
            wanted = msgspec.structs.replace(_filter(request), allowed=caller.scopes.reads)
            if wanted.project is not None and not caller.scopes.may_read(wanted.project):
                return error_response(403, f"{caller.who} may not read project {wanted.project}")
            if "text/event-stream" in request.headers.get("Accept", "").lower():
                if len(self._gateway.readers) >= limits.READERS_MAX:
                    return error_response(503, "too many streams are open; try again later")
                with self._gateway.readers.reading(caller):
                    return await self._stream(request, wanted)
            return await self._page(request, wanted)
        except (CursorError, ValueError) as error:
            return error_response(422, str(error))

    async def _stream(self, request: web.Request, wanted: Filter) -> web.StreamResponse:
        gateway = self._gateway
        last_id = request.headers.get("Last-Event-ID")
        try:
            place = await self._place(last_id or request.query.get("after"))
        except CursorError:
            if not last_id:
                raise
            # A browser gives up for good when it is refused; it is told to start again instead.
            place = msgspec.structs.replace(
                await gateway.history.beginning(), reset="the last id is no cursor of this log"
            )
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        response.force_close()
        await response.prepare(request)
        gateway.metrics.readers(1)
        try:
            stream = EventStream(
                request=request,
                response=response,
                wanted=wanted,
                feed=gateway.feed,
                history=gateway.history,
                streams=gateway.log.streams,
                slow_after=gateway.slow_after,
            )
            await stream.run(place)
        except ConnectionError:
            pass  # the reader went away, which is how streams end
        finally:
            gateway.metrics.readers(-1)
        return response

    async def _page(self, request: web.Request, wanted: Filter) -> web.Response:
        history = self._gateway.history
        limit = _number(request, "limit", 1, limits.PAGE_EVENTS_MAX) or limits.PAGE_EVENTS_DEFAULT
        before = request.query.get("before")
        after = request.query.get("after")
        if before is not None and after is not None:
            raise ValueError("expected `after` or `before`, not both")
        place = Place(self._gateway.feed.head.position + 1)
        text = before if before is not None else after or "0"
        if text != "latest":
            place = await self._place(text) or Place(0)
        elif before is None:
            raise ValueError("`latest` goes with `before`")
        if place.reset is not None:
            return error_response(409, place.reset)
        if before is not None:
            return _page_response(await history.page_before(wanted, place.position, limit))
        return _page_response(await history.page_after(wanted, place.position, limit, place.gap))

    async def _place(self, text: str | None) -> Place | None:
        if text is None:
            return None
        if text == "0":
            return await self._gateway.history.beginning()
        return await self._gateway.history.place(cursors.parse(text), self._gateway.feed.head.position)

    async def projects(self, request: web.Request) -> web.Response:
        """`GET /gateway/projects`."""
        scopes = caller_of(request).scopes
        # The cursor tells a page that follows the stream which events this answer has seen.
        head = self._gateway.feed.head
        views = [view for view in self._gateway.project_views() if scopes.may_read(view.name)]
        return json_response({"projects": views, "cursor": str(head)})

    async def stats(self, request: web.Request) -> web.Response:
        """`GET /gateway/stats`."""
        caller = caller_of(request)
        try:
            asked = stats_view.parse(request.query)
        except ValueError as error:
            return error_response(422, str(error))
        if asked.project is not None and not caller.scopes.may_read(asked.project):
            return error_response(403, f"{caller.who} may not read project {asked.project}")
        return json_response(await self._gateway.statistics.answer(asked, caller.scopes))

    async def digests(self, request: web.Request) -> web.Response:
        """`GET /gateway/digests`: every sequence of the log, or one up to a seq."""
        gateway = self._gateway
        sled_id, epoch = request.query.get("sled_id"), request.query.get("epoch")
        try:
            seq = _number(request, "seq", 1, _SEQ_MAX)
        except ValueError as error:
            return error_response(422, str(error))
        if sled_id is not None and epoch is not None:
            found = await digest_at(gateway.log, (sled_id, epoch), seq)
        elif sled_id is None and epoch is None and seq is None:
            found = await all_digests(gateway.log)
        else:
            return error_response(422, "expected sled_id and epoch together, and seq only with them")
        return json_response(DigestsAnswer(gateway.peers.gateway_id, gateway.log.log_id, found))

    # --- the rest ----------------------------------------------------------------------------------

    async def healthz(self, request: web.Request) -> web.Response:
        """`GET /healthz`: the process is alive."""
        del request
        return json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """`GET /readyz`: sleds may push and readers read."""
        del request
        gateway = self._gateway
        if gateway.ready and gateway.refilling:
            return json_response({"status": "being filled from other gateways"}, 503)
        return json_response(
            {"status": "ready" if gateway.ready else "stopping"}, 200 if gateway.ready else 503
        )

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`."""
        del request
        self._gateway.metrics.damaged(len(self._gateway.log.damaged))
        body = self._gateway.metrics.render()
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def openapi(self, request: web.Request) -> web.Response:
        """`GET /openapi.json`."""
        del request
        return json_response(document())

    async def static(self, request: web.Request) -> web.Response:
        """The dashboard's few files, from the package."""
        name = _STATIC[request.path]
        content_type = _CONTENT_TYPES[PurePosixPath(name).suffix]
        body = _FILES.joinpath(name).read_bytes()
        if name == "index.html" and caller_of(request).login is not None:
            body = body.replace(_LOGOUT_PLACE, _LOGOUT)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_PAGE_HEADERS)

    def _refused(self, request: web.Request, error: RefusedError, project: str = "") -> web.Response:
        self._gateway.metrics.refused("admission")
        answer = error_response(error.status, error.problem)
        if not self._gateway.gate.may_say(request):
            return answer
        name = project if is_project_name(project) else ""
        address = origin_of(request).address
        # Names that someone made up would push out what the audit is for.
        known = name in self._gateway.fleet.projects
        outcome = error.problem if known else f"HTTP {error.status}"
        self._gateway.gate.note(request, "refused a sled", name if known else "", outcome=outcome)
        _log.warning(
            "refused a sled: %s",
            error.problem,
            extra={"project": name, "status": error.status, "peer": address},
        )
        return answer


def _check_push(project: str, policy: Policy, *, is_v2: bool) -> None:
    if not is_project_name(project):
        raise RefusedError(422, f"project: {PROJECT_NAME_RULE}")
    if policy.takes_enrolled(project) and not is_v2:
        raise RefusedError(403, f"the sleds of project {project} are enrolled, which an older sled cannot be")


def _page_response(page: Page) -> web.Response:
    tail: dict[str, object] = {"next": None if page.next is None else str(page.next)}
    if page.gap is not None:
        tail["gap"] = {"from": page.gap[0], "to": page.gap[1]}
    shown = b",".join(event.json for event in page.events)
    body = b'{"events":[%b],%b' % (shown, msgspec.json.encode(tail)[1:])
    return web.Response(body=body, content_type="application/json")


def _filter(request: web.Request) -> Filter:
    kind = request.query.get("type")
    if kind is not None and kind not in EVENT_TYPES:
        raise ValueError(f"type: expected one of {', '.join(EVENT_TYPES)}")
    project = request.query.get("project")
    if project is not None and not is_project_name(project):
        raise ValueError(f"project: {PROJECT_NAME_RULE}")
    return Filter(
        project=project,
        type=kind,
        story=request.query.get("story"),
        since=_number(request, "since", 0, limits.TIMESTAMP_MS_MAX),
        until=_number(request, "until", 0, limits.TIMESTAMP_MS_MAX),
    )


def _number(request: web.Request, name: str, least: int, most: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise ValueError(f"{name}: expected a whole number from {least} to {most}")
    return int(text)
