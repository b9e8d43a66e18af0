"""The sled's own HTTP side (SPEC 3): recent events for pollers, events from other programs, health."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from huskies import limits
from huskies.errors import ConfigError, InvalidEventError, StoreError
from huskies.sled.broadcast import StatusBroadcaster
from huskies.sled.intake import parsed
from huskies.sled.outbox import Outbox
from huskies.sled.relay import RelayStatus

_log = logging.getLogger("huskies.sled")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What `GET /healthz` answers; `protocol` is `v1`, `v2` or null before the first session."""

    status: str = "ok"
    name: str
    sled_id: str
    epoch: str
    relay: str
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
            client_max_size=limits.EVENT_BODY_BYTES_MAX, middlewares=[_errors, _same_origin]
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
            return _error(422, f"since: expected Unix milliseconds, got `{since[:64]}`")
        events = await self._outbox.events_since(int(since))
        return web.Response(body=b"[" + b",".join(events) + b"]", content_type="application/json")

    async def _publish(self, request: web.Request) -> web.Response:
        receipt = await self._broadcaster.publish(parsed(await request.read()))
        return _json(201, receipt)

    async def _health(self, _: web.Request) -> web.Response:
        head = self._outbox.head
        status = self._status()
        health = Health(
            name=self._name,
            sled_id=head.sled_id,
            epoch=head.epoch,
            relay=status.state,
            protocol=status.protocol,
            last_seq=head.last_seq,
            unacked=head.unacked,
            set_aside=self._outbox.set_aside_count,
            last_error=status.last_error,
        )
        return _json(200, health)


class Server:
    """Serves an application on one port."""

    def __init__(self, app: web.Application, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self._host = host
        self._port = port

    async def start(self) -> str:
        """Begin to serve; returns the base URL. Raises `ConfigError` where the address cannot be used."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise _unusable(self._host, self._port, error) from None
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Finish what is being answered, briefly, and close."""
        await self._runner.cleanup()


def _unusable(host: str, port: int, error: Exception) -> ConfigError:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return ConfigError(f"port {port}", f"is in use on {host}; expected a free one (0 picks one)")
    if code == errno.EACCES:
        return ConfigError(f"port {port}", "may not be used by this user")
    return ConfigError(f"{host}:{port}", f"cannot be listened on: {error}")


@web.middleware
async def _same_origin(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A web page from elsewhere may not publish here, whatever the browser lets it send."""
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD") and origin is not None and not _is_own(origin, request.host):
        return _error(403, "requests from another origin are refused")
    return await handler(request)


def _is_own(origin: str, host: str) -> bool:
    try:
        parts, own = urlsplit(origin), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(parts.scheme)
        same = (parts.hostname, parts.port or default) == (own.hostname, own.port or default)
    except ValueError:
        return False
    return same and parts.hostname is not None


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidEventError as error:
        return _error(422, error.problem)
    except StoreError as error:
        return _error(503, str(error))
    except web.HTTPException as error:
        return _error(error.status, error.reason, error.headers.get("Allow"))
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:  # noqa: BLE001 - the client is told, the log has the rest
        _log.exception("A request failed unexpectedly.")
        return _error(500, "an unexpected error, see the sled's log")


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _error(status: int, problem: str, allow: str | None = None) -> web.Response:
    response = _json(status, {"error": problem})
    if allow is not None:
        response.headers["Allow"] = allow
    return response
