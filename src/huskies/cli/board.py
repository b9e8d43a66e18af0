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

from huskies.cli.fleet import ProjectView, decode, needs
from huskies.cli.times import duration
from huskies.errors import HuskiesError
from huskies.events.model import STAGES
from huskies.logs import printable

# A pipe has no width; nothing is to be cut off there.
_PIPE_WIDTH: Final = 10_000


def show(projects: Sequence[bytes], gateway_url: str, now_ms: int) -> None:
    """Print the board of these projects (JSON) on stdout; raises `HuskiesError` where one is none."""
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else _PIPE_WIDTH)
    for part in parts(views_in(projects, gateway_url), gateway_url, now_ms, lines=terminal):
        console.print(part)


def views_in(projects: Sequence[bytes], gateway_url: str) -> list[ProjectView]:
    """What the gateway answered; raises `HuskiesError` where that cannot be shown."""
    try:
        return decode(projects)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise HuskiesError(
            f"the gateway at {gateway_url} shows a project in a way that is unknown here: {error}; use the "
            "version of huskies that it has, or --json"
        ) from None


def parts(
    views: Sequence[ProjectView], gateway_url: str, now_ms: int, *, lines: bool
) -> Iterator[Table | Text]:
    """What there is to print, with lines below the headings or without."""
    if not views:
        yield Text(f"No project has joined {gateway_url} yet; start a sled with `huskies sled PROJECT_DIR`")
        return
    for table in (_attention(views, now_ms), _projects(views, now_ms)):
        if table.row_count:
            table.box = box.SIMPLE_HEAD if lines else None
            yield table


def _attention(views: Sequence[ProjectView], now_ms: int) -> Table:
    table = Table("needs attention", "story", "in", "for", "why", padding=(0, 1, 0, 0), pad_edge=False)
    for need in needs(views, now_ms):
        story = need.story
        table.add_row(
            _text(need.project),
            _text(f"{story.story_id} {story.story_name}".strip() if story else ""),
            _text(short(story.stage or "?") if story else ""),
            "" if story is None and need.since_ms is None else _ago(need.since_ms, now_ms),
            _why(need.what, need.why),
        )
    return table


def _why(what: str, why: str) -> Text:
    return Text.assemble((f"{what}: ", "bold red"), printable(why))


def _projects(views: Sequence[ProjectView], now_ms: int) -> Table:
    table = Table("project", "sled", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("unsent", justify="right")
    # A stage of a later version, or none known yet, still has its story counted.
    others = any(story.stage not in STAGES for view in views for story in view.stories)
    for stage in (*STAGES, *(["other"] if others else [])):
        table.add_column(short(stage), justify="right")
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


def short(stage: str) -> str:
    """`qa` for `3_qa`: the columns stand in order, and so they fit."""
    return stage.partition("_")[2] if stage in STAGES else stage


def _ago(since_ms: int | None, now_ms: int) -> str:
    return "?" if since_ms is None else duration(now_ms - since_ms)


def _text(outside: str) -> Text:
    # As Text, so that a story called [red] stays a story called [red].
    return Text(printable(outside))
