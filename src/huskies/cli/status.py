"""`huskies status`: where everything stands, what needs attention first."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from huskies.cli.options import examples, reader_url_option, setting

_ANSWER_LIMIT = 10.0


class _Answer(msgspec.Struct):
    """What is taken of the gateway's answer."""

    projects: list[msgspec.Raw]


@click.command(
    "status",
    short_help="Show where everything stands.",
    epilog=examples(
        "huskies status",
        "huskies status --gateway-url http://gateway.example:3000",
        "huskies status --watch                 redrawn as things happen, until Ctrl-C",
        "huskies status --json | jq 'select(.connected | not) | .name'",
    ),
)
@reader_url_option
@setting("--watch", is_flag=True, help="Stay, and draw it again as things happen; needs a terminal.")
@setting("--json", "as_json", is_flag=True, help="Print each project as one JSON object a line.")
def command(gateway_url: str, watch: bool, as_json: bool) -> None:
    """Show every project and where its stories stand; blocked stories and failed merges first."""
    if watch:
        _watch(gateway_url, as_json=as_json)
        return
    projects = ask(gateway_url)
    if as_json:
        print_json(projects)
        return
    from huskies.cli.board import show
    from huskies.readers.times import now_ms

    show(projects, gateway_url, now_ms())


def _watch(gateway_url: str, *, as_json: bool) -> None:
    from huskies.cli import terminal

    if as_json:
        raise click.UsageError("--watch draws a screen, and --json prints lines; take `huskies tail --json`")
    terminal.needed("--watch", "take `huskies status` now and then, or `huskies tail`")
    from huskies.cli.screen import watch

    with terminal.until_interrupted():
        watch(gateway_url)


def ask(gateway_url: str, patience: float = _ANSWER_LIMIT) -> list[bytes]:
    """Each project as the gateway's JSON, which is waited for so long (s) a step; raises `HuskiesError`."""
    from huskies.cli import client
    from huskies.protocol.wire import PROJECTS_PATH

    with client.get(
        gateway_url, PROJECTS_PATH, headers={"Accept": "application/json"}, timeout=patience
    ) as response:
        return projects_in(client.read_all(response, gateway_url), gateway_url)


def projects_in(body: bytes, gateway_url: str) -> list[bytes]:
    """Each project of a gateway's answer, as JSON; raises `HuskiesError`."""
    from huskies.cli import client

    try:
        return [bytes(project) for project in msgspec.json.decode(body, type=_Answer).projects]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise client.GatewayRefusedError(
            gateway_url, 200, "no list of projects; is this a Huskies gateway? Check --gateway-url"
        ) from None


def print_json(projects: Sequence[bytes]) -> None:
    """Print each project, one a line."""
    from huskies.logs import printable_json

    for project in projects:
        click.echo(printable_json(msgspec.json.format(project, indent=-1)))
