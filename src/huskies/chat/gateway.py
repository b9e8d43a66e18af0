"""Asking the gateway over HTTP, as any reader does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from huskies.chat.replies import Made
from huskies.errors import ConfigError, GatewayUnreachableError, HuskiesError
from huskies.protocol.wire import EVENTS_PATH, PROJECTS_PATH
from huskies.readers.fleet import ProjectView, Received
from huskies.sockets import clean
from huskies.tls import Trust

_ANSWER_LIMIT: Final = 20.0
# Of an image that is built nothing is heard for a while.
_STEP_LIMIT: Final = 1_800.0
_CONNECT_LIMIT: Final = 10.0
# A removal stops a container first.
_REMOVE_LIMIT: Final = 120.0
_PAGE_EVENTS: Final = 1_000
# A story that has more has its newest ones shown.
_PAGES_MAX: Final = 20
_LINES: Final = "application/x-ndjson"
_OK: Final = 200
_CREATED: Final = 201
_REFUSED: Final = 400
_FAILED: Final = 500
_ADVICE: Final = {
    401: "; the bot needs a token that reads, in HUSKIES_TOKEN",
    403: "; the bot's token does not allow it",
}

_Shape = TypeVar("_Shape")


class GatewayAnswerError(HuskiesError):
    """The gateway refused what was asked, or did not do it.

    `left`: what is still there of it; None where nobody knows.
    """

    def __init__(self, problem: str, *, status: int = 0, left: tuple[str, ...] | None = None) -> None:
        super().__init__(problem)
        self.status = status
        self.left = left


class _Projects(msgspec.Struct):
    projects: list[ProjectView]


class _Page(msgspec.Struct):
    events: list[Received]
    next: str | None = None


class _Problem(msgspec.Struct):
    error: str
    left: tuple[str, ...] | None = None


class _Removed(msgspec.Struct):
    removed: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """Where the making of a project is; `done`: this step is over."""

    step: str
    text: str = ""
    done: bool = False


class _Line(msgspec.Struct):
    """One line of the making: a step, or how it ended."""

    step: str | None = None
    text: str = ""
    done: bool = False
    result: Made | None = None
    error: str | None = None
    left: tuple[str, ...] | None = None


class GatewayClient:
    """One gateway at a base URL of http(s), asked with a token where there is one.

    `trust` is asked for each request whom to trust that it is the gateway: its certificate may be renewed,
    and be half there for a moment.

    Each method raises `GatewayUnreachableError` and `GatewayAnswerError`.
    """

    def __init__(
        self, url: str, *, token: str | None = None, trust: Callable[[], Trust] = lambda: True
    ) -> None:
        self.url = url
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None
        self._headers = headers
        self._trust = trust

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def projects(self) -> list[ProjectView]:
        """Every project, and where its stories stand."""
        return (await self._get(PROJECTS_PATH, {}, _Projects)).projects

    async def newest(self, project: str | None, count: int) -> list[Received]:
        """The newest events, the newest first."""
        query = {"before": "latest", "limit": str(count), **({} if project is None else {"project": project})}
        return (await self._get(EVENTS_PATH, query, _Page)).events

    async def of_story(self, story_id: str, project: str | None) -> list[Received]:
        """The events of a story, the oldest first; of very many, the newest. None: in whichever project."""
        query = {"story": story_id, "limit": str(_PAGE_EVENTS), "before": "latest"}
        if project is not None:
            query["project"] = project
        found: list[Received] = []
        for _ in range(_PAGES_MAX):
            page = await self._get(EVENTS_PATH, query, _Page)
            found += page.events
            if page.next is None:
                break
            query["before"] = page.next
        return found[::-1]

    async def make_project(self, name: str, git: str | None, stack: str | None) -> AsyncIterator[Step | Made]:
        """Make a project: each step as it goes on, and what was made at the end."""
        body = {"name": name, "git": git, "stack": stack}
        limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_LIMIT, sock_read=_STEP_LIMIT)
        async with self._asking("POST", PROJECTS_PATH, limit, json=body, accept=_LINES) as answer:
            if answer.content_type != _LINES:
                yield await self._whole(answer, Made, (_OK, _CREATED), of="result")
                return
            async for line in answer.content:
                said = self._decoded(line, _Line)
                if said.error is not None:
                    raise GatewayAnswerError(said.error, left=said.left)
                if said.result is not None:
                    yield said.result
                    return
                if said.step is not None:
                    yield Step(said.step, said.text, said.done)
        raise GatewayAnswerError("the gateway's answer broke off")

    async def remove_project(self, name: str) -> tuple[str, ...]:
        """Take a project's container away; what was removed, in words."""
        limit = aiohttp.ClientTimeout(total=_REMOVE_LIMIT, sock_connect=_CONNECT_LIMIT)
        async with self._asking("DELETE", f"{PROJECTS_PATH}/{name}", limit) as answer:
            if answer.status == 204:  # noqa: PLR2004 - "no content" has no other name
                return ()
            return (await self._whole(answer, _Removed, (_OK,))).removed

    async def _get(self, path: str, query: Mapping[str, str], shape: type[_Shape]) -> _Shape:
        limit = aiohttp.ClientTimeout(total=_ANSWER_LIMIT, sock_connect=_CONNECT_LIMIT)
        async with self._asking("GET", path, limit, params=query) as answer:
            return await self._whole(answer, shape, (_OK,))

    @contextlib.asynccontextmanager
    async def _asking(
        self,
        method: str,
        path: str,
        limit: aiohttp.ClientTimeout,
        accept: str = "application/json",
        **more: Any,  # noqa: ANN401
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        headers = {"Accept": accept}
        try:
            async with self._session.request(
                method, self.url + path, timeout=limit, headers=headers, ssl=self._trust(), **more
            ) as answer:
                yield answer
        except TimeoutError:
            raise GatewayUnreachableError(self.url, "no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError, ConfigError) as error:
            words = clean(getattr(error, "strerror", None) or str(error) or type(error).__name__)
            raise GatewayUnreachableError(self.url, words) from None

    async def _whole(
        self, answer: aiohttp.ClientResponse, shape: type[_Shape], good: tuple[int, ...], of: str = ""
    ) -> _Shape:
        body = await answer.read()
        if answer.status in good:
            if of:
                # Alone or, as in the lines, under its name.
                with contextlib.suppress(msgspec.DecodeError, KeyError):
                    body = bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[of])
            return self._decoded(body, shape)
        try:
            problem = msgspec.json.decode(body, type=_Problem)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            problem = _Problem(f"the gateway answered {answer.status}: {clean(answer.reason or '')}")
        words = problem.error + _ADVICE.get(answer.status, "")
        left = problem.left
        if left is None and _REFUSED <= answer.status < _FAILED:
            # Who may not ask, or asks what cannot be, has begun nothing.
            left = ()
        raise GatewayAnswerError(words, status=answer.status, left=left)

    def _decoded(self, body: bytes, shape: type[_Shape]) -> _Shape:
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise GatewayAnswerError(
                f"what answers at {self.url} is no gateway that this bot understands"
            ) from None
