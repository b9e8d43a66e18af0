"""Finding the story that someone means: its id, its number, or a part that only it has. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

import msgspec

from huskies.errors import EXIT_USAGE, HuskiesError
from huskies.readers.fleet import ProjectView, Received, StoryView

_SHOWN: Final = 10


class Found(msgspec.Struct, frozen=True):
    """A story, and the project that it is of."""

    project: ProjectView
    story: StoryView


class NotFoundError(HuskiesError):
    """No story, or several, are meant by `text`; the message names `candidates` and what to type."""

    exit_status = EXIT_USAGE

    def __init__(self, text: str, candidates: Sequence[Found], problem: str) -> None:
        super().__init__(problem)
        self.text = text
        self.candidates = candidates


def find(text: str, views: Sequence[ProjectView], project: str | None = None) -> Found:
    """The one that is meant, in one project or in any; raises `NotFoundError`.

    An id that is just so wins over a number, and that over a part of an id or a name.
    """
    asked = [view for view in views if project is None or view.name == project]
    if project is not None and not asked:
        raise NotFoundError(text, [], f"no project {project}; `huskies status` names those there are")
    everything = [Found(view, story) for view in asked for story in view.stories]
    for found in (
        [each for each in everything if each.story.story_id == text],
        [each for each in everything if each.story.story_id.partition("_")[0] == text],
        [each for each in everything if _has(each.story, text.casefold())],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(text, found, _ambiguous(text, found))
    where = "no project has" if project is None else f"{project} does not have"
    raise NotFoundError(text, [], f"{where} a story {text!r}; `huskies status --json` names those there are")


def _has(story: StoryView, part: str) -> bool:
    return part in story.story_id.casefold() or part in story.story_name.casefold()


def _ambiguous(text: str, found: Sequence[Found]) -> str:
    several = len({each.story.story_id for each in found}) < len(found)
    # One id in several projects is told apart by the project alone.
    names = [
        shlex.quote(each.story.story_id) + (f" --project {each.project.name}" if several else "")
        for each in found
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(f"`huskies show {name}`" for name in names[:_SHOWN])
    return f"{len(found)} stories are {text!r}; type one of {shown}{more}"


def forgotten(story_id: str, received: Sequence[Received], error: NotFoundError) -> Found:
    """A story that stands on no board, from its events; raises `error` where there are none."""
    projects = sorted({each.project for each in received})
    found = [Found(ProjectView(name), StoryView(story_id, _name(received))) for name in projects]
    if len(found) > 1:
        raise NotFoundError(story_id, found, _ambiguous(story_id, found)) from None
    if not found:
        raise error
    return found[0]


def _name(received: Sequence[Received]) -> str:
    names = [str(each.event["story_name"]) for each in received if each.event.get("story_name")]
    return names[-1] if names else ""
