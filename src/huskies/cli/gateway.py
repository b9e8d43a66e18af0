"""`huskies gateway`: the one server that sleds push to and people watch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huskies.cli.options import (
    DIRECTORY,
    PORT,
    data_dir_option,
    examples,
    host_option,
    log_options,
    retain_options,
    setting,
    tls_ca_option,
)

if TYPE_CHECKING:
    from huskies.cli.runtime import Services


def _peer_urls(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    from huskies.urls import gateway_base_url

    return tuple(gateway_base_url(url, "--peer") for url in value)


@click.command(
    "gateway",
    short_help="Run the gateway.",
    epilog=examples(
        "huskies gateway",
        "huskies gateway --host 0.0.0.0 --port 8080 --data-dir /var/lib/huskies",
        "huskies gateway --peer http://other-server:3000",
        "huskies gateway --retain 90d --retain-size 10GB",
    ),
)
@host_option
@setting("--port", type=PORT, help="Port to listen on; 0 takes a free one.  [default: 3000]")
@data_dir_option
@retain_options
@setting(
    "--peer",
    "peers",
    multiple=True,
    metavar="URL",
    callback=_peer_urls,
    help="Another gateway to replicate with; may be repeated.",
)
@setting(
    "--tls-cert", type=DIRECTORY, help="Serve TLS with this certificate chain (PEM); read again when renewed."
)
@setting("--tls-key", type=DIRECTORY, help="The certificate's key (PEM).")
@tls_ca_option
@log_options
def command(  # noqa: PLR0917 - click passes them by name
    host: str | None,
    port: int | None,
    data_dir: Path,
    retain: int | None,
    retain_size: int | None,
    project_quota: int | None,
    peers: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Run the gateway until Ctrl-C.

    On an address other than loopback a project needs a sled token (`huskies token make NAME`), an invited
    sled (`huskies token invite NAME`), or `open = true` in projects.toml in the data directory; and whoever
    reads needs a token that may (`huskies token create NAME --scope read`).

    Where the data directory has a notify.toml or a bot.toml, `huskies chat` runs beside it.

    Gateways that replicate hold the same events: each sends the others what they lack. Away from loopback
    they need one token that all of them share, in HUSKIES_PEER_TOKEN or as `token` under [peers] in
    projects.toml.
    """
    from huskies import logs
    from huskies.cli import runtime
    from huskies.cli.children import chat_of
    from huskies.config import (
        DEFAULT_GATEWAY_PORT,
        DEFAULT_HOST,
        GatewaySettings,
        checked_host,
        peer_token,
    )
    from huskies.errors import ConfigError
    from huskies.gateway.server import Gateway

    logs.set_up(level=log_level, as_json=log_json)
    settings = GatewaySettings(
        host=checked_host(DEFAULT_HOST if host is None else host, "--host"),
        port=DEFAULT_GATEWAY_PORT if port is None else port,
        data_dir=data_dir,
        retain_ms=retain,
        retain_bytes=retain_size,
        quota_bytes=project_quota,
        peers=peers,
        peer_token=peer_token(os.environ),
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_ca=tls_ca,
    )
    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("--tls-cert", "goes together with --tls-key; give both, or neither")

    async def launch(services: Services) -> None:
        gateway = Gateway(settings)
        await services.start(gateway)
        click.echo(f"gateway    {gateway.url}\ndata in    {logs.printable(str(data_dir))}")
        child = chat_of(
            data_dir,
            gateway.url,
            token=gateway.guard.own_admin("this gateway's chat"),
            pin=tls_cert,
            log_level=log_level,
            log_json=log_json,
        )
        if child is not None:
            await services.start(child)
        if gateway.guard.is_open:
            click.echo("read by    anyone on this machine; a token with a scope that reads changes that")

    runtime.run(launch)
