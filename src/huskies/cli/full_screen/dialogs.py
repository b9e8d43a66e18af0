"""What lies over the board for a while: help, the stories of a project, the life of a story."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from huskies.cli import pages
from huskies.cli.full_screen.pane import Pane
from huskies.cli.full_screen.rows import LineRow, Row, StoryRow
from huskies.errors import HuskiesError
from huskies.events.model import STAGES
from huskies.logs import printable
from huskies.readers.fleet import ProjectView, StoryView
from huskies.readers.life import life
from huskies.readers.life_lines import Line, life_lines
from huskies.readers.times import now_ms

_HELP: Final = """\
Tab, Shift+Tab   the next, the previous part
j, k, arrows     one down, up; Page Up, Page Down, g, G go further
Enter            the whole life of the story, or the stories of the project
/                only what contains a text; Esc shows all again
f                only the project that is selected; again: all
?                this help
q, Ctrl-C        end

Needs attention  stories that no one can go on with, and sleds that are away

Board            a line for each project: how many things need someone (!2),
                 whether its sled is connected, how many stories stand in each
                 stage, how many events the sled has not delivered yet, and,
                 where there is room, what is being worked on

Newest events    as they come; what a sled delivers late says (replayed)

LIVE             what you see is so now: where nothing moves, nothing happens
STALE since …    the gateway cannot be reached; what you see was so then
"""


class Dialog(ModalScreen[None]):
    """One pane over everything; Escape closes it."""

    DEFAULT_CSS = """
    Dialog { background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace,left,h", "dismiss", "back", show=False),
    ]

    def __init__(self, heading: str) -> None:
        super().__init__()
        self._pane = Pane()
        self._pane.border_title = _title(heading)

    def compose(self) -> ComposeResult:
        """The pane."""
        yield self._pane


class Help(Dialog):
    """The keys, and what is shown."""

    def __init__(self) -> None:
        super().__init__("Help: Esc goes back")

    def on_mount(self) -> None:
        """Fill it."""
        self._pane.show(_rows(Line(line) for line in _HELP.splitlines()))


class Stories(Dialog):
    """The stories of one project, as they stood when it was opened."""

    def __init__(self, view: ProjectView, gateway_url: str) -> None:
        super().__init__(f"{view.name}: Enter opens a story, Esc goes back")
        self._view = view
        self._url = gateway_url

    def on_mount(self) -> None:
        """Fill it, what is in flight before what is finished."""
        order = {stage: place for place, stage in enumerate((*STAGES[1:4], STAGES[0], *STAGES[4:]))}
        by_stage = sorted(self._view.stories, key=lambda story: order.get(story.stage or "", -1))
        self._pane.show([StoryRow(story) for story in by_stage])

    def on_pane_opened(self, message: Pane.Opened) -> None:
        """Open the story."""
        message.stop()
        if isinstance(message.row, StoryRow):
            self.app.push_screen(LifeOf(self._view.name, message.row.story, self._url))


class LifeOf(Dialog):
    """The whole life of a story, as `huskies show` has it."""

    def __init__(self, project: str, story: StoryView, gateway_url: str) -> None:
        super().__init__(f"{story.story_id}: Esc goes back")
        self._project = project
        self._story = story
        self._url = gateway_url

    def on_mount(self) -> None:
        """Ask for it, without holding up what lies below."""
        self._pane.show(_rows([Line("asking the gateway…", "quiet")]))
        self.run_worker(self._ask, thread=True)

    def _ask(self) -> None:
        try:
            received = list(pages.of_story(self._url, self._story.story_id, self._project))
            lines = list(life_lines(self._project, self._story, life(received), now_ms()))
        except HuskiesError as error:
            lines = [Line(printable(str(error)), "alarm")]
        self.app.call_from_thread(self._pane.show, _rows(lines))

    def on_pane_opened(self, message: Pane.Opened) -> None:
        """There is nothing deeper."""
        message.stop()


def _rows(lines: Iterable[Line]) -> Sequence[Row]:
    return [LineRow(number, line) for number, line in enumerate(lines)]


def _title(text: str) -> Text:
    # As Text: a story may be called [bold].
    return Text(printable(text))
