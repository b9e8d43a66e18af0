"""What sled and gateway share about serving HTTP: a port, errors as JSON, and requests of foreign pages."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from huskies import limits
from huskies.errors import ConfigError, InvalidEventError, StoreError
from huskies.idle import Idle
from huskies.urls import is_loopback

_log = logging.getLogger("huskies.http")
_server_log = logging.getLogger("huskies.http.server")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Ten thousand sleds that lost the same gateway come back within half a second.
_BACKLOG: Final = 4_096

# Of whatever is answered: it is what it says it is, and stands in no page of another origin.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(body: object, status: int = 200) -> web.Response:
    """Any value that msgspec encodes, as JSON."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def error_response(status: int, problem: str) -> web.Response:
    """The JSON `{"error": …}` that every refusal answers with."""
    return json_response({"error": problem}, status)


def is_foreign(request: web.Request, host: str | None = None, *, secure: bool | None = None) -> bool:
    """Whether a page of another origin caused a request; `host`, `secure`: how a trusted proxy was reached.

    A browser names the page's origin in `Origin`; programs send none. An origin is ours where its host and
    port are those that the request was sent to; and where only this machine can reach us, its host is this
    machine: a foreign name may have been pointed here by whoever owns it.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        parts, own = urlsplit(origin), urlsplit(f"//{host or request.host}")
        default = _DEFAULT_PORTS.get(parts.scheme)
        scheme = "https" if (request.secure if secure is None else secure) else "http"
        mine = (scheme, own.hostname, own.port or default)
        same = (parts.scheme, parts.hostname, parts.port or default) == mine
    except ValueError:
        return True
    if not same or parts.hostname is None:
        return True
    if host is not None:
        return False
    local = _local_address(request)
    return local is not None and is_loopback(local) and not is_loopback(parts.hostname)


def came_to_loopback(request: web.Request) -> bool:
    """Whether a request came to an address that only this machine has; not where its connection is gone."""
    return is_loopback(_local_address(request) or "")


def _local_address(request: web.Request) -> str | None:
    found = None if request.transport is None else request.transport.get_extra_info("sockname")
    return None if found is None else str(found[0])


def bearer(request: web.Request) -> str | None:
    """The token of `Authorization: Bearer …`; None where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers what goes wrong in a handler with JSON, and tells nothing of its insides."""
    try:
        return await handler(request)
    except InvalidEventError as error:
        return error_response(422, error.problem)
    except StoreError as error:
        _log.error("a request failed: %s", error, extra={"path": request.path})
        return error_response(503, str(error))
    except web.HTTPException as error:
        answer = error_response(error.status, error.reason)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except TimeoutError:
        return error_response(408, "the request's body did not come in time")
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - reported, and nothing of it told
        return _failed(request, error)


def _failed(request: web.Request, error: Exception) -> web.Response:
    """Answer what nobody expected, or what the client broke off."""
    if isinstance(error, web.RequestPayloadError):
        return error_response(400, "the request's body is damaged, or was cut off")
    is_gone = request.transport is None or request.transport.is_closing()
    if isinstance(error, ConnectionError) and is_gone:
        _log.debug("a client left within its request", extra={"path": request.path})
        # Nobody reads it; aiohttp wants an answer all the same.
        return error_response(400, "the connection ended within the request")
    _log.error("a request failed", exc_info=error, extra={"path": request.path})
    return error_response(500, "internal error; the server's log says more")


async def _guard_answer(request: web.Request, answer: web.StreamResponse) -> None:
    del request
    for name, value in _HEADERS.items():
        # The pages have a policy of their own.
        answer.headers.setdefault(name, value)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether an error that aiohttp logs is this program's; a client's takes one line, for who debugs.

    Else whoever reaches the port could fill the log with tracebacks.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, ConnectionError | HttpProcessingError | web.RequestPayloadError):
        return True
    _log.debug("a client sent what is no request: %s", str(error) or type(error).__name__)
    return False


_server_log.addFilter(_is_ours)


async def serve(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, str]:
    """Start serving; returns what to clean up, and the base URL (port 0: of any free port).

    Raises `ConfigError` where the address cannot be listened on.
    """
    app.on_response_prepare.append(_guard_answer)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_server_log,
        handle_signals=False,
        shutdown_timeout=limits.CLOSE_LIMIT,
        lingering_time=limits.CLOSE_LIMIT,
    )
    Idle().add_to(app, runner)
    await runner.setup()
    try:
        await also_listen(runner, host, port, tls)
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        where = f"--host {host}" if isinstance(error, socket.gaierror) else f"--port {port}"
        raise ConfigError(where, _bind_problem(host, port, error)) from None
    bound = runner.addresses[0][1]
    scheme = "http" if tls is None else "https"
    return runner, f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound}"


async def also_listen(runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext | None) -> None:
    """Serve the same on another address, too; raises `OSError`."""
    reuse = True if os.name == "posix" else None
    await web.TCPSite(runner, host, port, backlog=_BACKLOG, reuse_address=reuse, ssl_context=tls).start()


def _bind_problem(host: str, port: int, error: OSError | OverflowError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return f"{host}:{port} is in use by another program; stop it or choose another --port"
    if code == errno.EACCES:
        return f"this user may not listen on {host}:{port}; choose a --port above 1023"
    return f"{host}:{port} cannot be listened on: {getattr(error, 'strerror', None) or error}"
