"""Keeping a picture of a gateway up to date: threads that listen and ask, and one place that takes it in."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from huskies.cli import pages
from huskies.cli.board import views_in
from huskies.cli.follow import Follower
from huskies.cli.picture import Picture
from huskies.cli.status import ask
from huskies.errors import HuskiesError
from huskies.readers.fleet import ProjectView, Received
from huskies.readers.times import now_ms

# How often it is asked which sleds are connected, and the longest part of the time that asking may take:
# the answer of a large fleet is megabytes.
_ASK_INTERVAL: Final = 2.0
_ASK_SHARE: Final = 0.1
# What waits to be taken; beyond it the stream is read no further, and the gateway waits, or ends it and it is
# resumed.
_WAITING_MAX: Final = 20_000
# What is taken in one go, so that whoever draws comes to draw in a flood, too.
_TAKEN_MAX: Final = 2_000

_Step: TypeAlias = Callable[[Picture], None]


class Watch:
    """A gateway that is followed from when this is made; `take` is for one thread alone.

    Raises `HuskiesError` where the gateway does not answer at first.
    """

    def __init__(self, gateway_url: str, *, kept: int) -> None:
        self._url = gateway_url
        self._steps: queue.Queue[_Step] = queue.Queue(_WAITING_MAX)
        self._nudged = threading.Event()
        # In this order: what happens between the two is in the answer and comes in the stream, too.
        newest = pages.newest(gateway_url, kept)
        views = views_in(ask(gateway_url), gateway_url)
        self.picture = Picture(views, newest, now_ms(), kept=kept)
        self._after = newest[0].cursor if newest else "0"
        for work in (self._listen, self._ask_again):
            threading.Thread(target=work, daemon=True).start()

    def take(self, patience: float) -> bool:
        """Wait for something to happen, and take what has; False where nothing did for so long (s).

        Raises `HuskiesError` once the gateway refuses what only a person can change.
        """
        try:
            step = self._steps.get(block=patience > 0, timeout=patience)
        except queue.Empty:
            return False
        step(self.picture)
        for _ in range(min(self._steps.qsize(), _TAKEN_MAX)):
            self._steps.get_nowait()(self.picture)
        return True

    # --- the threads -------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            Follower(self._url, {"after": self._after}, _Listener(self._steps, self._nudged)).run()
        except HuskiesError as error:
            self._steps.put(_raising(error))

    def _ask_again(self) -> None:
        took = 0.0
        while True:
            self._nudged.wait(max(_ASK_INTERVAL, took / _ASK_SHARE))
            self._nudged.clear()
            started = time.monotonic()
            self._steps.put(Picture.asked)
            self._steps.put(self._answer())
            took = time.monotonic() - started

    def _answer(self) -> _Step:
        try:
            views = views_in(ask(self._url), self._url)
        except HuskiesError as error:
            return _unanswered(str(error))
        return _answered(views)


class _Listener:
    """What a follower passes on becomes steps."""

    def __init__(self, steps: queue.Queue[_Step], nudged: threading.Event) -> None:
        self._steps = steps
        self._nudged = nudged

    def event(self, data: bytes) -> None:
        try:
            received = msgspec.json.decode(data, type=Received)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self.warning(f"an event that cannot be shown: {error}")
            return
        self._steps.put(lambda picture: picture.happened(received, now_ms()))

    def warning(self, text: str) -> None:
        self._steps.put(lambda picture: picture.remarked(text))
        self._nudged.set()

    def notice(self, text: str) -> None:
        self._steps.put(lambda picture: picture.remarked(text))

    def disconnected(self, url: str, problem: str) -> None:
        del url
        self._steps.put(lambda picture: picture.disconnected(problem))

    def connected(self) -> None:
        self._steps.put(lambda picture: picture.connected(now_ms()))
        self._nudged.set()


def _answered(views: list[ProjectView]) -> _Step:
    return lambda picture: picture.answered(views, now_ms())


def _unanswered(problem: str) -> _Step:
    return lambda picture: picture.unanswered(problem)


def _raising(error: HuskiesError) -> _Step:
    def step(_: Picture) -> None:
        raise error

    return step
