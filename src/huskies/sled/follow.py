"""Following the pipeline and the spool: woken by `watch`, looks, and records what changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from huskies.events.model import STAGES
from huskies.sled.layout import Layout
from huskies.sled.order import in_order
from huskies.sled.outbox import Outbox
from huskies.sled.pipeline import PipelineReader
from huskies.sled.scan import Changes, Deletions, SeenStory, diff
from huskies.sled.spool import emitted_ns
from huskies.sled.spool_drain import SpoolDrain
from huskies.sled.watch import DirectoryWatch, StartWatch

# Looking at everything this often (seconds) finds what no notification told of: network file systems send
# none, and the kernel drops them when too many come at once. A look at 5,000 unchanged stories takes about
# 20 ms.
_LOOK_INTERVAL: Final = 5.0


class Follower:
    """Follows the project's directories; `seen` is what the outbox holds of the stories."""

    def __init__(
        self,
        *,
        layout: Layout,
        project: str,
        outbox: Outbox,
        spool: SpoolDrain,
        seen: dict[str, SeenStory],
        watch: StartWatch = DirectoryWatch,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._seen = seen
        self._reader = PipelineReader(layout, project)
        self._deletions = Deletions()
        self._stages = {layout.stage(stage): stage for stage in STAGES}
        self._spool_new = layout.spool_new
        self._watch = watch([layout.huskies, layout.work, *self._stages, layout.spool_new], self._on_change)
        self._changed: set[Path] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; raises `StoreError`."""
        try:
            while True:
                await self.look()
                await self._wait()
        finally:
            self._watch.disarm()

    async def look(self) -> None:
        """Record what changed since the last look."""
        changed, self._changed = self._changed, set()
        self._wake.clear()
        everything = self._watch.arm() or not changed
        stages = STAGES if everything else [self._stages[path] for path in changed if path in self._stages]
        emitted: list[str] = []
        if not stages:
            await self._spool.drain()
        elif everything or self._spool_new in changed:
            # The list is the older one: whatever was moved before an event in it was emitted, is seen to be.
            emitted = await self._spool.waiting()
        changes, changed_ns = await asyncio.to_thread(self._changes, stages)
        gone = self._deletions.settled(changes.gone, time.monotonic())
        changes = msgspec.structs.replace(changes, gone=gone)
        recorded = 0
        for place, part in in_order(changes, changed_ns, [emitted_ns(name) for name in emitted]):
            await self._spool.record(emitted[recorded:place])
            recorded = place
            await self._record(part)
        await self._spool.record(emitted[recorded:])

    def _changes(self, stages: Collection[str]) -> tuple[Changes, dict[str, int]]:
        """What changed, and when the files of those stories did (Unix ns)."""
        changes = diff(self._seen, self._reader.look(stages))
        return changes, {
            story.story_id: self._reader.changed_ns(story.stage, story.story_id) for story in changes.seen
        }

    async def _record(self, changes: Changes) -> None:
        await self._outbox.record_changes(changes)
        self._seen.update((story.story_id, story) for story in changes.seen)
        for story_id in changes.gone:
            del self._seen[story_id]

    async def _wait(self) -> None:
        due = self._deletions.next_due()
        wait = _LOOK_INTERVAL if due is None else max(0.0, min(due - time.monotonic(), _LOOK_INTERVAL))
        # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes together with the wake-up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()

    def _on_change(self, directories: set[Path]) -> None:
        self._changed |= directories
        self._wake.set()
