"""`huskies up`: a gateway and a sled for each project, in one process, on loopback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from huskies.cli.options import (
    DIRECTORY,
    PORT,
    data_dir_option,
    examples,
    log_options,
    retain_options,
    setting,
)

if TYPE_CHECKING:
    from huskies.cli.runtime import Services
    from huskies.config import GatewaySettings, SledSettings
    from huskies.gateway.server import Gateway
    from huskies.sled.service import Sled


@click.command(
    "up",
    short_help="Run a gateway and a sled for each project.",
    epilog=examples(
        "huskies up",
        "huskies up ~/code/web-shop ~/code/billing --port 8080",
    ),
)
@click.argument("project_dirs", metavar="[PROJECT_DIR]...", nargs=-1, type=DIRECTORY)
@setting("--port", type=PORT, help="The gateway's port; 0 takes a free one.  [default: 3000]")
@data_dir_option
@retain_options
@log_options
def command(  # noqa: PLR0917 - click passes them by name
    project_dirs: tuple[Path, ...],
    port: int | None,
    data_dir: Path,
    retain: int | None,
    retain_size: int | None,
    project_quota: int | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Run a gateway and a sled for each PROJECT_DIR, by default here, until Ctrl-C.

    Directories without .huskies/ are laid out as by `huskies init`. Everything listens on this machine alone;
    gateway URLs in the projects' own files are not used.
    """
    from huskies import logs
    from huskies.cli import runtime
    from huskies.cli.children import chat_of
    from huskies.config import DEFAULT_GATEWAY_PORT, GatewaySettings

    logs.set_up(level=log_level, as_json=log_json)
    settings = GatewaySettings(
        port=DEFAULT_GATEWAY_PORT if port is None else port,
        data_dir=data_dir,
        retain_ms=retain,
        retain_bytes=retain_size,
        quota_bytes=project_quota,
    )
    configs = sled_configs(project_dirs or (Path(),))

    async def launch(services: Services) -> None:
        gateway = await _launch(services, settings, configs)
        child = chat_of(
            data_dir,
            gateway.url,
            token=gateway.guard.own_admin("this gateway's chat"),
            pin=None,
            log_level=log_level,
            log_json=log_json,
        )
        if child is not None:
            await services.start(child)

    runtime.run(launch)


def sled_configs(directories: Sequence[Path]) -> list[SledSettings]:
    """Settings for a sled in each directory, names made distinct; raises `ConfigError`."""
    from huskies.cli.projects import prepared
    from huskies.config import sled_config
    from huskies.errors import ConfigError
    from huskies.events.names import distinct_names
    from huskies.sled.opening import recorded_name

    found: list[SledSettings] = []
    for directory in directories:
        settings = sled_config(prepared(directory), {}, gateway_url="", port=0)
        if any(settings.project_dir == other.project_dir for other in found):
            raise ConfigError(str(directory), "expected each project once; leave out the repetition")
        found.append(settings)
    names = distinct_names([(each.name, recorded_name(each.project_dir)) for each in found])
    # What secret the project has may be for another gateway; this one gives its sleds their own.
    return [
        msgspec.structs.replace(each, name=name, sled_token=None, host="127.0.0.1")
        for each, name in zip(found, names, strict=True)
    ]


async def _launch(services: Services, settings: GatewaySettings, configs: Sequence[SledSettings]) -> Gateway:
    from huskies.gateway.server import Gateway
    from huskies.sled.service import Sled

    gateway = Gateway(settings)
    await services.start(gateway)
    running: list[tuple[Sled, SledSettings]] = []
    for config in configs:
        token = gateway.own_token(config.name)
        sled = Sled(msgspec.structs.replace(config, gateway_url=gateway.url, sled_token=token))
        await services.start(sled)
        gateway.add_project(sled.name, sled.url)
        running.append((sled, config))
    _show(gateway.url, running)
    return gateway


def _show(gateway_url: str, running: Sequence[tuple[Sled, SledSettings]]) -> None:
    from huskies.logs import printable

    width = max(len("dashboard"), *(len(sled.name) for sled, _ in running))
    click.echo(f"{'dashboard':<{width}}  {gateway_url}")
    for sled, config in running:
        click.echo(f"{sled.name:<{width}}  {sled.url}  {printable(str(config.project_dir))}")
