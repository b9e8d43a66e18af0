"""Quota: how much of the log each project takes, so that none fills the disk for all. Pure.

What is over it is not lost: its sleds keep their events, and deliver them once there is room again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from huskies import limits
from huskies.gateway.store.blocks import Block, Stream

_log = logging.getLogger("huskies.push")

_MB: Final = 10**6


class Quota:
    """What each project takes, and which take more than `limit` bytes; 0: none ever does."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Asked for every batch that comes.
        self.over: set[str] = set()
        self._used: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._streams = 0
        self._opened_at = 0

    def used(self, project: str) -> int:
        """How many bytes the project takes."""
        return self._used.get(project, 0)

    def reason(self, project: str) -> str:
        """What a sled is told whose project is over its quota."""
        if self._told.get(project, 0) > limits.STORIES_MAX:
            what = f"has more than {limits.STORIES_MAX:,} stories on the board"
        else:
            what = f"takes all of its quota of {self.limit // _MB:,} MB of this gateway's log"
        return f"the project {what}: its events wait with the sled"

    def opened(self, streams: Sequence[Stream | None], sizes: Mapping[int, int], position: int) -> None:
        """The log is open, and ends at `position`; `sizes` says what the indexed events of sequences take."""
        self._opened_at = position
        self.registered(streams)
        for stream_id, size in sizes.items():
            self._add_to(streams, stream_id, size)

    def registered(self, streams: Sequence[Stream | None]) -> None:
        """The log may have more sequences than before: each takes room, in memory too."""
        for stream in streams[self._streams :]:
            if stream is not None:
                self.add(stream.project, limits.SEQUENCE_BYTES)
        self._streams = len(streams)

    def indexed(self, blocks: Iterable[Block], streams: Sequence[Stream | None]) -> None:
        """These blocks are indexed only now; those that the log had when it was opened count from now on."""
        self.appended((block for block in blocks if block.position <= self._opened_at), streams)

    def appended(self, blocks: Iterable[Block], streams: Sequence[Stream | None]) -> None:
        """The log has more blocks."""
        for block in blocks:
            for run, size in zip(block.runs, block.run_sizes(), strict=True):
                self._add_to(streams, run.stream_id, size)

    def dropped(self, sizes: Mapping[int, int], streams: Sequence[Stream | None]) -> None:
        """So many bytes of sequences are retained no more."""
        for stream_id, size in sizes.items():
            self._add_to(streams, stream_id, -size)

    def forgotten(self, project: str, streams: Sequence[Stream | None], told: int) -> None:
        """All that the project's sequences held is forgotten, and so much is known of its stories now."""
        self.registered(streams)
        numbers = sum(stream is not None and stream.project == project for stream in streams)
        self._used[project] = numbers * limits.SEQUENCE_BYTES
        self.stories(project, told)

    def add(self, project: str, size: int) -> None:
        """The project takes so many bytes more, or less."""
        self._used[project] = self._used.get(project, 0) + size
        self._judge(project)

    def stories(self, project: str, told: int) -> None:
        """So much is known of the project's stories."""
        self._told[project] = told
        self._judge(project)

    def _judge(self, project: str) -> None:
        used, told = self.used(project), self._told.get(project, 0)
        is_over = bool(self.limit) and (used > self.limit or told > limits.STORIES_MAX)
        if is_over == (project in self.over):
            return
        said = {"project": project, "bytes": used, "stories": told}
        if is_over:
            self.over.add(project)
            _log.error("a project is over its quota: nothing more is taken of it", extra=said)
        else:
            self.over.discard(project)
            _log.info("a project is within its quota again", extra=said)

    def _add_to(self, streams: Sequence[Stream | None], stream_id: int, size: int) -> None:
        stream = streams[stream_id] if 0 < stream_id < len(streams) else None
        # A sequence whose row is damaged belongs to nobody, and what nobody is shown is held against nobody.
        if stream is not None and size and not stream.is_hidden:
            self.add(stream.project, size)
