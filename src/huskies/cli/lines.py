"""What `huskies tail` prints of an event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from huskies.cli.colour import is_coloured
from huskies.cli.fleet import Received
from huskies.cli.times import local_time, parse_time
from huskies.logs import printable, printable_json

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


def describe(received: Received, now: datetime) -> str:
    """`14:02:03  web-shop  42_story_login  2_current → 3_qa  "Login"  (replayed)`."""
    event = received.event
    when = event.get("timestamp_ms")
    parts = [
        local_time(when, now) if isinstance(when, int) else "?",
        received.project,
        str(event.get("story_id", "?")),
        what_happened(event, now),
    ]
    if event.get("story_name"):
        parts.append(f'"{event["story_name"]}"')
    if received.replayed:
        parts.append("(replayed)")
    return "  ".join(printable(part) for part in parts)


def what_happened(event: dict[str, Any], now: datetime) -> str:
    """What the event says, as its sled said it: whoever prints it makes it printable."""
    match event:
        case {"type": "stage_transition", "from_stage": before, "to_stage": after}:
            return f"goes on in {after}" if before == after else f"{before} → {after}"
        case {"type": "story_blocked", "reason": reason}:
            return f"BLOCKED: {reason}"
        case {"type": "merge_failure", "reason": reason}:
            return f"MERGE FAILED: {reason}"
        case {"type": "rate_limit_warning", "agent_name": agent}:
            return f"{agent} is close to its rate limit"
        case {"type": "rate_limit_hard_block", "agent_name": agent, "reset_at": reset_at}:
            return f"{agent} is rate limited until {_reset_time(str(reset_at), now)}"
        case _:
            return str(event.get("type", "?"))


def _reset_time(text: str, now: datetime) -> str:
    try:
        return local_time(int(parse_time(text).timestamp() * 1_000), now)
    except (ValueError, OverflowError):
        return text
