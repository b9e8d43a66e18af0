"""The rows that the panes show. What comes from outside is made printable here, and is never markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

from rich.console import Console
from rich.text import Text

from huskies.cli.board import short, sled_state
from huskies.events.model import STAGES
from huskies.logs import printable
from huskies.readers.fleet import Need, ProjectView, Received, StoryView, is_in_flight, title
from huskies.readers.happening import describe
from huskies.readers.life_lines import Line
from huskies.readers.times import duration

# Knows widths and styles; nothing is written to it.
CONSOLE: Final = Console()
# Every difference that a colour makes is one of words, signs or weight, too.
ALARM: Final = "bold red"
_STYLES: Final = {"title": "bold", "heading": "bold", "alarm": ALARM, "quiet": "dim", "plain": ""}
_SLED_WIDTH: Final = 12
_NUMBERS: Final = (*(short(stage) for stage in STAGES), "unsent")
_NUMBERS_WIDTH: Final = sum(len(name) + 1 for name in _NUMBERS)
_NAME_MAX: Final = 30
# What is in flight is named where its column's name has room.
_IN_FLIGHT: Final = "  in flight"
_INDENT: Final = 8
_WRAPPED_KEPT: Final = 4_096


class Row(Protocol):
    """Something that can be selected; `key` says whether it is the same as before."""

    @property
    def key(self) -> object:
        """What it is about."""

    def height(self, width: int) -> int:
        """How many lines it takes."""

    def lines(self, width: int) -> Sequence[Text]:
        """These lines, none wider than so."""


class NeedRow:
    """Something that needs someone: how long it has waited, what and where; then the reason, in full."""

    def __init__(self, need: Need, now_ms: int) -> None:
        self.need = need
        self._now_ms = now_ms

    @property
    def key(self) -> object:
        """The same for as long as it is the same trouble."""
        return (self.need.project, self.need.story.story_id if self.need.story else "", self.need.what)

    def height(self, width: int) -> int:
        """One line, and those of the reason."""
        return 1 + len(_wrapped(self.need.why, width - _INDENT))

    def lines(self, width: int) -> Sequence[Text]:
        """See the class."""
        need = self.need
        ago = "?" if need.since_ms is None else duration(self._now_ms - need.since_ms)
        what = need.what.upper()
        where = need.project
        if need.story is not None:
            what += f" in {short(need.story.stage or '?')}"
            where += f"  {title(need.story)}"
        head = Text.assemble(f"{ago:>6}  ", (printable(what), ALARM), f"  {printable(where)}")
        head.truncate(width, overflow="ellipsis")
        return [head, *(Text(" " * _INDENT + line) for line in _wrapped(need.why, width - _INDENT))]


@lru_cache(maxsize=_WRAPPED_KEPT)
def _wrapped(text: str, width: int) -> tuple[str, ...]:
    lines = [Text(printable(line)) for line in text.splitlines() or [""]]
    # By the cells that it takes: some signs take two.
    return tuple(part.plain.rstrip() for line in lines for part in line.wrap(CONSOLE, max(10, width)))


class ProjectRow:
    """A project: how many need someone, its sled, how many stories stand where, and what is in flight."""

    def __init__(self, view: ProjectView, troubles: int, name_width: int, now_ms: int) -> None:
        self.view = view
        self._troubles = troubles
        self._name_width = name_width
        self._now_ms = now_ms

    @property
    def key(self) -> object:
        """The project."""
        return self.view.name

    def height(self, width: int) -> int:
        """Always one line."""
        del width
        return 1

    def lines(self, width: int) -> Sequence[Text]:
        """See the class."""
        mark = f"!{self._troubles}" if self._troubles else ""
        counts = Counter(short(story.stage or "") for story in self.view.stories)
        unsent = "?" if self.view.outstanding is None else str(self.view.outstanding)
        numbers = {**{name: str(count) for name, count in counts.items()}, "unsent": unsent}
        state, style = sled_state(self.view, self._now_ms)
        line = Text.assemble(
            (f"{mark:<4}", ALARM),
            f"{_cut(printable(self.view.name), self._name_width):<{self._name_width}} ",
            (f"{state:<{_SLED_WIDTH}}", style),
            *(f" {numbers.get(name, '·'):>{len(name)}}" for name in _NUMBERS),
        )
        if width - line.cell_len >= len(_IN_FLIGHT):
            line.append(f"  {self._in_flight()}")
        line.truncate(width, overflow="ellipsis")
        return [line]

    def _in_flight(self) -> str:
        """Stories in a stage that is not known here have no column, and are named here, too."""
        shown = [story for story in self.view.stories if is_in_flight(story)]
        # What is nearest to its end first.
        shown.sort(key=lambda story: story.stage or "", reverse=True)
        return printable(" · ".join(f"{short(story.stage or '')}: {title(story)}" for story in shown))


def board_heading(name_width: int, width: int) -> Text:
    """The names of the columns of `ProjectRow`."""
    columns = "".join(f" {name}" for name in _NUMBERS)
    text = f"    {'project':<{name_width}} {'sled':<{_SLED_WIDTH}}{columns}"
    named = text + _IN_FLIGHT
    return Text(named if len(named) <= width else text[:width], style="bold")


def name_width(names: Sequence[str], width: int) -> int:
    """How wide the column of names is in a pane of this width."""
    room = width - 5 - _SLED_WIDTH - _NUMBERS_WIDTH
    return max(7, min(room, _NAME_MAX, max(map(len, names), default=0)))


class EventRow:
    """An event, as `huskies tail` prints it."""

    def __init__(self, received: Received) -> None:
        self.received = received

    @property
    def key(self) -> object:
        """The event."""
        return self.received.cursor

    def height(self, width: int) -> int:
        """Always one line."""
        del width
        return 1

    def lines(self, width: int) -> Sequence[Text]:
        """See the class."""
        style = "dim" if self.received.replayed else ""
        line = Text(describe(self.received, datetime.now(UTC)), style=style)
        line.truncate(width, overflow="ellipsis")
        return [line]


class StoryRow:
    """A story of a project, to choose it."""

    def __init__(self, story: StoryView) -> None:
        self.story = story

    @property
    def key(self) -> object:
        """The story."""
        return self.story.story_id

    def height(self, width: int) -> int:
        """Always one line."""
        del width
        return 1

    def lines(self, width: int) -> Sequence[Text]:
        """Its stage, what holds it up, its id and name."""
        held_up = "BLOCKED  " if self.story.blocked is not None else ""
        held_up += "MERGE FAILED  " if self.story.merge_failure is not None else ""
        stage = printable(short(self.story.stage or "?"))
        name = printable(f"{self.story.story_id}  {self.story.story_name}")
        line = Text.assemble(f"{stage:<9} ", (held_up, ALARM), name)
        line.truncate(width, overflow="ellipsis")
        return [line]


class LineRow:
    """A line of a text, wrapped."""

    def __init__(self, number: int, line: Line) -> None:
        self.key: object = number
        self._line = line

    def height(self, width: int) -> int:
        """As many lines as it takes."""
        return len(_wrapped(self._line.text, width))

    def lines(self, width: int) -> Sequence[Text]:
        """See the class."""
        return [Text(part, style=_STYLES[self._line.kind]) for part in _wrapped(self._line.text, width)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
