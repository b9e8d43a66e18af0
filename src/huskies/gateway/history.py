"""History: reads the log for those who are not at its live end, in threads of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from huskies import limits
from huskies.errors import CorruptLogError, StoreError
from huskies.gateway import log_store
from huskies.gateway.blocks import Block, Run, Stream, decode_runs
from huskies.gateway.cursors import Cursor
from huskies.gateway.index import Index, IndexReader, story_key
from huskies.gateway.selection import Filter, Shown, select
from huskies.storage.sqlite import open_reader

_T = TypeVar("_T")
_THREADS: Final = 2
# What a reader that catches up is given at a time.
_CHUNK_EVENTS: Final = 5_000
# How many blocks are looked through at a time, so that no read keeps the log from being checkpointed.
_SCAN_BLOCKS: Final = 20_000


class Page(msgspec.Struct, frozen=True):
    """Some events, and the cursor from which the next page goes on (None: there is no more)."""

    events: list[Shown]
    next: Cursor | None


class Place(msgspec.Struct, frozen=True):
    """Where a cursor stands in this log.

    `position` is where to go on from. `reset` says why it is no cursor of this log as it is now; `gap` is the
    first and last position that it asks for and that are no longer retained.
    """

    position: int
    reset: str | None = None
    gap: tuple[int, int] | None = None


def _runs(position: int, runs_json: bytes) -> list[Run]:
    try:
        return decode_runs(runs_json)
    except msgspec.DecodeError as error:
        raise CorruptLogError(position, f"its runs cannot be read: {error}") from None


class _Readers(threading.local):
    log: sqlite3.Connection | None = None
    index: IndexReader | None = None


class History:
    """Reads the log at `log_path`; `streams` is the log's own list, which grows."""

    def __init__(self, log_path: Path, log_id: str, index: Index, streams: Sequence[Stream | None]) -> None:
        self._log_path = log_path
        self._log_id = log_id
        self._index = index
        self._streams = streams
        self._readers = _Readers()
        self._opened: list[sqlite3.Connection | IndexReader] = []
        self._threads = ThreadPoolExecutor(_THREADS, "huskies-history")

    async def place(self, cursor: Cursor, head: int) -> Place:
        """Where the cursor stands, in a log whose newest event is at `head`."""
        return await self._run(lambda: self._place(cursor, head))

    async def beginning(self) -> Place:
        """Before the oldest event; what is no longer retained is a gap."""
        return await self._run(self._beginning)

    async def blocks_after(self, position: int, count: int = _CHUNK_EVENTS) -> list[Block]:
        """Blocks with events beyond `position`, about `count` events of them."""

        def read() -> list[Block]:
            blocks: list[Block] = []
            events = 0
            for block in log_store.blocks_after(self._log(), position):
                block.events()
                blocks.append(block)
                events += block.count
                if events >= count:
                    break
            return blocks

        return await self._run(read)

    async def blocks_lacking(
        self, position: int, lacks: Callable[[Sequence[Run]], bool], count: int
    ) -> tuple[list[Block], int]:
        """Of the blocks that begin beyond `position` those that hold something lacking, about `count` events.

        `lacks` is called in a reading thread with the runs of each block. Also says up to which position the
        log was looked through.
        """

        def read() -> tuple[list[Block], int]:
            blocks: list[Block] = []
            events, reached = 0, position
            for start, runs_json in islice(log_store.runs_after(self._log(), position), _SCAN_BLOCKS):
                runs = _runs(start, runs_json)
                reached = start + sum(run.count for run in runs) - 1
                if lacks(runs) and (block := log_store.block_at(self._log(), start)) is not None:
                    blocks.append(block)
                    events += block.count
                if events >= count:
                    break
            return blocks, reached

        return await self._run(read)

    async def page_after(self, wanted: Filter, position: int, limit: int) -> Page:
        """The first `limit` wanted events beyond `position`."""
        return await self._run(
            lambda: self._page(
                self._candidates_after(wanted, position),
                limit,
                lambda block: select(block, self._streams, self._log_id, wanted, position),
                oldest_first=True,
            )
        )

    async def page_before(self, wanted: Filter, position: int, limit: int) -> Page:
        """The last `limit` wanted events before `position`, newest first."""

        def shown(block: Block) -> Iterator[Shown]:
            found = [
                event
                for event in select(block, self._streams, self._log_id, wanted)
                if event.position < position
            ]
            return reversed(found)

        return await self._run(
            lambda: self._page(self._candidates_before(wanted, position), limit, shown, oldest_first=False)
        )

    def close(self) -> None:
        """Wait for reads under way and close."""
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()

    # --- in a reading thread -----------------------------------------------------------------------

    def _place(self, cursor: Cursor, head: int) -> Place:
        if cursor.log_id != self._log_id:
            return self._beginning("the cursor is of another log")
        if cursor.position > head:
            return self._beginning("the log was restored: it ends before the cursor")
        first = log_store.first_position(self._log())
        if cursor.position + 1 < first:
            return Place(first - 1, gap=(cursor.position + 1, first - 1))
        chain = log_store.chain_at(self._log(), cursor.position) if cursor.position else 0
        # The block of an event that was just dropped is gone; what follows it is there.
        if chain is not None and chain != cursor.chain:
            return self._beginning("the log was restored: it holds another event at the cursor")
        return Place(cursor.position)

    def _beginning(self, reset: str | None = None) -> Place:
        first = log_store.first_position(self._log())
        return Place(first - 1, reset=reset, gap=(1, first - 1) if first > 1 else None)

    def _page(
        self,
        candidates: Iterator[Block],
        limit: int,
        shown: Callable[[Block], Iterator[Shown]],
        *,
        oldest_first: bool,
    ) -> Page:
        found: list[Shown] = []
        looked_at = 0
        last: Block | None = None
        for block in candidates:
            if last is not None and looked_at >= limits.SCAN_EVENTS_MAX:
                at = last.last_position if oldest_first else last.position
                return Page(found, Cursor(self._log_id, at, last.chain))
            for event in shown(block):
                if len(found) == limit:
                    return Page(found, found[-1].cursor)
                found.append(event)
            looked_at += block.count
            last = block
        return Page(found, None)

    def _keys(self, wanted: Filter) -> list[int] | None:
        if wanted.project is not None:
            return [story_key(wanted.project, wanted.story)]
        if wanted.story is None:
            return None
        projects = {stream.project for stream in self._streams if stream is not None}
        return [story_key(project, wanted.story) for project in projects]

    def _candidates_after(self, wanted: Filter, position: int) -> Iterator[Block]:
        keys = self._keys(wanted)
        if keys is not None:
            # The block that holds the first event beyond `position` may begin before it.
            start = next((b.position for b in log_store.blocks_after(self._log(), position)), position + 1)
            known_to = self._index_reader().position()
            while positions := self._index_reader().after(keys, start):
                # The index may have grown since; what is beyond `known_to` is read from the log below.
                yield from self._blocks_at([found for found in positions if found <= known_to])
                start = positions[-1] + 1
            position = max(position, known_to)
        yield from log_store.blocks_after(self._log(), position)

    def _candidates_before(self, wanted: Filter, position: int) -> Iterator[Block]:
        keys = self._keys(wanted)
        known_to = 0 if keys is None else self._index_reader().position()
        for block in log_store.blocks_before(self._log(), position):
            if block.last_position <= known_to:
                break
            yield block
        if keys is not None:
            end = min(position, known_to + 1)
            while positions := self._index_reader().before(keys, end):
                yield from self._blocks_at(positions)
                end = positions[-1]

    def _blocks_at(self, positions: list[int]) -> Iterator[Block]:
        for position in positions:
            block = log_store.block_at(self._log(), position)
            if block is not None:
                yield block

    def _log(self) -> sqlite3.Connection:
        if self._readers.log is None:
            self._readers.log = open_reader(self._log_path)
            self._opened.append(self._readers.log)
        return self._readers.log

    def _index_reader(self) -> IndexReader:
        if self._readers.index is None:
            self._readers.index = IndexReader(self._index)
            self._opened.append(self._readers.index)
        return self._readers.index

    async def _run(self, read: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except sqlite3.Error as error:
            raise StoreError(f"{self._log_path}: cannot be read: {error}") from error
