"""What changed in a project's pipeline between two looks at it (SPEC 3). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from huskies import limits
from huskies.events.model import STAGES, MergeFailure, StageTransition, StatusEvent, StoryBlocked
from huskies.sled.story_file import StoryContent

_SUFFIX: Final = ".md"
# Whoever moves a story with `git checkout`, or by copying and deleting, deletes the old file before or
# after the new one is there. A story that is gone counts as deleted only once it has stayed away for this
# long (seconds); a deletion is no event, so all that waits is the board.
DELETION_SETTLES: Final = 2.0


class SeenStory(msgspec.Struct, frozen=True, kw_only=True):
    """A story as it was last seen; names and reasons are as long as a stored event may hold at most."""

    story_id: str
    stage: str
    content: StoryContent


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the pipeline found.

    `stories` maps story id → stage → what its file says there (None: the file could not be read). Nothing is
    known of the stages in `unreadable`.
    """

    stories: Mapping[str, Mapping[str, StoryContent | None]]
    unreadable: frozenset[str] = frozenset()


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a look changes: events in order, stories as they are seen now, ids of stories that are gone.

    `unsaid`: the snapshot changes in a way that the events do not say.
    """

    events: Sequence[StatusEvent] = ()
    seen: Sequence[SeenStory] = ()
    gone: Sequence[str] = ()
    unsaid: bool = False

    def __bool__(self) -> bool:
        return bool(self.events or self.seen or self.gone)


def story_id_of(file_name: str) -> str | None:
    """The story whose file has this name; None for what is no story's file.

    Hidden files are left out, and with them what editors keep beside a file (`.x.md.swp`, `.#x.md`); backups
    (`x.md~`) and probes (`4913`) do not end in `.md`.
    """
    if not file_name.endswith(_SUFFIX) or file_name.startswith("."):
        return None
    return file_name.removesuffix(_SUFFIX)


def problem_of(story_id: str) -> str | None:
    """Why a story of this id cannot be followed; None where it can."""
    if len(story_id) > limits.STORY_ID_MAX:
        return f"its name has {len(story_id)} characters; expected at most {limits.STORY_ID_MAX}"
    if any("\ud800" <= character <= "\udfff" for character in story_id):
        return "its name is no UTF-8"
    return None


def diff(seen: Mapping[str, SeenStory], look: Look) -> Changes:
    """What the look changes of what was seen before; stories in the order of their ids.

    `gone` names each seen story that the look did not find, whether it stays away or not (`Deletions`).
    """
    events: list[StatusEvent] = []
    now_seen: list[SeenStory] = []
    unsaid = False
    for story_id in sorted(look.stories):
        before = seen.get(story_id)
        after = _resolve(story_id, before, look)
        if after is None or after == before:
            continue
        now_seen.append(after)
        happened = [] if before is None else _events(before, after)
        events += happened
        unsaid = unsaid or _is_unsaid(before, after, happened)
    gone = [
        story_id
        for story_id, story in sorted(seen.items())
        if story_id not in look.stories and story.stage not in look.unreadable
    ]
    return Changes(events=events, seen=now_seen, gone=gone, unsaid=unsaid)


def _resolve(story_id: str, before: SeenStory | None, look: Look) -> SeenStory | None:
    """Where the story stands now; None where that cannot be told.

    A story with a file in several stages stays where it was seen while that file is there: it is being
    copied, and moves when the old file goes. One that is seen for the first time stands in the latest
    stage.
    """
    places = look.stories[story_id]
    if before is None:
        readable = [stage for stage, content in places.items() if content is not None]
        if not readable:
            return None
        stage = max(readable, key=STAGES.index)
    elif before.stage in places or before.stage in look.unreadable:
        stage = before.stage
    else:
        stage = max(places, key=STAGES.index)
    content = places.get(stage)
    if content is None:
        # Only a story that was seen before comes here: what cannot be read is as it was last seen.
        content = before.content if before is not None else StoryContent()
    return SeenStory(story_id=story_id, stage=stage, content=content)


def _events(before: SeenStory, after: SeenStory) -> list[StatusEvent]:
    was, now = before.content, after.content
    story_id, name = after.story_id, now.name
    cleared = (was.blocked is not None and now.blocked is None) or (
        was.merge_failure is not None and now.merge_failure is None
    )
    events: list[StatusEvent] = []
    if before.stage != after.stage or cleared:
        events.append(
            StageTransition(story_id=story_id, story_name=name, from_stage=before.stage, to_stage=after.stage)
        )
    if now.blocked is not None and now.blocked != was.blocked:
        events.append(StoryBlocked(story_id=story_id, story_name=name, reason=now.blocked))
    if now.merge_failure is not None and now.merge_failure != was.merge_failure:
        events.append(MergeFailure(story_id=story_id, story_name=name, reason=now.merge_failure))
    return events


def _is_unsaid(before: SeenStory | None, after: SeenStory, events: Sequence[StatusEvent]) -> bool:
    """Whether a board that follows the events would not show the story as it is."""
    if before is None or not events:
        return True
    now = after.content
    shown = (
        set()
        if isinstance(events[0], StageTransition)
        else {before.content.blocked, before.content.merge_failure}
    )
    shown |= {event.reason for event in events if isinstance(event, StoryBlocked | MergeFailure)}
    # A transition clears both reasons on the board, also one that still stands in the file.
    return not {now.blocked, now.merge_failure} - {None} <= shown


class Deletions:
    """Which stories have stayed away for long enough to count as deleted; times are monotonic seconds."""

    def __init__(self) -> None:
        self._gone_at: dict[str, float] = {}

    def settled(self, gone: Sequence[str], now: float) -> list[str]:
        """Of the stories that a look at `now` did not find, those that count as deleted."""
        self._gone_at = {story_id: self._gone_at.get(story_id, now) for story_id in gone}
        return [story_id for story_id, at in self._gone_at.items() if now - at >= DELETION_SETTLES]

    def next_due(self) -> float | None:
        """When the next one settles; None where none is waiting."""
        return min(self._gone_at.values()) + DELETION_SETTLES if self._gone_at else None
