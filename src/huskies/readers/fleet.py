"""The fleet as a reader sees it: what the gateway answers, what an event changes of it, what needs someone.

Pure. Nothing is changed in place: a story or a project that is the same object as before is as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

# A sled that comes back within this (a restart, a short cut) needs no one.
SILENT_GRACE_MS: Final = 10_000

_FINISHED: Final = ("5_done", "6_archived")


class StoryView(msgspec.Struct, frozen=True):
    """One story of the gateway's answer; the times are since when it is so."""

    story_id: str
    story_name: str = ""
    stage: str | None = None
    since_ms: int | None = None
    blocked: str | None = None
    blocked_since_ms: int | None = None
    merge_failure: str | None = None
    merge_failure_since_ms: int | None = None


class MissingRange(msgspec.Struct, frozen=True):
    """Some consecutive events of a sled."""

    first_seq: int
    last_seq: int


class ProjectView(msgspec.Struct, frozen=True):
    """One project of the gateway's answer, as far as it is shown."""

    name: str
    connected: bool = False
    last_seen_ms: int | None = None
    outstanding: int | None = None
    stories: list[StoryView] = []
    missing: list[MissingRange] = []
    quarantined: list[MissingRange] = []
    identity_used_twice: bool = False
    over_quota: bool = False


class Received(msgspec.Struct, frozen=True):
    """A `GatewayStatusEvent`, as far as it is shown; a later gateway may send kinds unknown here."""

    project: str
    event: dict[str, Any]
    replayed: bool = False
    received_ms: int = 0
    cursor: str = ""


class Need(msgspec.Struct, frozen=True):
    """Something that needs a person: what it is and why in words, and since when (None: no one knows)."""

    what: str
    why: str
    project: str
    story: StoryView | None = None
    since_ms: int | None = None


def decode(projects: Sequence[bytes]) -> list[ProjectView]:
    """The projects of an answer; raises `msgspec.DecodeError`, `UnicodeError` or `RecursionError`."""
    return [msgspec.json.decode(project, type=ProjectView) for project in projects]


def title(story: StoryView) -> str:
    """What a story is called: its number, and its name or the rest of its id."""
    number, _, rest = story.story_id.partition("_")
    return f"{number} {story.story_name or rest}".strip()


def is_in_flight(story: StoryView) -> bool:
    """Whether someone should be at work on it."""
    return story.stage not in {None, "1_backlog", *_FINISHED}


def needs(views: Sequence[ProjectView], now_ms: int) -> list[Need]:
    """What needs someone, the oldest first; before it that of which no one knows how long it has been so."""
    found = [need for view in views for need in (*_of_sled(view, now_ms), *_of_stories(view))]
    return sorted(found, key=lambda need: (need.since_ms or 0, need.project))


def _of_sled(view: ProjectView, now_ms: int) -> Iterator[Need]:
    if view.identity_used_twice:
        why = "two sleds run with one state directory; give one its own"
        yield Need("identity used twice", why, view.name)
    if view.over_quota:
        why = "nothing more is taken of it; raise --project-quota, or --retain less"
        yield Need("over its quota", why, view.name)
    if lost := _count(view.missing):
        yield Need("events lost", f"{lost} that its sled recorded and no one holds any more", view.name)
    if aside := _count(view.quarantined):
        why = f"{aside} events of two sleds with one identity; give each its own"
        yield Need("in quarantine", why, view.name)
    seen_ms = view.last_seen_ms
    if not view.connected and seen_ms is not None and now_ms - seen_ms > SILENT_GRACE_MS:
        why = "its sled is not connected; what happens there shows once it is back"
        yield Need("silent", why, view.name, since_ms=seen_ms)


def _count(ranges: Sequence[MissingRange]) -> int:
    return sum(each.last_seq - each.first_seq + 1 for each in ranges)


def _of_stories(view: ProjectView) -> Iterator[Need]:
    for story in view.stories:
        if story.blocked is not None:
            yield Need("blocked", story.blocked, view.name, story, story.blocked_since_ms)
        if story.merge_failure is not None:
            yield Need("merge failed", story.merge_failure, view.name, story, story.merge_failure_since_ms)


class Fleet:
    """Projects by name, kept up to date by answers and by events."""

    def __init__(self) -> None:
        self._views: dict[str, ProjectView] = {}
        self._stories: dict[str, dict[str, StoryView]] = {}
        self._changed: set[str] = set()

    def replace(self, views: Sequence[ProjectView]) -> None:
        """Take the gateway's word for all of it; what it says as before stays the same object."""
        before = {view.name: view for view in self.views()}
        # While a sled is connected this is the time of the answer, and would make every answer look new.
        timeless = (msgspec.structs.replace(v, last_seen_ms=None) if v.connected else v for v in views)
        self._views = {
            view.name: old if (old := before.get(view.name)) == view else view for view in timeless
        }
        self._stories.clear()

    def take(self, received: Received) -> None:
        """What this event changes; a kind that moves nothing changes nothing. As gateway/standing.py does."""
        story_id = received.event.get("story_id")
        if not isinstance(story_id, str):
            return
        stories = self._stories_of(received.project)
        before = stories.get(story_id, StoryView(story_id))
        after = _after(before, received.event)
        if after is not None:
            stories[story_id] = after
            self._changed.add(received.project)

    def views(self) -> list[ProjectView]:
        """Every project, by name."""
        for name in self._changed:
            view = self._views.get(name, ProjectView(name, connected=True))
            self._views[name] = msgspec.structs.replace(view, stories=list(self._stories[name].values()))
        self._changed.clear()
        return [view for _, view in sorted(self._views.items())]

    def _stories_of(self, project: str) -> dict[str, StoryView]:
        if project not in self._stories:
            view = self._views.get(project)
            self._stories[project] = {story.story_id: story for story in view.stories} if view else {}
        return self._stories[project]


def _after(story: StoryView, event: dict[str, Any]) -> StoryView | None:
    """The story after the event; None where the event says nothing of where it stands."""
    name = str(event.get("story_name") or story.story_name)
    match event:
        case {"type": "stage_transition", "to_stage": str(stage), "timestamp_ms": int(at_ms)}:
            # From a stage to itself: it is held up no longer, and has been in the stage all along.
            stayed = story.stage == stage == event.get("from_stage")
            return StoryView(story.story_id, name, stage, story.since_ms if stayed else at_ms)
        case {"type": "story_blocked", "reason": str(reason), "timestamp_ms": int(at_ms)}:
            return msgspec.structs.replace(story, story_name=name, blocked=reason, blocked_since_ms=at_ms)
        case {"type": "merge_failure", "reason": str(reason), "timestamp_ms": int(at_ms)}:
            return msgspec.structs.replace(
                story, story_name=name, merge_failure=reason, merge_failure_since_ms=at_ms
            )
        case _:
            return None
