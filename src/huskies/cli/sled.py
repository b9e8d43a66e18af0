"""`huskies sled`: the server beside one project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from huskies.cli.options import (
    PORT,
    examples,
    host_option,
    log_options,
    project_dir_argument,
    setting,
    tls_ca_option,
)

if TYPE_CHECKING:
    from huskies.cli.runtime import Services
    from huskies.config import SledSettings

# Has no flag: the arguments of a process are there for every user of the machine to read.
INVITE_VARIABLE: Final = "HUSKIES_INVITE"


@click.command(
    "sled",
    short_help="Watch one project and relay its events.",
    epilog=examples(
        "huskies sled",
        "huskies sled ~/code/web-shop --gateway-url http://gateway.example:3000",
        "huskies sled --gateway-url http://one.example:3000 --gateway-url http://two.example:3000",
        "huskies sled --join https://gateway.example",
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
    "--join",
    metavar="URL",
    help="First enrol this sled at a gateway, with an invitation of that one's operator (`huskies token "
    "invite`), asked for or taken from HUSKIES_INVITE; then it needs neither token nor --gateway-url.",
)
@setting(
    "--keep-acked",
    metavar="DURATION",
    help="How long after it was recorded an event stays here although a gateway has acknowledged it: 12h, "
    "7d, 4w.  [default: 7d]",
)
@tls_ca_option
@host_option
@setting("--port", type=PORT, help="Port to listen on; 0 takes a free one.  [default: 3001]")
@log_options
def command(
    *,
    project_dir: Path,
    name: str | None,
    gateway_url: tuple[str, ...],
    join: str | None,
    keep_acked: str | None,
    tls_ca: Path | None,
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
        tls_ca=tls_ca,
        host=host,
        port=port,
    )
    if join is not None:
        _join(config, join)
    config = with_joined(config, is_said=bool(gateway_url))
    relays_to = ", ".join(config.gateway_urls) or "no gateway"

    async def launch(services: Services) -> None:
        sled = Sled(config)
        await services.start(sled)
        click.echo(f"{sled.name}    {sled.url}\nrelays to  {relays_to}")

    runtime.run(launch)


def with_joined(config: SledSettings, *, is_said: bool) -> SledSettings:
    """The settings, with the gateways that were joined where nothing else is said."""
    import msgspec

    from huskies.sled.layout import Layout
    from huskies.sled.pins import load_pins

    if is_said or config.gateway_urls:
        return config
    return msgspec.structs.replace(config, gateway_url=tuple(load_pins(Layout(config.project_dir))))


def _join(config: SledSettings, url: str) -> None:
    import asyncio

    from huskies.sled.joining import join
    from huskies.sled.layout import Layout
    from huskies.tls import trusted

    code = os.environ.get(INVITE_VARIABLE) or click.prompt("Invitation", hide_input=True, err=True)
    tls = trusted(url, config.tls_ca)
    enrolled = asyncio.run(join(Layout(config.project_dir), config.name, url, code, tls=tls))
    click.echo(f"joined the gateway {enrolled.gateway_id[:16]} as {enrolled.project}", err=True)
    if enrolled.state == "pending":
        click.echo(
            f"{enrolled.project} has another sled already: this one waits until the operator says "
            "`huskies sleds approve`",
            err=True,
        )
