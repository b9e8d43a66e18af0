"""The board that fills the terminal: what needs someone, where everything stands, what happens."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from huskies.cli.full_screen.dialogs import Dialog, Help, LifeOf, Stories
from huskies.cli.full_screen.pane import Pane
from huskies.cli.full_screen.rows import EventRow, NeedRow, ProjectRow, Row, board_heading, name_width
from huskies.cli.full_screen.selecting import Selecting
from huskies.cli.screen import headline
from huskies.cli.watch import Watch
from huskies.errors import HuskiesError
from huskies.logs import printable
from huskies.readers.fleet import Need, ProjectView, Received, StoryView, is_in_flight, needs
from huskies.readers.times import now_ms

# How often it is looked whether something happened, and drawn if so; and how often at least, as ages grow.
_LOOK: Final = 0.1
_DRAW_AT_LEAST: Final = 1.0
# The part of the time that drawing may take: a large fleet in a flood is drawn less often.
_DRAW_SHARE: Final = 0.3
# The part of the screen that what needs attention takes at most.
_ATTENTION_SHARE: Final = 0.45


class Top(App[HuskiesError | None]):
    """Returns the error that ended it, if one did."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; }
    Static { height: 1; background: ansi_default; color: ansi_default; }
    #events { height: 0.6fr; }
    Input { height: 1; border: none; padding: 0; background: ansi_default; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit", show=False),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("question_mark", "help", "help", show=False),
        Binding("slash", "search", "search", show=False),
        Binding("f", "this_project", "this project alone", show=False),
        Binding("escape", "everything", "everything", show=False),
    ]

    def __init__(self, watch: Watch, gateway_url: str) -> None:
        # The terminal's own colours, whichever its user can read.
        super().__init__(ansi_color=True)
        self._watch = watch
        self._url = gateway_url
        self._head, self._foot = Static(), Static()
        self._search = Input(placeholder="only what contains …", compact=True)
        self._attention = Pane(id="attention", empty="Nothing needs you.")
        self._board = Pane(id="board", empty="No project yet; start a sled with `huskies sled PROJECT_DIR`.")
        self._events = Pane(id="events", empty="Nothing has happened yet.")
        self._selecting = Selecting()
        self._drawn = 0.0
        self._changed = True
        self._rest = _LOOK

    def compose(self) -> ComposeResult:
        """From the top: the state of the connection, three panes, a line for keys or for a search."""
        yield self._head
        yield self._attention
        yield self._board
        yield self._events
        yield self._search
        yield self._foot

    def on_mount(self) -> None:
        """Begin to look."""
        self.theme = "ansi-dark"
        # Where a platform has no handlers of signals, the terminal's own end of a program has to do.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)
        self._board.focus()
        self.set_interval(_LOOK, self._look)
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        """Another size, another layout."""
        self._changed = True

    # --- drawing -----------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            self._changed |= self._watch.take(0)
        except HuskiesError as error:
            self.exit(error)
            return
        since = time.monotonic() - self._drawn
        if since > _DRAW_AT_LEAST or (self._changed and since > self._rest):
            self._draw()

    def _draw(self) -> None:
        started = time.monotonic()
        self._changed = False
        at_ms = now_ms()
        picture = self._watch.picture
        views, found = picture.views(), needs(picture.views(), at_ms)
        self._draw_head(views, found, at_ms)
        # What lies below a dialog is drawn when that is gone.
        if not isinstance(self.screen, Dialog):
            self._draw_panes(views, found, at_ms)
        self._drawn = time.monotonic()
        self._rest = (self._drawn - started) / _DRAW_SHARE

    def _draw_head(self, views: Sequence[ProjectView], found: Sequence[Need], at_ms: int) -> None:
        picture = self._watch.picture
        in_flight = sum(is_in_flight(story) for view in views for story in view.stories)
        need = "1 needs" if len(found) == 1 else f"{len(found)} need"
        line = headline(picture, self._url, at_ms, f"{need} someone, {in_flight} in flight")
        if picture.remarks:
            line = Text(f"!!! {printable(picture.remarks[-1])}", style="bold red")
        line.no_wrap, line.overflow = True, "ellipsis"
        self._head.update(line)
        keys = "q quit  ? help  Tab part  j/k move  Enter open  / search  f project"
        told = self._selecting.told
        self._foot.update(Text(told, style="reverse") if told else Text(keys, style="dim"))

    def _draw_panes(self, views: Sequence[ProjectView], found: Sequence[Need], at_ms: int) -> None:
        chosen = self._selecting
        wanting = [need for need in found if chosen.has_need(need)]
        self._attention.show([NeedRow(need, at_ms) for need in wanting])
        self._attention.border_title = f"Needs attention: {len(wanting)}, oldest first"
        most = max(3, int(self.size.height * _ATTENTION_SHARE))
        self._attention.styles.height = min(self._attention.wanted_height, most)
        self._show_board([view for view in views if chosen.has_project(view)], found, at_ms)
        events = [each for each in self._watch.picture.newest if chosen.has_event(each)]
        self._events.show([EventRow(each) for each in events])
        newer = self._events.scroll_offset.y
        self._events.border_title = f"Events: {newer} newer above, g goes there" if newer else "Newest events"

    def _show_board(self, views: Sequence[ProjectView], found: Sequence[Need], at_ms: int) -> None:
        troubles = Counter(need.project for need in found)
        width = name_width([view.name for view in views], self.size.width)
        rows: list[Row] = [ProjectRow(view, troubles[view.name], width, at_ms) for view in views]
        self._board.show(rows, lambda room: board_heading(width, room))
        self._board.border_title = f"Board: {len(views)}"

    # --- keys --------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Say what the keys do."""
        self.push_screen(Help())

    def action_search(self) -> None:
        """Ask for a text."""
        self._search.display = True
        # At once: what is typed next is for it.
        self.screen.set_focus(self._search)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Show what contains it, as it is typed."""
        self._selecting.text = message.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Go back to the board, which stays as narrow."""
        self._close_search()

    def action_this_project(self) -> None:
        """Show the selected row's project alone, or all again."""
        if self._selecting.project is not None:
            self._selecting.project = None
        elif isinstance(self.focused, Pane) and (row := self.focused.selected) is not None:
            self._selecting.project = _project_of(row)
        self._draw()

    def action_everything(self) -> None:
        """Show all again."""
        self._selecting.project = None
        self._search.value = ""
        self._close_search()
        self._draw()

    def _close_search(self) -> None:
        self._search.display = False
        self._board.focus()

    def on_pane_opened(self, message: Pane.Opened) -> None:
        """Open what is selected."""
        match message.row:
            case NeedRow(need=Need(project=project, story=StoryView() as story)):
                self.push_screen(LifeOf(project, story, self._url))
            case ProjectRow(view=view):
                self.push_screen(Stories(view, self._url))
            case EventRow(received=received):
                self.push_screen(LifeOf(received.project, self._story_of(received), self._url))
            case NeedRow(need=need):
                self.push_screen(Stories(self._view_of(need.project), self._url))
            case _:
                pass

    def _view_of(self, project: str) -> ProjectView:
        views = self._watch.picture.views()
        return next((view for view in views if view.name == project), ProjectView(project))

    def _story_of(self, received: Received) -> StoryView:
        story_id = str(received.event.get("story_id", ""))
        stories = self._view_of(received.project).stories
        return next((story for story in stories if story.story_id == story_id), StoryView(story_id))


def _project_of(row: Row) -> str | None:
    match row:
        case NeedRow(need=need):
            return need.project
        case ProjectRow(view=view):
            return view.name
        case EventRow(received=received):
            return received.project
        case _:
            return None
