"""`huskies chat`: tells people what happens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huskies.cli.options import data_dir_option, examples, log_options, reader_url_option, tls_ca_option

if TYPE_CHECKING:
    from huskies.cli.runtime import Services


@click.command(
    "chat",
    short_help="Tell people what happens.",
    epilog=examples(
        "huskies chat",
        "huskies chat --gateway-url http://gateway.example:3000 --data-dir ~/chat",
    ),
)
@reader_url_option
@data_dir_option
@tls_ca_option
@log_options
def command(
    gateway_url: str,
    data_dir: Path,
    tls_ca: Path | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Tell people what happens, by the rules in notify.toml in the data directory, until Ctrl-C.

    With a bot.toml there it answers in Matrix rooms, too.

    `huskies gateway` and `huskies up` run this by themselves where their data directory has a notify.toml or
    a bot.toml. What became of each message is shown by `huskies notifications`.
    """
    from huskies import logs
    from huskies.cli import runtime
    from huskies.cli.chatting import Chat
    from huskies.cli.children import CHILD_VARIABLE, end_with_stdin

    logs.set_up(level=log_level, as_json=log_json)
    chat = Chat(data_dir, gateway_url, environ=os.environ, tls_ca=tls_ca)

    async def launch(services: Services) -> None:
        if os.environ.get(CHILD_VARIABLE):
            end_with_stdin()
        await services.start(chat)
        told = ", ".join(chat.channel_names) or "whoever asks"
        click.echo(f"chat       tells {told} of {gateway_url}")

    runtime.run(launch)
