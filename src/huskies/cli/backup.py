"""`huskies backup`: a copy of a gateway's log, taken while it runs."""

from __future__ import annotations

from pathlib import Path

import click

from huskies.cli.options import DIRECTORY, data_dir_option, examples


@click.command(
    "backup",
    short_help="Back a gateway up.",
    epilog=examples(
        "huskies backup /backups/huskies-2026-01-31",
        "huskies verify --data-dir /backups/huskies-2026-01-31",
        "huskies restore /backups/huskies-2026-01-31 --data-dir /srv/huskies",
    ),
)
@click.argument("dest", type=DIRECTORY)
@data_dir_option
def command(dest: Path, data_dir: Path) -> None:
    """Copy a gateway's log and projects.toml, as of one moment, into the new directory DEST.

    The gateway may run meanwhile. DEST must not exist; until the backup is whole it does not. It holds sled
    tokens: only its owner can read it.
    """
    from huskies.cli.progress import busy
    from huskies.gateway.store.backup import make
    from huskies.logs import printable
    from huskies.readers.times import now_ms

    with busy(f"copying {data_dir}"):
        manifest = make(data_dir, dest, now_ms())
    size = sum(file.bytes for file in manifest.files.values())
    click.echo(printable(f"backed up {manifest.position:,} events, {size:,} bytes, to {dest}"))
