"""What `huskies status` shows: what needs attention, oldest first, then a row for each project."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from huskies.cli.times import duration
from huskies.events.model import STAGES
from huskies.logs import printable

# A pipe has no width; nothing is to be cut off there.
_PIPE_WIDTH: Final = 10_000


class StoryView(msgspec.Struct, frozen=True):
    """One story of the gateway's answer; `since_ms` is when it entered its stage."""

    story_id: str
    story_name: str = ""
    stage: str | None = None
    since_ms: int | None = None
    blocked: str | None = None
    merge_failure: str | None = None


class ProjectView(msgspec.Struct, frozen=True):
    """One project of the gateway's answer."""

    name: str
    connected: bool = False
    last_seen_ms: int | None = None
    outstanding: int | None = None
    stories: list[StoryView] = []


def show(projects: Sequence[bytes], gateway_url: str, now_ms: int) -> None:
    """Print the board of these projects (JSON) on stdout."""
    views = [msgspec.json.decode(project, type=ProjectView) for project in projects]
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else _PIPE_WIDTH)
    if not views:
        console.print(
            f"No project has joined {gateway_url} yet; start a sled with `huskies sled PROJECT_DIR`",
            markup=False,
        )
        return
    for table in (_attention(views, now_ms), _projects(views, now_ms)):
        if table.row_count:
            table.box = box.SIMPLE_HEAD if terminal else None
            console.print(table)


def _attention(views: Iterable[ProjectView], now_ms: int) -> Table:
    table = Table("needs attention", "story", "in", "for", "why", pad_edge=False)
    stuck = [(project, story) for project in views for story in project.stories if _trouble(story)]
    stuck.sort(key=lambda pair: pair[1].since_ms or 0)
    for project, story in stuck:
        for why, what in _trouble(story):
            table.add_row(
                _text(project.name),
                _text(f"{story.story_id} {story.story_name}".strip()),
                _text(story.stage or "?"),
                _ago(story.since_ms, now_ms),
                Text(f"{what}: ", style="bold red").append(_text(why)),
            )
    return table


def _trouble(story: StoryView) -> list[tuple[str, str]]:
    found = ((story.blocked, "blocked"), (story.merge_failure, "merge failed"))
    return [(why, what) for why, what in found if why is not None]


def _projects(views: Sequence[ProjectView], now_ms: int) -> Table:
    table = Table("project", "sled", pad_edge=False)
    table.add_column("outstanding", justify="right")
    # A stage of a later version, or none known yet, still has its story counted.
    others = any(story.stage not in STAGES for view in views for story in view.stories)
    for stage in (*STAGES, *(["other"] if others else [])):
        table.add_column(stage, justify="right")
    for view in sorted(views, key=lambda view: view.name):
        counts = Counter(story.stage if story.stage in STAGES else "other" for story in view.stories)
        cells = [str(counts[stage] or "·") for stage in STAGES]
        table.add_row(
            _text(view.name),
            _sled(view, now_ms),
            "?" if view.outstanding is None else str(view.outstanding),
            *cells,
            *([str(counts["other"] or "·")] if others else []),
        )
    return table


def _sled(view: ProjectView, now_ms: int) -> Text:
    if view.connected:
        return Text("connected", style="green")
    if view.last_seen_ms is None:
        return Text("never seen", style="dim")
    return Text(f"silent for {duration(now_ms - view.last_seen_ms)}", style="yellow")


def _ago(since_ms: int | None, now_ms: int) -> str:
    return "?" if since_ms is None else duration(now_ms - since_ms)


def _text(outside: str) -> Text:
    # As Text, so that a story called [red] stays a story called [red].
    return Text(printable(outside))
