"""Server-Sent Events: one reader's stream, from its cursor through history into what happens now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web

from huskies import limits
from huskies.errors import StoreError
from huskies.gateway.feed import Feed
from huskies.gateway.store.blocks import Block, Stream
from huskies.gateway.store.cursors import Cursor
from huskies.gateway.store.history import History, Place
from huskies.gateway.store.selection import Filter, select

_log = logging.getLogger("huskies.readers")

# What is handed to the socket at once: bounds what a reader that takes nothing costs.
_WRITE_BYTES: Final = 64 << 10
# A reader that was cut off for taking nothing may still fetch what it was sent, and why, for this long.
_LINGER: Final = 10.0


class SlowReaderError(Exception):
    """The reader took nothing for `SLOW_READER_LIMIT`."""


class EventStream:
    """Carries one reader's stream."""

    def __init__(
        self,
        *,
        request: web.Request,
        response: web.StreamResponse,
        wanted: Filter,
        feed: Feed,
        history: History,
        streams: Sequence[Stream | None],
        slow_after: float,
    ) -> None:
        self._transport = request.transport
        self._response = response
        self._wanted = wanted
        self._feed = feed
        self._history = history
        self._streams = streams
        self._slow_after = slow_after
        self._cursor = feed.head
        self._wrote_at = 0.0

    async def run(self, place: Place | None) -> None:
        """Stream until the reader goes, is too slow, or the gateway stops. None: what happens from now on."""
        try:
            if place is None:
                await self._write(_id_block(self._cursor))
            else:
                await self._open_at(place)
            while not self._feed.closed:
                await self._step()
        except SlowReaderError:
            await self._cut_off("the reader took nothing for too long; reconnect and resume from the last id")
        except StoreError as error:
            _log.error("a reader's stream ended: %s", error)
            await self._write(_event_block("error", {"reason": str(error)}))

    async def _open_at(self, place: Place) -> None:
        blocks = await self._history.blocks_after(place.position - 1, 1) if place.position else []
        chain = blocks[0].chain if blocks and blocks[0].position <= place.position else 0
        self._cursor = Cursor(self._cursor.log_id, place.position, chain)
        # Who is cut off before the gap was told resumes in front of it.
        opening = self._cursor if place.gap is None else Cursor(self._cursor.log_id, place.gap[0] - 1, 0)
        # Together: whoever resumes from this id has been told of the reset.
        reset = b"" if place.reset is None else _event_block("reset", {"reason": place.reset})
        await self._write(_id_block(opening) + reset)
        if place.gap is not None:
            await self._write(_gap_block(self._cursor, *place.gap))

    async def _step(self) -> None:
        position = self._cursor.position
        recent = self._feed.recent(position)
        if recent is None:
            size = limits.READER_BYTES_MAX
            blocks = await self._history.blocks_after(position, size=size, decode=False)
        else:
            blocks = _first_few(recent)
        if blocks:
            await self._write_blocks(blocks)
            return
        before = await self._feed.wait(self._wanted.project, limits.STREAM_ID_INTERVAL - self._quiet_for())
        head = self._feed.head
        if before == head.position:
            # Nothing that is wanted came: say where a reader that saw nothing may resume.
            self._cursor = head
            await self._write(_id_block(head))
        elif before > position:
            # What lies between concerns other projects; its own checksum is not needed to go on.
            self._cursor = Cursor(head.log_id, before, self._cursor.chain)

    async def _write_blocks(self, blocks: Sequence[Block]) -> None:
        pieces: list[bytes] = []
        size = 0
        for block in blocks:
            position = self._cursor.position
            if block.position > position + 1:
                # What came next was dropped before this reader got to it.
                before = Cursor(self._cursor.log_id, block.position - 1, block.before)
                pieces.append(_gap_block(before, position + 1, block.position - 1))
            if block.damage is not None:
                self._cursor = Cursor(self._cursor.log_id, block.last_position, block.chain)
                first = max(block.position, position + 1)
                pieces.append(_gap_block(self._cursor, first, block.last_position))
                continue
            for shown in select(block, self._streams, self._cursor.log_id, self._wanted, position):
                pieces.append(b"id: %b\nevent: status\ndata: %b\n\n" % (shown.id, shown.json))
                size += len(pieces[-1])
            self._cursor = Cursor(self._cursor.log_id, block.last_position, block.chain)
            if size >= _WRITE_BYTES:
                await self._write(b"".join(pieces))
                pieces.clear()
                size = 0
        if pieces:
            await self._write(b"".join(pieces))
        elif self._quiet_for() >= limits.STREAM_ID_INTERVAL:
            await self._write(_id_block(self._cursor))

    def _quiet_for(self) -> float:
        return asyncio.get_running_loop().time() - self._wrote_at

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._slow_after):
                await self._response.write(data)
        except TimeoutError:
            raise SlowReaderError from None
        self._wrote_at = asyncio.get_running_loop().time()

    async def _cut_off(self, reason: str) -> None:
        _log.warning("a slow reader was disconnected", extra={"project": self._wanted.project})
        # Handed to the transport at once; whether the reader ever takes it is not waited for.
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self._response.write(_event_block("error", {"reason": reason}))
        if self._transport is not None:
            asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)


def _first_few(blocks: list[Block]) -> list[Block]:
    """As many of recent blocks as a reader may hold on to while it takes them."""
    size = 0
    for number, block in enumerate(blocks, 1):
        size += len(block.events_json)
        if size >= limits.READER_BYTES_MAX:
            return blocks[:number]
    return blocks


def _id_block(cursor: Cursor) -> bytes:
    return b"id: %b\n\n" % str(cursor).encode()


def _gap_block(cursor: Cursor, first: int, last: int) -> bytes:
    """Say that these are not shown, and where to go on, in one block: whoever resumes has been told."""
    return _id_block(cursor)[:-1] + _event_block("gap", {"from": first, "to": last})


def _event_block(event: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(data))
