"""`huskies gateway`: the one server that sleds push to and people watch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from huskies.cli.options import PORT, data_dir_option, examples, host_option, log_options, setting

if TYPE_CHECKING:
    from huskies.cli.runtime import Services


@click.command(
    "gateway",
    short_help="Run the gateway.",
    epilog=examples(
        "huskies gateway",
        "huskies gateway --host 0.0.0.0 --port 8080 --data-dir /var/lib/huskies",
    ),
)
@host_option
@setting("--port", type=PORT, help="Port to listen on; 0 takes a free one.  [default: 3000]")
@data_dir_option
@log_options
def command(host: str | None, port: int | None, data_dir: Path, log_level: str, log_json: bool) -> None:
    """Run the gateway until Ctrl-C.

    On an address other than loopback a project needs a sled token (`huskies token make NAME`), or
    `open = true` in projects.toml in the data directory.
    """
    from huskies import logs
    from huskies.cli import runtime
    from huskies.config import DEFAULT_GATEWAY_PORT, DEFAULT_HOST, GatewaySettings, checked_host
    from huskies.gateway.server import Gateway

    logs.set_up(level=log_level, as_json=log_json)
    settings = GatewaySettings(
        host=checked_host(DEFAULT_HOST if host is None else host, "--host"),
        port=DEFAULT_GATEWAY_PORT if port is None else port,
        data_dir=data_dir,
    )

    async def launch(services: Services) -> None:
        gateway = Gateway(settings)
        await services.start(gateway)
        click.echo(f"gateway    {gateway.url}\ndata in    {logs.printable(str(data_dir))}")

    runtime.run(launch)
