"""`huskies notifications`: what people were told, and what did not arrive."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import click

from huskies.cli import completing
from huskies.cli.options import examples, reader_url_option, setting
from huskies.storage.notifications import RESENDABLE, STATES

_PATH: Final = "/gateway/notifications"
_ANSWER_LIMIT: Final = 10.0
_PAGE: Final = 1_000
_COLOURS: Final = {"failed": "red", "in_doubt": "yellow", "queued": "cyan", "sending": "cyan"}


@click.group(
    "notifications",
    short_help="Show what people were told, and what did not arrive.",
    invoke_without_command=True,
    epilog=examples(
        "huskies notifications",
        "huskies notifications --state failed",
        "huskies notifications --json | jq 'select(.channel == \"ops\") | .subject'",
        "huskies notifications resend 17",
        "huskies notifications resend --all",
    ),
)
@reader_url_option
@setting("--state", type=click.Choice(STATES), help="Show only what is so.")
@setting("--channel", metavar="NAME", help="Show only what goes to this channel.")
@setting("--project", metavar="NAME", shell_complete=completing.projects, help="Show this project alone.")
@setting("--last", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many entries.")
@setting("--json", "as_json", is_flag=True, help="Print each as one JSON object a line.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    gateway_url: str,
    state: str | None,
    channel: str | None,
    project: str | None,
    last: int,
    as_json: bool,
) -> None:
    """Print the newest messages to people and what became of each, the newest last.

    A message is queued, sending, sent, acknowledged (the channel named it), failed, or in_doubt: nobody
    knows. What is muted or overtaken (it was over before it was told) was not sent, and is no failure.
    """
    if ctx.invoked_subcommand is not None:
        return
    import msgspec

    from huskies.logs import printable_json
    from huskies.storage.notifications import Notification

    query = {"state": state, "channel": channel, "project": project}
    rows = _rows(gateway_url, {key: value for key, value in query.items() if value is not None}, last)
    if not rows:
        click.echo("There is none.", err=True)
    now = datetime.now(UTC)
    for row in reversed(rows):
        if as_json:
            click.echo(printable_json(bytes(row)))
        else:
            _print(msgspec.json.decode(row, type=Notification), now)


@command.command(
    "resend", epilog=examples("huskies notifications resend 17", "huskies notifications resend --all")
)
@click.argument("notification", metavar="[ID]", required=False)
@setting("--all", "everything", is_flag=True, help="Send all again that failed or is in doubt.")
@reader_url_option
def resend(notification: str | None, everything: bool, gateway_url: str) -> None:
    """Send the message ID again, which failed or is in doubt."""
    import msgspec

    from huskies.cli import client
    from huskies.errors import ConfigError

    if (notification is None) == (not everything):
        raise click.UsageError("name one message by its id, or take --all")
    if notification is not None and not (notification.isascii() and notification.isdigit()):
        raise ConfigError("ID", f"expected the number of a message; got {notification!r}")
    path = f"{_PATH}/{notification or 'all'}/resend"
    try:
        with client.ask("POST", gateway_url, path, timeout=_ANSWER_LIMIT) as response:
            queued = msgspec.json.decode(client.read_all(response, gateway_url))["queued"]
    except (msgspec.DecodeError, LookupError, TypeError):
        raise _unknown(gateway_url) from None
    if not queued:
        click.echo(f"Nothing is {' or '.join(RESENDABLE)}.", err=True)
    for number in queued:
        click.echo(f"{number} is sent again")


def _rows(gateway_url: str, query: dict[str, str], last: int) -> list[bytes]:
    """The newest first, each as the gateway's JSON; raises `HuskiesError`."""
    import msgspec

    from huskies.cli import client

    rows: list[bytes] = []
    while len(rows) < last:
        query["limit"] = str(min(_PAGE, last - len(rows)))
        with client.get(gateway_url, _PATH, query=query, timeout=_ANSWER_LIMIT) as response:
            body = client.read_all(response, gateway_url)
        try:
            page = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            rows += [bytes(row) for row in msgspec.json.decode(page["notifications"], type=list[msgspec.Raw])]
            following = msgspec.json.decode(page["next"], type=int | None)
        except (msgspec.DecodeError, LookupError, UnicodeError, RecursionError):
            raise _unknown(gateway_url) from None
        if following is None:
            break
        query["before"] = str(following)
    return rows


def _unknown(gateway_url: str) -> Exception:
    from huskies.cli.client import GatewayRefusedError

    return GatewayRefusedError(
        gateway_url, HTTPStatus.OK, "no notifications; is this a Huskies gateway? Check --gateway-url"
    )


def _print(row: object, now: datetime) -> None:
    from huskies.cli.colour import is_coloured
    from huskies.logs import printable
    from huskies.readers.times import local_time
    from huskies.storage.notifications import Notification

    assert isinstance(row, Notification)  # noqa: S101 - narrows the type
    state = row.state.replace("_", " ")
    if row.problem:
        state += f" after {row.attempts} attempts: {row.problem}" if row.attempts > 1 else f": {row.problem}"
    shown = click.style(printable(state), fg=_COLOURS.get(row.state)) if is_coloured() else printable(state)
    parts = (str(row.id), local_time(row.queued_ms, now), row.channel, row.subject)
    click.echo("  ".join((*(printable(part) for part in parts), shown)))
