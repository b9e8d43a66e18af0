"""What `huskies tail` prints of an event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from huskies.cli.colour import is_coloured
from huskies.logs import printable, printable_json
from huskies.readers.fleet import Received
from huskies.readers.happening import describe

_COLOURS: Final = {
    "story_blocked": "red",
    "merge_failure": "red",
    "rate_limit_warning": "yellow",
    "rate_limit_hard_block": "yellow",
}


class LinePrinter:
    """Prints events on stdout, and everything about the stream on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._colour = is_coloured()

    def event(self, data: bytes) -> None:
        """Print one event, as it came or as a line for people."""
        if self._as_json:
            click.echo(printable_json(data))
            return
        try:
            received = msgspec.json.decode(data, type=Received)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self.warning(f"an event that cannot be shown ({error}): {data.decode('utf-8', 'replace')}")
            return
        line = describe(received, datetime.now(UTC))
        colour = _COLOURS.get(str(received.event.get("type"))) if self._colour else None
        click.echo(click.style(line, fg=colour, dim=received.replayed or None) if self._colour else line)

    def warning(self, text: str) -> None:
        """Print loudly what a reader must not miss."""
        click.secho(f"huskies: !!! {printable(text)}", fg="red", bold=True, err=True)

    def notice(self, text: str) -> None:
        """Print what else there is to say."""
        click.echo(f"huskies: {printable(text)}", err=True)

    def disconnected(self, url: str, problem: str) -> None:
        """Say that the connection is lost."""
        self.notice(f"disconnected from {url} ({problem}); trying again")

    def connected(self) -> None:
        """Say that it is there again."""
        self.notice("connected again, going on where it broke off")
