"""`huskies sled`: the server beside one project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huskies.cli.options import PORT, examples, host_option, log_options, project_dir_argument, setting

if TYPE_CHECKING:
    from huskies.cli.runtime import Services


@click.command(
    "sled",
    short_help="Watch one project and relay its events.",
    epilog=examples(
        "huskies sled",
        "huskies sled ~/code/web-shop --gateway-url http://gateway.example:3000",
        "huskies sled --gateway-url http://one.example:3000 --gateway-url http://two.example:3000",
    ),
)
@project_dir_argument
@setting(
    "--name", metavar="NAME", help="The project's name.  [default: project.toml's, else the directory's]"
)
@setting(
    "--gateway-url",
    metavar="URL",
    multiple=True,
    empty_counts=True,
    help="Where to relay to; empty: nowhere, whatever the file says. Given several times (in the variable "
    "apart by spaces or commas): to the first that answers, in this order; a later one is left for an "
    "earlier one when that answers again.",
)
@setting(
    "--keep-acked",
    metavar="DURATION",
    help="How long after it was recorded an event stays here although a gateway has acknowledged it: 12h, "
    "7d, 4w.  [default: 7d]",
)
@host_option
@setting("--port", type=PORT, help="Port to listen on; 0 takes a free one.  [default: 3001]")
@log_options
def command(
    *,
    project_dir: Path,
    name: str | None,
    gateway_url: tuple[str, ...],
    keep_acked: str | None,
    host: str | None,
    port: int | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Watch the project in PROJECT_DIR, by default here, and relay its events, until Ctrl-C.

    Settings that are no flag here stand in .huskies/project.toml; the sled token is taken from
    HUSKIES_SLED_TOKEN, or from the file that `sled_token_file` names.
    """
    from huskies import logs
    from huskies.cli import runtime
    from huskies.cli.projects import prepared
    from huskies.config import sled_config
    from huskies.sled.service import Sled

    logs.set_up(level=log_level, as_json=log_json)
    config = sled_config(
        prepared(project_dir),
        os.environ,
        name=name,
        gateway_url=gateway_url or None,
        keep_acked=keep_acked,
        host=host,
        port=port,
    )
    relays_to = ", ".join(config.gateway_urls) or "no gateway"

    async def launch(services: Services) -> None:
        sled = Sled(config)
        await services.start(sled)
        click.echo(f"{sled.name}    {sled.url}\nrelays to  {relays_to}")

    runtime.run(launch)
