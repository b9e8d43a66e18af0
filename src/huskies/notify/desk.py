"""The desk: takes in what was read, commits what is decided, and keeps account of what is delivered.

Deciding and committing go together, in a thread, one at a time; so no message leaves before what it follows
from is durable. Where either fails nothing goes on, and nothing more is kept: the process ends, and the next
one begins with what the file says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from huskies.errors import StoreError
from huskies.notify.core import Core
from huskies.notify.ledger import Ledger, Pending
from huskies.notify.model import Board, Gap, Received
from huskies.notify.rules import Rules
from huskies.protocol.vectors import Origin

# What moved the cursor alone is kept no sooner: read again it changes nothing again.
_KEEP_MS: Final = 1_000

_Result = TypeVar("_Result")


class Desk:
    """The notifier's decisions and their ledger in `directory`. Raises `StoreError` from every method.

    `now_ms` is the wall clock; `on_decided` is called with the channels that have something new to send.
    """

    def __init__(
        self,
        directory: Path,
        rules: Rules,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self.ledger = Ledger(directory)
        self.now_ms = now_ms
        self.on_decided: Callable[[frozenset[str]], None] = lambda _: None
        self.cursor, state = self.ledger.load()
        self._core = Core(rules, state)
        self._kept_ms = now_ms()
        self._kept_cursor = self.cursor
        self._woken: frozenset[str] = frozenset()
        self._is_broken = False
        self._is_caught_up = False
        self._thread = ThreadPoolExecutor(1, "notifications")

    async def close(self) -> None:
        """Keep what is not kept yet, if all that is was whole, and let go of the file."""
        try:
            if not self._is_broken:
                await self._do(self._keep)
        finally:
            self._thread.shutdown()
            self.ledger.close()

    # --- what was read -------------------------------------------------------------------------------

    async def begin(self, board: Board, seen: Mapping[Origin, int]) -> None:
        """The first start: what is held up now is told, and what happened before is history.

        `seen` says how far the log held each sequence before the board was asked for.
        """

        def work() -> None:
            for origin, last_seq in seen.items():
                self._core.state.seen.add_up_to(origin, last_seq)
            self.cursor = board.cursor
            self._core.begin(board, self.now_ms())
            self._core.tick(self.now_ms(), at_rest=False)
            self._keep()

        await self._do(work)

    async def take(self, items: Sequence[Received | Gap], cursor: str | None) -> None:
        """Decide on what was read, up to the cursor."""

        def work() -> None:
            now_ms = self.now_ms()
            for item in items:
                if isinstance(item, Gap):
                    self._core.missed(item, now_ms)
                else:
                    self._core.take(item, now_ms)
            self.cursor = cursor or self.cursor
            if self._core.drafts or now_ms - self._kept_ms >= _KEEP_MS or now_ms < self._kept_ms:
                self._keep()

        await self._do(work)

    async def compare(self, board: Board, asked_ms: int) -> bool:
        """See what the board says of what is held up; whether it is to be asked again soon."""

        def work() -> bool:
            is_unsure = self._core.compare(board, asked_ms, self.now_ms())
            self._keep()
            return is_unsure

        return await self._do(work)

    async def reset(self) -> None:
        """The gateway's log is another one."""

        def work() -> None:
            self._core.reset(self.now_ms())
            self._keep()

        await self._do(work)

    async def came_back(self) -> None:
        """The stream is there again."""
        await self._do(lambda: self._core.came_back(self.now_ms()))

    async def tick(self, *, at_rest: bool, caught_up: bool = True, escalates: bool = True) -> None:
        """Decide on what is due, as `Core.tick` says."""

        def work() -> None:
            self._is_caught_up = caught_up
            self._core.tick(self.now_ms(), at_rest=at_rest, caught_up=caught_up, escalates=escalates)
            self._keep()

        await self._do(work)

    async def wants_board(self, within_ms: int) -> bool:
        """Whether an escalation is due so soon that the board should say first whether it is needed."""

        def work() -> bool:
            now_ms = self.now_ms()
            due_ms = self._core.escalates_ms(now_ms)
            return due_ms is not None and due_ms - within_ms <= now_ms

        return await self._do(work)

    # --- muting --------------------------------------------------------------------------------------

    async def mute(self, project: str, until_ms: int) -> None:
        """Tell nobody of the project until then (Unix ms); what is held up still is told after."""

        def work() -> None:
            self._core.mute(project, until_ms)
            self._keep()

        await self._do(work)

    async def unmute(self, project: str) -> bool:
        """Tell of the project again; whether it was muted."""

        def work() -> bool:
            was = self._core.state.muted_until(project, self.now_ms()) is not None
            self._core.unmute(project)
            self._core.tick(self.now_ms(), at_rest=False, caught_up=self._is_caught_up, escalates=False)
            self._keep()
            return was

        return await self._do(work)

    async def muted(self) -> dict[str, int]:
        """Until when (Unix ms) each project is muted that is."""

        def work() -> dict[str, int]:
            now_ms = self.now_ms()
            mutes = self._core.state.mutes.items()
            return {project: mute.until_ms for project, mute in mutes if mute.until_ms > now_ms}

        return await self._do(work)

    # --- what is delivered ---------------------------------------------------------------------------

    async def begin_next(self, channel: str) -> Pending | None:
        """The next message of the channel that is due; it is under way when this returns."""

        def work() -> Pending | None:
            found = self.ledger.next(channel, self.now_ms())
            if found is not None:
                self.ledger.sending(found.id, self.now_ms())
            return found

        return await self._do(work)

    async def account(self, work: Callable[[Ledger], _Result]) -> _Result:
        """Do something with the ledger."""
        return await self._do(lambda: work(self.ledger))

    async def _do(self, work: Callable[[], _Result]) -> _Result:
        """Carry it out in the one thread, where it is finished even if nobody waits for it any more."""
        result = await asyncio.get_running_loop().run_in_executor(self._thread, self._whole, work)
        channels, self._woken = self._woken, frozenset()
        if channels:
            self.on_decided(channels)
        return result

    def _whole(self, work: Callable[[], _Result]) -> _Result:
        """Carry it out unless something before it failed, which left half of a decision behind."""
        if self._is_broken:
            raise StoreError("what people are told goes on no more, since something of it failed before")
        try:
            return work()
        except BaseException:
            self._is_broken = True
            raise

    def _keep(self) -> None:
        self._kept_ms = self.now_ms()
        drafts = list(self._core.drafts)
        if not drafts and self.cursor == self._kept_cursor and not self._core.state.has_changed():
            return
        self.ledger.keep(self.cursor, self._core.state, drafts)
        self._core.drafts.clear()
        self._kept_cursor = self.cursor
        self._woken |= {draft.channel for draft in drafts}
