"""Looking at a project's pipeline: lists the stages and reads the story files that changed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection
from typing import Final

import msgspec

from huskies.events.model import STAGES
from huskies.sled.layout import Layout
from huskies.sled.scan import Look, problem_of, story_id_of
from huskies.sled.story_file import READ_BYTES_MAX, StoryContent, parse_story

_log = logging.getLogger("huskies.sled")

# File systems keep times as coarsely as 2 s (FAT): a file that changed so recently may change again without
# showing it, and is read again at the next look.
_RACY_NS: Final = 2_000_000_000


class _Read(msgspec.Struct, frozen=True):
    """What was read of a file when its inode, size and mtime (ns) were these; `racy`: read it again.

    `changed_ns`: also when it was moved, which its mtime does not show.
    """

    inode: int
    size: int
    mtime_ns: int
    changed_ns: int
    racy: bool
    content: StoryContent


class PipelineReader:
    """Remembers what it read, so that a look costs one `stat` for each file that did not change.

    Used from one thread at a time.
    """

    def __init__(self, layout: Layout, project: str) -> None:
        self._layout = layout
        self._project = project
        self._stages: dict[str, dict[str, StoryContent | None]] = {}
        self._reads: dict[tuple[str, str], _Read] = {}
        self._unreadable: set[str] = set()
        self._reported: set[str] = set()

    def look(self, stages: Collection[str] = STAGES) -> Look:
        """Look at these stages again; the others are as they were found last."""
        for stage in stages:
            self._list(stage)
        stories: dict[str, dict[str, StoryContent | None]] = {}
        for stage, found in self._stages.items():
            for story_id, content in found.items():
                stories.setdefault(story_id, {})[stage] = content
        return Look(stories=stories, unreadable=frozenset(self._unreadable))

    def changed_ns(self, stage: str, story_id: str) -> int:
        """When the story's file there was last moved or written (Unix ns), as far as this system says so.

        0 where it could not be read.
        """
        read = self._reads.get((stage, story_id))
        return 0 if read is None else read.changed_ns

    def _list(self, stage: str) -> None:
        directory = self._layout.stage(stage)
        self._unreadable.discard(stage)
        found: dict[str, StoryContent | None] = {}
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    story_id = story_id_of(entry.name)
                    if story_id is not None and self._may_follow(story_id, entry):
                        self._visit(stage, story_id, entry, found)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._unreadable.add(stage)
            self._report(str(directory), f"cannot be listed: {error.strerror}")
        else:
            self._reported.discard(str(directory))
        for story_id in self._stages.get(stage, {}).keys() - found.keys():
            self._reads.pop((stage, story_id), None)
        self._stages[stage] = found

    def _visit(
        self, stage: str, story_id: str, entry: os.DirEntry[str], found: dict[str, StoryContent | None]
    ) -> None:
        try:
            if entry.is_file():
                found[story_id] = self._read(stage, story_id, entry)
                self._reported.discard(entry.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            found[story_id] = None
            self._report(entry.path, f"cannot be read: {error.strerror}")

    def _read(self, stage: str, story_id: str, entry: os.DirEntry[str]) -> StoryContent:
        # Not the entry's own stat: on Windows that comes from the listing and knows no inode.
        found = os.stat(entry.path)  # noqa: PTH116 - thousands of files a look
        known = self._reads.get((stage, story_id))
        if known is not None and not known.racy and _is_same(known, found):
            return known.content
        fresh = time.time_ns() - found.st_mtime_ns < _RACY_NS
        if known is not None and found.st_size == 0 and known.size > 0 and fresh:
            # An editor that saves in place has emptied the file and is about to write it.
            return known.content
        with open(entry.path, "rb") as file:  # noqa: PTH123 - as above
            data = file.read(READ_BYTES_MAX)
        content = parse_story(data)
        self._reads[stage, story_id] = _Read(
            found.st_ino, len(data), found.st_mtime_ns, found.st_ctime_ns, fresh, content
        )
        return content

    def _may_follow(self, story_id: str, entry: os.DirEntry[str]) -> bool:
        problem = problem_of(story_id)
        if problem is not None:
            self._report(entry.path, f"is ignored: {problem}")
        return problem is None

    def _report(self, path: str, problem: str) -> None:
        if path not in self._reported:
            self._reported.add(path)
            _log.warning("%s %s", ascii(path), problem, extra={"project": self._project})


def _is_same(known: _Read, found: os.stat_result) -> bool:
    size = min(found.st_size, READ_BYTES_MAX)
    return (known.inode, known.size, known.mtime_ns) == (found.st_ino, size, found.st_mtime_ns)
