"""What became of the messages that people were to get, and sending them again: beside whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from huskies.gateway.access.gate import NOTIFICATIONS_PATH, Gate, caller_of
from huskies.httpd import error_response, json_response
from huskies.storage.notifications import (
    FILE_NAME,
    PAGE_MAX,
    RESENDABLE,
    STATES,
    Notification,
    NotificationsFile,
    Wanted,
    read_notifications,
    resend,
)

PAGE_DEFAULT: Final = 100
_ALL: Final = "all"
_ID_MAX: Final = 2**53


class NotificationsAnswer(msgspec.Struct, frozen=True):
    """Some messages, the newest first; `next` as `before` gives older ones; null: there are none."""

    notifications: list[Notification]
    next: int | None


class ResendAnswer(msgspec.Struct, frozen=True):
    """The messages that are sent again, by id."""

    queued: list[int]


class Notifications:
    """The handlers, for the gateway in `directory`."""

    def __init__(self, directory: Path, gate: Gate, now_ms: Callable[[], int]) -> None:
        self._directory = directory
        self._gate = gate
        self._now_ms = now_ms

    def routes(self) -> list[web.RouteDef]:
        """What is served where."""
        return [
            web.get(NOTIFICATIONS_PATH, self.page, allow_head=False),
            web.post(f"{NOTIFICATIONS_PATH}/{{id}}/resend", self.resend),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """`GET /gateway/notifications`."""
        caller = caller_of(request)
        try:
            wanted = _wanted(request)
        except ValueError as error:
            return error_response(422, str(error))
        if wanted.project is not None and not caller.scopes.may_read(wanted.project):
            return error_response(403, f"{caller.who} may not read project {wanted.project}")
        work = partial(read_notifications, self._directory, wanted, caller.scopes.reads)
        found = await asyncio.to_thread(work)
        older = found[-1].id if len(found) == wanted.limit else None
        return json_response(NotificationsAnswer(found, older))

    async def resend(self, request: web.Request) -> web.Response:
        """`POST /gateway/notifications/ID/resend`, or all that did not arrive."""
        text = request.match_info["id"]
        number = _whole(text, _ID_MAX)
        if number is None and text != _ALL:
            return error_response(422, f"expected the id of a notification, or `{_ALL}`; got {text[:80]!r}")
        queued = await asyncio.to_thread(self._resend, None if number is None else [number])
        if number is not None and not queued:
            states = " or ".join(RESENDABLE)
            return error_response(404, f"there is no notification {number} that is {states}")
        self._gate.note(request, "notifications resend", text, who=caller_of(request).who)
        return json_response(ResendAnswer(queued))

    def _resend(self, ids: list[int] | None) -> list[int]:
        if not (self._directory / FILE_NAME).is_file():
            return []
        file = NotificationsFile(self._directory)
        try:
            return resend(file, ids, self._now_ms())
        finally:
            file.close()


def _wanted(request: web.Request) -> Wanted:
    query = request.query
    state = query.get("state")
    if state is not None and state not in STATES:
        raise ValueError(f"state: expected one of {', '.join(STATES)}")
    limit = before = None
    if "limit" in query and (limit := _whole(query["limit"], PAGE_MAX)) is None:
        raise ValueError(f"limit: expected a whole number from 1 to {PAGE_MAX}")
    if "before" in query and (before := _whole(query["before"], _ID_MAX)) is None:
        raise ValueError("before: expected the `next` of another answer")
    return Wanted(
        state=state,
        channel=query.get("channel"),
        project=query.get("project"),
        before=before,
        limit=limit or PAGE_DEFAULT,
    )


def _whole(text: str, most: int) -> int | None:
    """A whole number from 1 to `most`; None where it is none."""
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    return int(text) if is_number and 1 <= int(text) <= most else None
