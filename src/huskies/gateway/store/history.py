"""History: reads the log for those who are not at its live end, in threads of its own."""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from huskies import limits
from huskies.errors import StoreError
from huskies.gateway.store import block_rows, log_store
from huskies.gateway.store.blocks import Block, Run, Stream, decode_runs
from huskies.gateway.store.cursors import Cursor
from huskies.gateway.store.damage import Damage
from huskies.gateway.store.index import Index, IndexReader, story_key
from huskies.gateway.store.selection import Filter, Shown, select
from huskies.storage.sqlite import open_reader

_T = TypeVar("_T")
_THREADS: Final = 2
# What a reader that catches up is given at a time.
_CHUNK_EVENTS: Final = 5_000
_CHUNK_BYTES: Final = 8 << 20
# How many blocks are looked through at a time, so that no read keeps the log from being checkpointed.
_SCAN_BLOCKS: Final = 20_000


class Page(msgspec.Struct, frozen=True):
    """Some events, and the cursor from which the next page goes on (None: there is no more).

    `gap`: positions that come before these events and cannot be shown, the lowest and the highest.
    """

    events: list[Shown]
    next: Cursor | None
    gap: tuple[int, int] | None = None


class Place(msgspec.Struct, frozen=True):
    """Where a cursor stands in this log.

    `position` is where to go on from. `reset` says why it is no cursor of this log as it is now; `gap` is the
    first and last position that it asks for and that are no longer retained.
    """

    position: int
    reset: str | None = None
    gap: tuple[int, int] | None = None


def _readable(runs_json: bytes) -> list[Run]:
    try:
        return decode_runs(runs_json)
    except msgspec.DecodeError:
        return []


def _joined(gap: tuple[int, int] | None, block: Block) -> tuple[int, int] | None:
    """The gap and a damaged block as one gap; None where something lies between them."""
    if gap is None:
        return block.position, block.last_position
    if gap[1] + 1 == block.position:
        return gap[0], block.last_position
    if block.last_position + 1 == gap[0]:
        return block.position, gap[1]
    return None


class _Readers(threading.local):
    log: sqlite3.Connection | None = None
    index: IndexReader | None = None


class History:
    """Reads the log at `log_path`; `streams` and `damage` are the log's own, which grow."""

    def __init__(
        self,
        log_path: Path,
        log_id: str,
        index: Index,
        streams: Sequence[Stream | None],
        damage: Damage | None = None,
    ) -> None:
        self._log_path = log_path
        self._log_id = log_id
        self._index = index
        self._streams = streams
        self._damage = Damage() if damage is None else damage
        self._readers = _Readers()
        self._opened: list[sqlite3.Connection | IndexReader] = []
        self._threads = ThreadPoolExecutor(_THREADS, "huskies-history")

    async def place(self, cursor: Cursor, head: int) -> Place:
        """Where the cursor stands, in a log whose newest event is at `head`."""
        return await self._run(lambda: self._place(cursor, head))

    async def beginning(self) -> Place:
        """Before the oldest event; what is no longer retained is a gap."""
        return await self._run(self._beginning)

    async def blocks_after(
        self, position: int, count: int = _CHUNK_EVENTS, *, size: int = _CHUNK_BYTES, decode: bool = True
    ) -> list[Block]:
        """Blocks with events beyond `position`, about `count` events or `size` bytes of them.

        Those that are damaged come without their events. What is no longer retained is not there: then the
        first begins later than asked for.
        """

        def read() -> list[Block]:
            blocks: list[Block] = []
            events = held = 0
            for block in self._after(position):
                if decode:
                    block.events()
                blocks.append(block)
                events += block.count
                held += len(block.events_json)
                if events >= count or held >= size:
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
                runs = _readable(runs_json)
                # A damaged block is passed over; whoever reads it notes it as damaged.
                reached = start + max(1, sum(run.count for run in runs)) - 1
                if (not runs or lacks(runs)) and (block := self._at(start)) is not None:
                    blocks.append(block)
                    events += block.count
                if events >= count:
                    break
            return blocks, reached

        return await self._run(read)

    async def page_after(
        self, wanted: Filter, position: int, limit: int, gap: tuple[int, int] | None = None
    ) -> Page:
        """The first `limit` wanted events beyond `position`; `gap` is what is missing up to there."""

        def read() -> Page:
            at = max(position, log_store.first_position(self._log()) - 1)
            missing = gap if at == position else (position + 1 if gap is None else gap[0], at)
            blocks = self._candidates_after(wanted, at)
            return self._page(blocks, limit, partial(self._select, wanted, at), missing)

        return await self._run_at_once(read)

    async def page_before(self, wanted: Filter, position: int, limit: int) -> Page:
        """The last `limit` wanted events before `position`, newest first."""

        def shown(block: Block) -> Iterator[Shown]:
            found = self._select(wanted, 0, block)
            return reversed([event for event in found if event.position < position])

        def read() -> Page:
            page = self._page(
                self._candidates_before(wanted, position), limit, shown, None, newest_first=True
            )
            first = log_store.first_position(self._log())
            if page.next is not None or first == 1:
                return page
            # Who has gone back to the end is told what lay before it.
            if page.gap is None or page.gap[0] == first:
                return Page(page.events, None, (1, first - 1 if page.gap is None else page.gap[1]))
            return Page(page.events, self._cursor(first), page.gap)

        return await self._run_at_once(read)

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
        gap: tuple[int, int] | None,
        *,
        newest_first: bool = False,
    ) -> Page:
        found: list[Shown] = []
        looked_at = 0
        last: Block | None = None
        for block in candidates:
            wider = gap if block.damage is None else _joined(gap, block)
            # A gap stands before the events of a page: another one begins the next page.
            ends = block.damage is not None and (bool(found) or wider is None)
            if ends:
                at = block.last_position + 1 if newest_first else block.position - 1
                return Page(found, self._cursor(at), gap)
            if last is not None and looked_at >= limits.SCAN_EVENTS_MAX:
                return Page(found, self._cursor(last.position if newest_first else last.last_position), gap)
            gap = wider
            for event in shown(block):
                if len(found) == limit:
                    return Page(found, found[-1].cursor, gap)
                found.append(event)
            looked_at += block.count
            last = block
        return Page(found, None, gap)

    def _select(self, wanted: Filter, after: int, block: Block) -> Iterator[Shown]:
        return select(block, self._streams, self._log_id, wanted, after)

    def _cursor(self, position: int) -> Cursor:
        return Cursor(self._log_id, position, log_store.chain_at(self._log(), position) or 0)

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
            start = next((block.position for block in self._after(position)), position + 1)
            known_to = self._index_reader().position()
            damaged = [each.position for each in self._damage.within(start, known_to)]
            indexed = self._indexed_after(keys, start, known_to)
            for at, _ in groupby(heapq.merge(indexed, damaged)):
                found = self._at(at)
                if found is not None:
                    yield found
            position = max(position, known_to)
        yield from self._after(position)

    def _indexed_after(self, keys: Sequence[int], start: int, known_to: int) -> Iterator[int]:
        while positions := self._index_reader().after(keys, start):
            # The index may have grown since; what is beyond `known_to` is read from the log.
            yield from (found for found in positions if found <= known_to)
            start = positions[-1] + 1

    def _candidates_before(self, wanted: Filter, position: int) -> Iterator[Block]:
        keys = self._keys(wanted)
        known_to = 0 if keys is None else self._index_reader().position()
        blocks = block_rows.blocks_before(self._log(), position)
        for block in self._damage.watch(blocks, self._log()):
            if block.last_position <= known_to:
                break
            yield block
        if keys is not None:
            end = min(position, known_to + 1)
            damaged = [each.position for each in reversed(self._damage.within(0, end - 1))]
            for at, _ in groupby(heapq.merge(self._indexed_before(keys, end), damaged, reverse=True)):
                found = self._at(at)
                if found is not None:
                    yield found

    def _indexed_before(self, keys: Sequence[int], end: int) -> Iterator[int]:
        while positions := self._index_reader().before(keys, end):
            yield from positions
            end = positions[-1]

    def _after(self, position: int) -> Iterator[Block]:
        return self._damage.watch(block_rows.blocks_after(self._log(), position), self._log())

    def _at(self, position: int) -> Block | None:
        """The block that begins there, without its events where it is damaged."""
        known = self._damage.at(position)
        if known is not None:
            return known.as_block()
        block = block_rows.block_at(self._log(), position)
        if block is not None and block.damage is not None:
            self._damage.note(block, self._log())
        return block

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

    async def _run_at_once(self, read: Callable[[], _T]) -> _T:
        """Run with the log as it is at one moment, whatever is dropped meanwhile."""

        def in_snapshot() -> _T:
            self._log().execute("BEGIN")
            try:
                return read()
            finally:
                self._log().execute("COMMIT")

        return await self._run(in_snapshot)

    async def _run(self, read: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except sqlite3.Error as error:
            raise StoreError(f"{self._log_path}: cannot be read: {error}") from error
