"""Logging in with a token, and out again; the page for it works without any script."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from huskies import limits
from huskies.gateway.access import logins
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.gate import (
    COOKIE,
    LOGIN_PATH,
    LOGOUT_PATH,
    SECURE_COOKIE,
    Gate,
    cookie_of,
    origin_of,
)
from huskies.gateway.access.guard import Caller
from huskies.gateway.admission import RefusedError

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With `no-referrer` a browser says `Origin: null` of the page's own forms, which are refused then.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PROBLEM: Final = "<!-- problem -->"
_FOUND: Final = 303
_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS_MAX: Final = 10


class People:
    """The handlers. `writer` is `access.db` for one thread at a time, which `lock` keeps."""

    def __init__(self, gate: Gate, writer: AccessFile, lock: asyncio.Lock) -> None:
        self._gate = gate
        self._writer = writer
        self._lock = lock

    def routes(self) -> list[web.RouteDef]:
        """What is served where."""
        return [
            web.get(LOGIN_PATH, self.page),
            web.post(LOGIN_PATH, self.log_in),
            web.post(LOGOUT_PATH, self.log_out),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """`GET /login`."""
        if self._gate.is_open_to(request):
            return _to("/")
        return _page("")

    async def log_in(self, request: web.Request) -> web.Response:
        """`POST /login` with `token`: a cookie that stands for it, or the page again, which says why not."""
        secret = await _token_in(request)
        caller = None if secret is None else self._gate.guard.by_token(secret)
        if caller is None or caller.token is None:
            refusal = self._gate.failed(request)
            await asyncio.sleep(limits.FAILED_LOGIN_DELAY)
            return self._refused(request, refusal)
        if not caller.scopes.may_read_something:
            return self._refused(request, RefusedError(403, "this token may not read; it is for a program"))
        cookie = await self._begin(caller.token)
        self._gate.note(request, "login", "", who=caller.who)
        return self._with_cookie(request, _to("/"), cookie, limits.LOGIN_LIFETIME_MS // 1_000)

    async def log_out(self, request: web.Request) -> web.Response:
        """`POST /logout`: the cookie stands for nothing any more."""
        cookie = cookie_of(request)
        caller: Caller | None = None if cookie is None else self._gate.guard.by_login(cookie)
        if cookie is not None and caller is not None:
            async with self._lock:
                await asyncio.to_thread(logins.end, self._writer, cookie)
            self._gate.note(request, "logout", "", who=caller.who)
        return self._with_cookie(request, _to(LOGIN_PATH), "", 0)

    async def _begin(self, token: str) -> str:
        async with self._lock:
            cookie = await asyncio.to_thread(
                lambda: logins.begin(
                    self._writer,
                    token,
                    now_ms=self._gate.now_ms(),
                    lifetime_ms=limits.LOGIN_LIFETIME_MS,
                )
            )
        self._gate.guard.refresh()
        return cookie

    def _refused(self, request: web.Request, refusal: RefusedError) -> web.Response:
        self._gate.say_refused(request, refusal)
        return _page(refusal.problem, refusal.status)

    @staticmethod
    def _with_cookie(request: web.Request, answer: web.Response, cookie: str, seconds: int) -> web.Response:
        secure = origin_of(request).secure
        answer.set_cookie(
            SECURE_COOKIE if secure else COOKIE,
            cookie,
            max_age=seconds,
            path="/",
            secure=secure,
            httponly=True,
            # Links to the dashboard, from a chat say, are to work; nothing is changed by following one.
            samesite="Lax",
        )
        return answer


async def _token_in(request: web.Request) -> str | None:
    """The token in the form that the page sends; None where the body is no such form.

    Not `request.post()`: it takes other kinds of forms too, and fails in many ways where they are none.
    """
    async with asyncio.timeout(limits.BODY_LIMIT):
        body = await request.read()
    if request.content_type != _FORM:
        return None
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_FIELDS_MAX)
    except ValueError:
        return None
    return fields.get("token", [""])[0].strip() or None


def _to(path: str) -> web.Response:
    return web.Response(status=_FOUND, headers={"Location": path, "Cache-Control": "no-store"})


def _page(problem: str, status: int = 200) -> web.Response:
    text = resources.files("huskies.gateway").joinpath("static", "login.html").read_text("utf-8")
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return web.Response(
        text=text.replace(_PROBLEM, told), status=status, content_type="text/html", headers=_HEADERS
    )
