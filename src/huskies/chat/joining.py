"""Joining rooms: each in a task of its own, for a room of a server that is away must hold nothing else up."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from nio import Response

from huskies.chat.asking import HomeserverError, LoggedOutError
from huskies.chat.session import Session
from huskies.protocol.backoff import jittered
from huskies.sockets import clean

_FIRST_PAUSE: Final = 1.0
# The homeserver asks other servers for it each time, for as long as they may take.
_LONGEST_PAUSE: Final = 600.0

_log = logging.getLogger("huskies.chat")


class Joining:
    """Tries to join rooms until the bot is in, or the homeserver says that it never will be.

    `settled` is told of a room with which that is so; `failed` of what makes going on impossible.
    """

    def __init__(
        self, session: Session, settled: Callable[[str], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._session = session
        self._settled = settled
        self._failed = failed
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def begin(self, room_id: str) -> None:
        """Join a room, at once; where that is under way, it begins anew."""
        if (before := self._under_way.pop(room_id, None)) is not None:
            before.cancel()
        task = self._under_way[room_id] = asyncio.create_task(self._join(room_id))
        task.add_done_callback(lambda task: self._ended(room_id, task))

    def give_up(self, room_id: str) -> None:
        """The bot is not wanted there any more."""
        if (task := self._under_way.pop(room_id, None)) is not None:
            task.cancel()
            self._settled(room_id)

    async def stop(self) -> None:
        """Leave what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, room_id: str, task: asyncio.Task[None]) -> None:
        if self._under_way.get(room_id) is task:
            del self._under_way[room_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _join(self, room_id: str) -> None:
        pause, told = _FIRST_PAUSE, False
        while not await self._is_settled(room_id, told=told):
            told = True
            await asyncio.sleep(jittered(pause, random.random()))  # noqa: S311 - spreads load
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._settled(room_id)

    async def _is_settled(self, room_id: str, *, told: bool) -> bool:
        """Try once; whether trying again is of no use."""
        client = self._session.client
        if room_id in client.rooms:
            # What took too long for an answer came to pass.
            return True
        try:
            await self._session.ask(client.join(room_id), Response, f"to join {room_id}")
        except (HomeserverError, LoggedOutError) as error:
            if isinstance(error, HomeserverError) and error.refused:
                _log.warning("cannot join %s: %s; invite the bot there", clean(room_id), error)
                return True
            level = logging.DEBUG if told else logging.WARNING
            _log.log(level, "cannot join %s yet: %s; trying again", clean(room_id), error)
            return False
        return True
