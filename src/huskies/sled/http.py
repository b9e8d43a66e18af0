"""The sled's own HTTP side (SPEC 3): recent events for pollers, events from other programs, health."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from huskies import limits
from huskies.errors import InvalidEventError
from huskies.httpd import Handler, error_response, errors_as_json, is_foreign, json_response
from huskies.sled.broadcast import StatusBroadcaster
from huskies.sled.intake import parsed
from huskies.sled.outbox import Outbox
from huskies.sled.relay import RelayStatus


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /healthz` answers.

    `gateway` is the URL of the one that the relay is connected to, or null; `protocol` is `v1`, `v2` or null
    before the first session.
    """

    status: str = "ok"
    name: str
    sled_id: str
    epoch: str
    relay: str
    gateway: str | None
    protocol: str | None
    last_seq: int
    unacked: int
    set_aside: int
    last_error: str | None


class SledHttp:
    """The handlers of one sled; `status` says how its relay is doing."""

    def __init__(
        self, *, name: str, outbox: Outbox, broadcaster: StatusBroadcaster, status: Callable[[], RelayStatus]
    ) -> None:
        self._name = name
        self._outbox = outbox
        self._broadcaster = broadcaster
        self._status = status

    def app(self) -> web.Application:
        """The application that serves them."""
        app = web.Application(
            client_max_size=limits.EVENT_BODY_BYTES_MAX, middlewares=[errors_as_json, _same_origin]
        )
        app.router.add_get("/api/events", self._recent)
        app.router.add_post("/api/events", self._publish)
        app.router.add_get("/healthz", self._health)
        return app

    async def _recent(self, request: web.Request) -> web.Response:
        # At `since` or later: a poller passes the newest time it has seen, and what else happened in that
        # millisecond must not be lost to it.
        since = request.query.get("since", "0")
        # Longer ones are no time that an event can have; `int` would take any.
        if not (since.isascii() and since.isdigit() and len(since) <= len(str(limits.TIMESTAMP_MS_MAX))):
            return error_response(422, f"since: expected Unix milliseconds, got `{since[:64]}`")
        events = await self._outbox.events_since(int(since))
        return web.Response(body=b"[" + b",".join(events) + b"]", content_type="application/json")

    async def _publish(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            limit = limits.EVENT_BODY_BYTES_MAX
            raise InvalidEventError(f"the event is larger than {limit} bytes") from None
        return json_response(await self._broadcaster.publish(parsed(body)), 201)

    async def _health(self, _: web.Request) -> web.Response:
        head = self._outbox.head
        status = self._status()
        health = Health(
            name=self._name,
            sled_id=head.sled_id,
            epoch=head.epoch,
            relay=status.state,
            gateway=status.gateway,
            protocol=status.protocol,
            last_seq=head.last_seq,
            unacked=head.unacked,
            set_aside=self._outbox.set_aside_count,
            last_error=status.last_error,
        )
        return json_response(health)


@web.middleware
async def _same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A web page from elsewhere may not publish here, whatever the browser lets it send."""
    if request.method not in ("GET", "HEAD") and is_foreign(request):
        return error_response(403, "requests from pages of another origin are refused")
    return await handler(request)
