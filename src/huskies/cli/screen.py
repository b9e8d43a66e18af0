"""`huskies status --watch`: the board on a terminal, drawn again as things happen."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from huskies.cli.board import lines
from huskies.cli.picture import Picture
from huskies.cli.watch import Watch
from huskies.logs import printable
from huskies.readers.times import duration, local_time, now_ms

# Drawn again so often at most, and at least so that the ages stay true.
_SHORTEST: Final = 0.2
_LONGEST: Final = 1.0


def watch(gateway_url: str) -> None:
    """Draw until interrupted; raises `HuskiesError`."""
    watching = Watch(gateway_url, kept=1)
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_Whole(watching.picture, gateway_url), refresh=True)
            drawn = time.monotonic()
            if watching.take(_LONGEST):
                time.sleep(max(0.0, drawn + _SHORTEST - time.monotonic()))
                watching.take(0)


class _Whole:
    """The state of the connection and the board, cut to the height of the terminal, which is said."""

    def __init__(self, picture: Picture, gateway_url: str) -> None:
        self._picture = picture
        self._url = gateway_url

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = now_ms()
        remarks = [Text(f"!!! {printable(text)}", style="bold red") for text in self._picture.remarks]
        board = lines(self._picture.views(), self._url, now, options.max_width)
        body = (Text.assemble(*line, no_wrap=True) for line in board)
        group = Group(headline(self._picture, self._url, now), *remarks, "", *body)
        drawn = console.render_lines(group, options.update(height=None), pad=False)
        height = console.size.height
        if len(drawn) > height:
            more = Text(f"… {len(drawn) - height + 1} more lines; `huskies top` scrolls", style="dim")
            drawn = [*drawn[: height - 1], *console.render_lines(more, options, pad=False)]
        for line in drawn:
            yield from line
            yield Segment.line()


def headline(picture: Picture, gateway_url: str, at_ms: int, more: str = "") -> Text:
    """Whether what is shown is so now, and when something last happened: quiet is not disconnected."""
    where = printable(gateway_url)
    if picture.problem is not None:
        since = local_time(picture.as_of_ms, datetime.now(UTC))
        why = printable(picture.problem)
        return Text.assemble((f"STALE since {since}", "bold red"), f"  {why}; trying again  {where}")
    newest_ms = picture.newest_ms
    last = "no event yet" if newest_ms is None else f"last event {duration(at_ms - newest_ms)} ago"
    return Text.assemble(("LIVE", "bold green"), f"  {more}{', ' if more else ''}{last}  {where}")
