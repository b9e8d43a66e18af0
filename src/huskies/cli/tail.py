"""`huskies tail`: follow what happens, across lost connections."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

import click

from huskies.cli import completing
from huskies.cli.options import examples, reader_url_option, setting
from huskies.events.model import EVENT_TYPES


def _event_type(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or value.replace("-", "_") in EVENT_TYPES:
        return value and value.replace("-", "_")
    raise click.BadParameter(f"{value!r} is none of {', '.join(EVENT_TYPES)}.")


def _since(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    from huskies.readers.times import parse_since

    try:
        return None if value is None else parse_since(value, datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is neither a duration such as 30m, 2h or 7d nor a time such as 2026-01-31T14:00."
        ) from None


@click.command(
    "tail",
    short_help="Print events as they happen.",
    epilog=examples(
        "huskies tail                                   from now on",
        "huskies tail --since 2h --project web-shop     with the last two hours",
        "huskies tail --after 0 --type story_blocked    from the beginning",
        "huskies tail --json --since 1d | jq .event",
    ),
)
@reader_url_option
@setting("--project", metavar="NAME", shell_complete=completing.projects, help="Show this project alone.")
@setting(
    "--type", metavar="TYPE", callback=_event_type, help=f"Show this kind alone: {', '.join(EVENT_TYPES)}."
)
@setting("--story", metavar="STORY", shell_complete=completing.stories, help="Show this story alone.")
@setting("--after", metavar="CURSOR", help="Start after this cursor; 0 starts with the oldest event.")
@setting(
    "--since", metavar="TIME", callback=_since, help="Start with what happened since: 30m, 2h, 7d, or a time."
)
@setting("--json", "as_json", is_flag=True, help="Print each event as the gateway sent it, one a line.")
def command(
    *,
    gateway_url: str,
    project: str | None,
    type: str | None,  # noqa: A002 - the flag's name
    story: str | None,
    after: str | None,
    since: int | None,
    as_json: bool,
) -> None:
    """Print events as they happen, until Ctrl-C.

    A lost connection is made again, and goes on where it broke off. Events go to stdout; what concerns the
    connection, or a gap in the events, to stderr.
    """
    from huskies.cli import pipes
    from huskies.cli.follow import Follower
    from huskies.cli.lines import LinePrinter

    if since is not None and after is None:
        after = "0"
    query = {
        "project": project,
        "type": type,
        "story": story,
        "after": after,
        "since": None if since is None else str(since),
    }
    follower = Follower(
        gateway_url,
        {key: value for key, value in query.items() if value is not None},
        LinePrinter(as_json=as_json),
    )
    # SIGTERM ends it as Ctrl-C does: whatever was read is printed, and there is nothing to clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pipes.end_with_reader()
    try:
        follower.run()
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        pipes.end()
