"""`publish --gateway-url URL --journal DIR PROJECT_DIR…`: sleds that publish numbered events by themselves.

Each line on stdin is the number of the last event to publish. What is attempted and what was confirmed is
appended to files outside the system, before the one and after the other. Says `sled NAME URL` for each sled
that answers and `reached NAME NUMBER` when all up to a number is confirmed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from faults.journal import Journal
from huskies.cli import runtime
from huskies.config import sled_config
from huskies.errors import HuskiesError, StoreError
from huskies.events.model import StoryBlocked
from huskies.logs import set_up
from huskies.sled.service import Sled

# So many are published without waiting for the first of them: the outbox keeps their order.
_WINDOW = 16


def say(line: str) -> None:
    """In one write, as many sleds say something in one process."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


class Publisher:
    """A sled that publishes; a service as `runtime.run` takes it."""

    def __init__(
        self, project_dir: Path, urls: Sequence[str], journal: Path, values: str, padding: int
    ) -> None:
        self.name = project_dir.name
        self._story_name = "x" * padding
        self._value = f"{values}{self.name}"
        self._sled = Sled(sled_config(project_dir, {}, name=self.name, gateway_url=urls, port=0))
        self._journal = Journal(journal, self._value)
        self._next = self._journal.last_attempted() + 1
        self._run = self._journal.begin_run()
        self._goal = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(_WINDOW)
        self._task: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._sled.start()
        say(f"sled {self.name} {self._sled.url}")
        self._task = asyncio.create_task(self._publish())

    async def wait(self) -> None:
        await self._sled.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._sled.stop()

    def aim(self, goal: int) -> None:
        self._goal = max(goal, self._goal)
        self._wake.set()

    async def _publish(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            goal = self._goal
            while self._next <= goal:
                await self._room.acquire()
                self._publish_one(self._next)
                self._next += 1
            await asyncio.gather(*self._under_way)
            say(f"reached {self.name} {goal}")

    def _publish_one(self, number: int) -> None:
        value = f"{self._value} {self._run} {number}"
        event = StoryBlocked(story_id=f"{number % 200}_story_x", story_name=self._story_name, reason=value)
        self._journal.attempted(number)
        task = asyncio.create_task(self._publish_and_note(number, event))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _publish_and_note(self, number: int, event: StoryBlocked) -> None:
        # A failure is the sled's to tell, through `wait`.
        with suppress(StoreError):
            receipt = await self._sled.broadcaster.publish(event)
            assert receipt is not None
            self._journal.acknowledged(number, receipt)
        self._room.release()


def _listen(publishers: Sequence[Publisher], loop: asyncio.AbstractEventLoop) -> None:
    def read() -> None:
        for line in sys.stdin:
            for publisher in publishers:
                loop.call_soon_threadsafe(publisher.aim, int(line))

    threading.Thread(target=read, daemon=True).start()


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM; exit statuses are those of `huskies sled`."""
    parser = argparse.ArgumentParser(prog="publish")
    parser.add_argument("--gateway-url", action="append", default=[], help="in order of preference")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--values", default="", help="what a sled's name in its values begins with")
    parser.add_argument("--padding", type=int, default=0, help="how much longer each event is")
    parser.add_argument("projects", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    set_up(level="info", as_json=False)

    async def launch(services: runtime.Services) -> None:
        publishers = [
            Publisher(one, options.gateway_url, options.journal, options.values, options.padding)
            for one in options.projects
        ]
        for publisher in publishers:
            await services.start(publisher)
        _listen(publishers, asyncio.get_running_loop())

    try:
        runtime.run(launch)
    except HuskiesError as error:
        say(f"huskies: {error}")
        return error.exit_status
    return 0
