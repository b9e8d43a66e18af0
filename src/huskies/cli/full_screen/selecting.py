"""Which part of the fleet is shown: one project, or what contains a text, or both. Pure."""

from __future__ import annotations

from huskies.logs import printable
from huskies.readers.fleet import Need, ProjectView, Received, StoryView


class Selecting:
    """`project`: only this one; `text`: what contains it, in upper or lower case; None and empty: all."""

    def __init__(self) -> None:
        self.project: str | None = None
        self.text = ""

    @property
    def told(self) -> str:
        """What is shown, in words; empty where that is everything."""
        parts = [f"only {self.project}"] if self.project is not None else []
        parts += [f"only what contains {self.text!r}"] if self.text else []
        return printable(f"{', '.join(parts)}; Esc shows everything") if parts else ""

    def has_need(self, need: Need) -> bool:
        """Whether this is shown."""
        stories = [need.story] if need.story else []
        return self._has(need.project, need.what, need.why, *_texts(stories))

    def has_project(self, view: ProjectView) -> bool:
        """Whether this is shown: for its own name, or for a story of it."""
        return self._has(view.name, *(_texts(view.stories) if self.text else ()))

    def has_event(self, received: Received) -> bool:
        """Whether this is shown."""
        return self._has(received.project, *(str(value) for value in received.event.values()))

    def _has(self, project: str, *texts: str) -> bool:
        if self.project is not None and self.project != project:
            return False
        text = self.text.casefold()
        return not text or any(text in each.casefold() for each in (project, *texts))


def _texts(stories: list[StoryView]) -> list[str]:
    return [text for story in stories for text in (story.story_id, story.story_name)]
