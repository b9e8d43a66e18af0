"""What `huskies status` shows: what needs attention, oldest first, then a row for each project."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from huskies.cli.times import duration
from huskies.errors import HuskiesError
from huskies.events.model import STAGES
from huskies.logs import printable

# A pipe has no width; nothing is to be cut off there.
_PIPE_WIDTH: Final = 10_000


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


def show(projects: Sequence[bytes], gateway_url: str, now_ms: int) -> None:
    """Print the board of these projects (JSON) on stdout; raises `HuskiesError` where one is none."""
    try:
        views = [msgspec.json.decode(project, type=ProjectView) for project in projects]
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise HuskiesError(
            f"the gateway at {gateway_url} shows a project in a way that is unknown here: {error}; use the "
            "version of huskies that it has, or --json"
        ) from None
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


def _attention(views: Sequence[ProjectView], now_ms: int) -> Table:
    table = Table("needs attention", "story", "in", "for", "why", padding=(0, 1, 0, 0), pad_edge=False)
    for view in views:
        for what, problem in _sled_trouble(view):
            table.add_row(_text(view.name), "", "", "", _why(what, problem))
    stuck = [
        (since_ms, view, story, _why(what, why))
        for view in views
        for story in view.stories
        for what, why, since_ms in _story_trouble(story)
    ]
    for since_ms, view, story, why in sorted(stuck, key=lambda row: row[0] or 0):
        table.add_row(
            _text(view.name),
            _text(f"{story.story_id} {story.story_name}".strip()),
            _text(_short(story.stage or "?")),
            _ago(since_ms, now_ms),
            why,
        )
    return table


def _sled_trouble(view: ProjectView) -> Iterator[tuple[str, str]]:
    if view.identity_used_twice:
        yield "identity used twice", "two sleds run with one state directory; give one its own"
    if view.over_quota:
        yield "over its quota", "nothing more is taken of it; raise --project-quota, or --retain less"
    if lost := _count(view.missing):
        yield "events lost", f"{lost} that its sled recorded and no one holds any more"
    if aside := _count(view.quarantined):
        yield "in quarantine", f"{aside} events of two sleds with one identity; give each its own"


def _count(ranges: Sequence[MissingRange]) -> int:
    return sum(each.last_seq - each.first_seq + 1 for each in ranges)


def _story_trouble(story: StoryView) -> Iterator[tuple[str, str, int | None]]:
    if story.blocked is not None:
        yield "blocked", story.blocked, story.blocked_since_ms
    if story.merge_failure is not None:
        yield "merge failed", story.merge_failure, story.merge_failure_since_ms


def _why(what: str, why: str) -> Text:
    return Text.assemble((f"{what}: ", "bold red"), printable(why))


def _projects(views: Sequence[ProjectView], now_ms: int) -> Table:
    table = Table("project", "sled", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("unsent", justify="right")
    # A stage of a later version, or none known yet, still has its story counted.
    others = any(story.stage not in STAGES for view in views for story in view.stories)
    for stage in (*STAGES, *(["other"] if others else [])):
        table.add_column(_short(stage), justify="right")
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
    return Text(f"silent {duration(now_ms - view.last_seen_ms)}", style="yellow")


def _short(stage: str) -> str:
    """`qa` for `3_qa`: the columns stand in order, and so they fit."""
    return stage.partition("_")[2] if stage in STAGES else stage


def _ago(since_ms: int | None, now_ms: int) -> str:
    return "?" if since_ms is None else duration(now_ms - since_ms)


def _text(outside: str) -> Text:
    # As Text, so that a story called [red] stays a story called [red].
    return Text(printable(outside))
