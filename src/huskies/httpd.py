"""What sled and gateway share about serving HTTP: binding a port, errors as JSON, and foreign origins."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from huskies import limits
from huskies.errors import ConfigError

_log = logging.getLogger("huskies.http")


def json_response(body: object, status: int = 200) -> web.Response:
    """Any msgspec-encodable value as JSON."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def error_response(status: int, problem: str) -> web.Response:
    """The JSON `{"error": …}` that every refusal answers with."""
    return json_response({"error": problem}, status)


def is_foreign(request: web.Request) -> bool:
    """Whether a page of another origin caused this request.

    A browser names the page's origin in `Origin`; programs send none. An origin is ours where its host and
    port are those the request was sent to.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower()


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Start serving; the port is the one bound where 0 asked for any free one.

    Raises `ConfigError` naming the address where it cannot be bound.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=limits.CLOSE_LIMIT,
        keepalive_timeout=75,
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=4_096, reuse_address=os.name == "posix")
    try:
        await site.start()
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        raise ConfigError(f"--port {port}", _bind_problem(host, port, error)) from None
    sockets = site._server.sockets if site._server is not None else ()  # type: ignore[attr-defined]  # noqa: SLF001 - aiohttp has no public way to learn the port bound
    bound = next((s.getsockname()[1] for s in sockets if s.family in (socket.AF_INET, socket.AF_INET6)), port)
    return runner, int(bound)


def _bind_problem(host: str, port: int, error: OSError | OverflowError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is in use by another program; stop it or choose another --port"
    return f"{host}:{port} cannot be listened on: {getattr(error, 'strerror', None) or error}"


@web.middleware
async def errors_as_json(request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's own type is as loose
    """Answers what goes wrong in a handler with JSON, and nothing of its insides."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - redirects and the like are answers, not errors
            raise
        answer = error_response(error.status, error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception:  # noqa: BLE001 - reported, and nothing of it told
        _log.exception("a request failed", extra={"path": request.path})
        return error_response(500, "internal error; the server's log says more")
    return response


def bearer(request: web.Request) -> str | None:
    """The token of `Authorization: Bearer …`; None where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
