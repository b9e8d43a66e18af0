"""`/gateway/projects` where it changes something, and `/gateway/containers`: projects made and taken down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from huskies import limits
from huskies.containers import repository
from huskies.containers.engine import Engine
from huskies.containers.errors import (
    EngineUnreachableError,
    InvalidProjectError,
    NameTakenError,
    ProjectError,
    UnknownProjectError,
)
from huskies.containers.images import Images
from huskies.containers.keys import own_ssh_key
from huskies.containers.launch import Launcher, Result
from huskies.containers.projects import ProjectContainer, Projects
from huskies.containers.wanted import Wanted, is_new_name, parse
from huskies.gateway.access.gate import CONTAINERS_PATH, Gate, caller_of
from huskies.gateway.making import Making
from huskies.httpd import json_response
from huskies.protocol import wire

_log = logging.getLogger("huskies.http")

NDJSON: Final = "application/x-ndjson"
_STATUSES: Final = (
    (InvalidProjectError, 422),
    (NameTakenError, 409),
    (UnknownProjectError, 404),
    (EngineUnreachableError, 503),
)
_FAILED: Final = 502
# Seconds between looks whether whoever asked is still there.
_LOOK_INTERVAL: Final = 0.5
# How long what is under way has to be undone when the gateway stops, of SHUTDOWN_LIMIT for everything.
_STOP_LIMIT: Final = 2.5
_LINES_DEFAULT: Final = 200
LINES_MAX: Final = 10_000
_FLAGS: Final = {"true": True, "false": False}


class ContainersAnswer(msgspec.Struct):
    """The containers of projects."""

    containers: list[ProjectContainer]


class RemovedAnswer(msgspec.Struct):
    """What was removed, in words."""

    removed: list[str]


class ProjectErrorAnswer(msgspec.Struct):
    """Why it was not done, and what was made and is still there."""

    error: str
    left: list[str] = []


class NewProjects:
    """The handlers of one gateway."""

    def __init__(self, gate: Gate, making: Making, engine: Engine) -> None:
        self._gate = gate
        self._making = making
        self._engine = engine
        self.launcher = Launcher(making, engine, Images(engine))
        self._projects = Projects(making, engine, self.launcher)
        self._under_way: set[asyncio.Task[Result]] = set()

    def routes(self) -> list[web.RouteDef]:
        """What is served where."""
        one = f"{wire.PROJECTS_PATH}/{{name}}"
        return [
            web.post(wire.PROJECTS_PATH, self.create),
            web.delete(one, self.remove),
            web.post(f"{one}/stop", self.stop_one),
            web.post(f"{one}/start", self.start_one),
            web.get(f"{one}/logs", self.logs, allow_head=False),
            web.get(CONTAINERS_PATH, self.list_all, allow_head=False),
        ]

    async def stop(self) -> None:
        """Give up what is under way, and wait until it is undone."""
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            _, pending = await asyncio.wait(self._under_way, timeout=_STOP_LIMIT)
            for task in pending:
                task.add_done_callback(lambda _: self._engine.close())
        await asyncio.to_thread(self._engine.close)

    # --- making ------------------------------------------------------------------------------------

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /gateway/projects`: lines as it goes on, where `Accept` says so, or one answer."""
        try:
            wanted = await self._filled(parse(await _body(request)))
        except ProjectError as error:
            return _refusal(error)
        if NDJSON in request.headers.get("Accept", "").lower():
            return await self._create_told(request, wanted)
        try:
            return json_response(await self._made(request, wanted, _tell_nobody), 201)
        except ProjectError as error:
            return _refusal(error)

    async def _create_told(self, request: web.Request, wanted: Wanted) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": NDJSON, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        response.force_close()
        await response.prepare(request)

        async def tell(line: object) -> None:
            await response.write(msgspec.json.encode(line) + b"\n")

        async def tell_step(step: str, text: str) -> None:
            await tell({"step": step, "text": text, "done": False})

        # Whoever left has given it up.
        with contextlib.suppress(ConnectionError):
            try:
                await tell({"result": await self._made(request, wanted, tell_step)})
            except ProjectError as error:
                await tell(ProjectErrorAnswer(str(error), list(error.left)))
        return response

    async def _made(
        self, request: web.Request, wanted: Wanted, tell: Callable[[str, str], Awaitable[None]]
    ) -> Result:
        """Make it, and tell of it; given up where whoever asked leaves (`ConnectionError`)."""
        who, outcome = caller_of(request).who, "given up"
        said, news = deque[tuple[str, str]](), asyncio.Event()

        def say(step: str, text: str) -> None:
            said.append((step, text))
            news.set()

        task = asyncio.create_task(self.launcher.launch(wanted, who=who, say=say))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(lambda _: news.set())
        try:
            while said or not task.done():
                news.clear()
                while said:
                    await tell(*said.popleft())
                await _wait_for(news)
                _check_is_there(request)
            if task.cancelled():
                raise ProjectError("the gateway stops, and the project was given up; try again when it runs")  # noqa: TRY301 - see finally
            result = task.result()
            outcome = "ok"
        except ProjectError as error:
            outcome = str(error)
            raise
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._gate.note(request, "project new", wanted.name, who=who, outcome=outcome)
        return result

    async def _filled(self, wanted: Wanted) -> Wanted:
        """With the git identity and the key of the gateway's own user, where nothing is said of them."""
        key = wanted.ssh_key
        return msgspec.structs.replace(
            wanted,
            git_name=wanted.git_name or await repository.configured("user.name"),
            git_email=wanted.git_email or await repository.configured("user.email"),
            ssh_key=await asyncio.to_thread(own_ssh_key, Path.home()) if key is None else key,
        )

    # --- what is there -----------------------------------------------------------------------------

    async def list_all(self, request: web.Request) -> web.Response:
        """`GET /gateway/containers`."""
        del request
        try:
            return json_response(ContainersAnswer(await self._projects.all()))
        except ProjectError as error:
            return _refusal(error)

    async def stop_one(self, request: web.Request) -> web.Response:
        """`POST /gateway/projects/NAME/stop`."""
        return await self._changed(request, "project stop", self._projects.stop)

    async def start_one(self, request: web.Request) -> web.Response:
        """`POST /gateway/projects/NAME/start`."""
        return await self._changed(request, "project start", self._projects.start)

    async def remove(self, request: web.Request) -> web.Response:
        """`DELETE /gateway/projects/NAME`, with `directory=true` its directory, with `history=true` that."""

        async def act(name: str) -> RemovedAnswer:
            directory, history = _flag(request, "directory"), _flag(request, "history")
            return RemovedAnswer(await self._projects.remove(name, directory=directory, history=history))

        return await self._changed(request, "project remove", act)

    async def logs(self, request: web.Request) -> web.Response:
        """`GET /gateway/projects/NAME/logs`."""
        text = request.query.get("lines", str(_LINES_DEFAULT))
        try:
            name = _name(request)
            is_number = text.isascii() and text.isdigit() and len(text) <= len(str(LINES_MAX))
            if not is_number or int(text) > LINES_MAX:
                raise InvalidProjectError(f"lines: expected a whole number from 0 to {LINES_MAX}")
            return web.Response(text=await self._projects.logs(name, int(text)))
        except ProjectError as error:
            return _refusal(error)

    async def _changed(
        self, request: web.Request, action: str, act: Callable[[str], Awaitable[object]]
    ) -> web.Response:
        outcome, name = "ok", ""
        try:
            name = _name(request)
            return json_response(await act(name))
        except ProjectError as error:
            outcome = str(error)
            return _refusal(error)
        finally:
            self._gate.note(request, action, name, who=caller_of(request).who, outcome=outcome)


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(limits.BODY_LIMIT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise InvalidProjectError("the body is larger than a project's can be") from None


async def _tell_nobody(step: str, text: str) -> None:
    _log.debug("%s: %s", step, text)


async def _wait_for(news: asyncio.Event) -> None:
    """Until there is news, or for as long as may pass between looks."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_INTERVAL):
            await news.wait()


def _check_is_there(request: web.Request) -> None:
    """Raises `ConnectionError` where whoever asked has left."""
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("whoever asked for the project left")


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_new_name(name):
        raise InvalidProjectError("name: expected the name of a project that this gateway made")
    return name


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in _FLAGS:
        raise InvalidProjectError(f"{name}: expected true or false")
    return _FLAGS[text]


def _refusal(error: ProjectError) -> web.Response:
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), _FAILED)
    return json_response(ProjectErrorAnswer(str(error), list(error.left)), status)
