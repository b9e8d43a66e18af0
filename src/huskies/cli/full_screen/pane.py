"""A pane: rows below each other, of which only those in sight are drawn, and one that is selected."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from huskies.cli.full_screen.rows import CONSOLE, Row


class Pane(ScrollView, can_focus=True):
    """Draws what `show` was given; the selection stays with its row when rows come and go."""

    DEFAULT_CSS = """
    Pane { border-top: solid ansi_bright_black; scrollbar-size: 0 0; height: 1fr; }
    Pane:focus { border-top: heavy ansi_default; border-title-style: bold reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False),
        Binding("k,up", "move(-1)", "up", show=False),
        Binding("ctrl+d,pagedown,space", "page(1)", "page down", show=False),
        Binding("ctrl+u,pageup", "page(-1)", "page up", show=False),
        Binding("g,home", "move(-1000000)", "first", show=False),
        Binding("G,end", "move(1000000)", "last", show=False),
        Binding("enter", "open", "open", show=False),
    ]

    class Opened(Message):
        """Enter was pressed on a row."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    def __init__(self, *, id: str | None = None, empty: str = "") -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._empty = empty
        self._rows: Sequence[Row] = ()
        self._heading: Callable[[int], Text] | None = None
        self._ends: list[int] = []
        self._selected = 0

    @property
    def selected(self) -> Row | None:
        """The row that is selected; None where there is none."""
        return self._rows[self._selected] if self._rows else None

    @property
    def wanted_height(self) -> int:
        """How many lines everything takes, with the title."""
        return self._all_lines + 1

    @property
    def _all_lines(self) -> int:
        return (self._ends[-1] if self._ends else 1) + (self._heading is not None)

    def show(self, rows: Sequence[Row], heading: Callable[[int], Text] | None = None) -> None:
        """Draw these rows from now on, below a line with the names of columns."""
        before = self.selected
        at_top = self._selected == 0
        self._rows, self._heading = rows, heading
        self._lay_out()
        # What was selected stays so; who has not moved from the top wants to see what is new there.
        if before is not None and not at_top:
            same = (number for number, row in enumerate(rows) if row.key == before.key)
            self._select(next(same, min(self._selected, len(rows) - 1)))
        else:
            self._selected = 0
        self.refresh()

    def _lay_out(self) -> None:
        width = self._width
        self._ends = list(accumulate(row.height(width) for row in self._rows))
        self.virtual_size = Size(width, self._all_lines)

    @property
    def _width(self) -> int:
        return max(20, self.scrollable_content_region.width)

    def on_resize(self) -> None:
        """Rows are as high as the width makes them."""
        self._lay_out()
        self._select(self._selected)

    def render_line(self, y: int) -> Strip:
        """One line of what is in sight."""
        width = self._width
        if self._heading is not None:
            if y == 0:
                return _strip(self._heading(width), width, selected=False)
            y -= 1
        if not self._rows:
            return _strip(Text(self._empty if y == 0 else "", style="dim"), width, selected=False)
        line = y + self.scroll_offset.y
        number = bisect_right(self._ends, line)
        if number >= len(self._rows):
            return Strip.blank(width)
        top = self._ends[number - 1] if number else 0
        is_selected = number == self._selected and self.has_focus
        lines = self._rows[number].lines(width)
        # A row that has changed since it was laid out is laid out again before long.
        text = lines[line - top] if line - top < len(lines) else Text()
        return _strip(text, width, selected=is_selected)

    def action_move(self, by: int) -> None:
        """Select a row further down, or up."""
        self._select(self._selected + by)

    def action_page(self, direction: int) -> None:
        """Select a row that stands a page away."""
        if self._rows:
            top = self._ends[self._selected] - 1
            wanted = max(0, top + direction * max(1, self.scrollable_content_region.height - 2))
            self._select(bisect_right(self._ends, wanted))

    def action_open(self) -> None:
        """Tell that this row is to be opened."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))

    def _select(self, number: int) -> None:
        self._selected = max(0, min(number, len(self._rows) - 1))
        if self._rows:
            top = self._ends[self._selected - 1] if self._selected else 0
            region = Region(0, top, 1, self._ends[self._selected] - top + (self._heading is not None))
            self.scroll_to_region(region, animate=False, force=True)
        self.refresh()


def _strip(text: Text, width: int, *, selected: bool) -> Strip:
    base = "reverse" if selected else ""
    text = text.copy()
    text.stylize_before(base)
    segments = list(text.render(CONSOLE, end=""))
    return Strip(segments).adjust_cell_length(width, CONSOLE.get_style(base) if base else None)
