"""What `huskies status` shows: what needs attention, oldest first, then a row for each project."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from huskies.cli.colour import is_coloured
from huskies.cli.columns import Cell, Line, Span, aligned
from huskies.errors import HuskiesError
from huskies.events.model import STAGES
from huskies.logs import printable
from huskies.readers.fleet import Need, ProjectView, StoryView, decode, needs, title
from huskies.readers.times import duration

_RULE: Final = "─"
# How click calls the styles.
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "bold": {"bold": True},
    "bold red": {"bold": True, "fg": "red"},
    "dim": {"dim": True},
    "green": {"fg": "green"},
    "yellow": {"fg": "yellow"},
}


def show(projects: Sequence[bytes], gateway_url: str, now_ms: int) -> None:
    """Print the board of these projects (JSON) on stdout; raises `HuskiesError` where one is none."""
    coloured = is_coloured()
    # A pipe has no width; nothing is to be cut off there.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines(views_in(projects, gateway_url), gateway_url, now_ms, width):
        click.echo("".join(_styled(span) if coloured else span.text for span in line).rstrip())


def _styled(span: Span) -> str:
    return click.style(span.text, **_STYLES[span.style]) if span.style and span.text else span.text


def views_in(projects: Sequence[bytes], gateway_url: str) -> list[ProjectView]:
    """What the gateway answered; raises `HuskiesError` where that cannot be shown."""
    try:
        return decode(projects)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise HuskiesError(
            f"the gateway at {gateway_url} shows a project in a way that is unknown here: {error}; use the "
            "version of huskies that it has, or --json"
        ) from None


def lines(views: Sequence[ProjectView], gateway_url: str, now_ms: int, width: int | None) -> Iterator[Line]:
    """What there is to print, on a terminal of this width, or in a pipe (None)."""
    if not views:
        said = f"No project has joined {gateway_url} yet; start a sled with `huskies sled PROJECT_DIR`"
        yield [Span(printable(said))]
        return
    attention = [_need(need, now_ms, in_full=width is None) for need in needs(views, now_ms)]
    if attention:
        yield from _table(("needs attention", "story", "in", "for", "why"), attention, 5, width)
    # A stage of a later version, or none known yet, still has its story counted.
    others = any(story.stage not in STAGES for view in views for story in view.stories)
    columns = (*STAGES, *(["other"] if others else []))
    rows = [_project(view, columns, now_ms) for view in sorted(views, key=lambda view: view.name)]
    yield from _table(("project", "sled", "unsent", *map(short, columns)), rows, 2, width)


def _table(
    heading: Sequence[str], rows: Sequence[Sequence[Cell]], texts: int, width: int | None
) -> Iterator[Line]:
    """`texts`: how many columns hold texts; those behind them hold numbers, and end at one place."""
    right = [number >= texts for number in range(len(heading))]
    headed, *others = aligned([[Cell(text, "bold") for text in heading], *rows], right, width)
    yield headed
    if width is not None:
        yield [Span(_RULE * width, "dim")]
    yield from others
    if width is not None:
        yield []


def _need(need: Need, now_ms: int, *, in_full: bool) -> list[Cell]:
    story = need.story
    for_ = "" if story is None and need.since_ms is None else _ago(need.since_ms, now_ms)
    return [
        _cell(need.project),
        _cell(_called(story, in_full=in_full) if story else ""),
        _cell(short(story.stage or "?") if story else ""),
        Cell(for_),
        Cell(printable(need.why), "bold red", f"{need.what}: "),
    ]


def _called(story: StoryView, *, in_full: bool) -> str:
    return f"{story.story_id} {story.story_name}".strip() if in_full else title(story)


def _project(view: ProjectView, columns: Sequence[str], now_ms: int) -> list[Cell]:
    counts = Counter(story.stage if story.stage in STAGES else "other" for story in view.stories)
    return [
        _cell(view.name),
        Cell(*sled_state(view, now_ms)),
        Cell("?" if view.outstanding is None else str(view.outstanding)),
        *(Cell(str(counts[column] or "·")) for column in columns),
    ]


def sled_state(view: ProjectView, now_ms: int) -> tuple[str, str]:
    """Whether a project's sled is connected, in words, and the style of these."""
    if view.connected:
        return "connected", "green"
    if view.last_seen_ms is None:
        return "never seen", "dim"
    return f"silent {duration(now_ms - view.last_seen_ms)}", "yellow"


def short(stage: str) -> str:
    """`qa` for `3_qa`: the columns stand in order, and so they fit."""
    return stage.partition("_")[2] if stage in STAGES else stage


def _ago(since_ms: int | None, now_ms: int) -> str:
    return "?" if since_ms is None else duration(now_ms - since_ms)


def _cell(outside: str) -> Cell:
    return Cell(printable(outside))
