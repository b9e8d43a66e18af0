"""`python -m bench.flood URL KIND SECONDS`: one sled that sends as much as it can, for so long.

Prints `flooding` once it has begun, and how many frames it wrote when it ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import uvloop

from bench.driver import Sled, SledRun, connect_all
from bench.websocket import text_frame

_PROJECT: Final = "bad"
# As large as frames may be.
_STORIES: Final = 9_000
_REASON: Final = "x" * 16_000
_LARGE: Final = 60
# A client's ping, masked with zero.
_PING: Final = b"\x89\x80\0\0\0\0"
# Handed to the socket at a time.
_AT_ONCE: Final = 256 << 10


def _batches(sled: Sled) -> Callable[[int], bytes]:
    """A thousand events a frame, five of them in flight."""
    return sled.frame


def _large(_sled: Sled) -> Callable[[int], bytes]:
    """A mebibyte of long reasons a frame."""
    event = {"type": "story_blocked", "story_id": "1_story_x", "reason": _REASON, "timestamp_ms": 1}
    events = json.dumps([event] * _LARGE).encode()

    def frame(number: int) -> bytes:
        seq = number * _LARGE + 1
        return text_frame(b'{"type":"events","first_seq":%d,"events":%b}' % (seq, events))

    return frame


def _snapshots(_sled: Sled) -> Callable[[int], bytes]:
    """A mebibyte of stories, again and again."""
    stories = [{"story_id": f"{number}_story_x", "stage": "2_current"} for number in range(_STORIES)]
    shown = [{**story, "story_name": "a story", "blocked": None, "merge_failure": None} for story in stories]
    data = text_frame(json.dumps({"type": "snapshot", "seq": 0, "stories": shown}).encode())
    return lambda _number: data


def _pings(_sled: Sled) -> Callable[[int], bytes]:
    """Pings and nothing else."""
    return lambda _number: _PING * 1_000


KINDS: Final = {
    "batches": (_batches, SledRun(project=_PROJECT, frames=1 << 40, events=1_000, window=5)),
    "one event a frame": (_batches, SledRun(project=_PROJECT, frames=1 << 40, window=5_000)),
    "large events": (_large, SledRun(project=_PROJECT, frames=1 << 40, events=_LARGE, window=80)),
    "snapshots": (_snapshots, SledRun(project=_PROJECT, events=0)),
    "pings": (_pings, SledRun(project=_PROJECT, events=0)),
}


class Flood:
    """Writes frames for as long as the socket takes them and the window has room."""

    def __init__(self, sled: Sled, frame: Callable[[int], bytes]) -> None:
        self._sled = sled
        self._frame = frame
        self.sent = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        transport, run = self._sled.transport, self._sled.run
        while not transport.is_closing():
            room = not run.events or self.sent < self._sled.acked // run.events + run.window
            if room and transport.get_write_buffer_size() < _AT_ONCE:
                transport.write(self._frame(self.sent))
                self.sent += 1
            else:
                await asyncio.sleep(0.005)


async def main(arguments: Sequence[str]) -> None:
    url, kind, seconds = arguments[0], arguments[1], float(arguments[2])
    make, run = KINDS[kind]
    (sled,) = await connect_all(urlsplit(url).geturl(), [run])
    flood = Flood(sled, make(sled))
    print("flooding", flush=True)
    try:
        async with asyncio.timeout(seconds):
            await flood.run()
    except TimeoutError:
        pass
    print(f"wrote {flood.sent} frames", flush=True)
    sled.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
