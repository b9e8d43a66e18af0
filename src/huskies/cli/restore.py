"""`huskies restore`: a backup becomes a gateway's directory."""

from __future__ import annotations

import time
from pathlib import Path

import click

from huskies.cli.options import DIRECTORY, data_dir_option, examples, setting


@click.command(
    "restore",
    short_help="Restore a gateway from a backup.",
    epilog=examples("huskies restore /backups/huskies-2026-01-31 --data-dir /srv/huskies"),
)
@click.argument("source", type=DIRECTORY)
@data_dir_option
@setting("--accept-damage", is_flag=True, help="Restore also where the backup's log is damaged.")
def command(source: Path, data_dir: Path, accept_damage: bool) -> None:
    """Lay the backup SOURCE out in a directory that holds no log, after checking all of it.

    What is restored is a new gateway, with a key of its own: sleds send it again what they still hold and it
    lacks, and readers whose cursors are newer than the backup are told to start again.
    """
    from contextlib import ExitStack

    from huskies.cli.progress import busy
    from huskies.config import PROJECTS_FILE
    from huskies.errors import StoreError
    from huskies.gateway.lock import locked
    from huskies.gateway.store.backup import read_manifest, restored
    from huskies.logs import printable

    manifest = read_manifest(source)
    with locked(data_dir):
        had_projects = (data_dir / PROJECTS_FILE).exists()
        with ExitStack() as stack:
            with busy(f"copying {source}"):
                log = stack.enter_context(restored(source, data_dir, manifest))
            if not _is_sound(log) and not accept_damage:
                raise StoreError(
                    f"{source}: the log in it is damaged; restore an older backup, or this one all the same "
                    "with --accept-damage"
                )
    if had_projects:
        click.echo(printable(f"kept the {PROJECTS_FILE} that was there"), err=True)
    click.echo(printable(f"restored {manifest.position:,} events to {data_dir}"))


def _is_sound(path: Path) -> bool:
    from contextlib import closing

    from huskies.cli.report import Report
    from huskies.cli.verify import progress_bar
    from huskies.gateway.store.verify import LogCheck
    from huskies.storage.sqlite import open_reader

    report = Report(as_json=False)
    started = time.perf_counter()
    with closing(open_reader(path)) as connection:
        check = LogCheck(connection)
        with progress_bar(check, f"checking {path}") as told:
            for problem in check.run(told):
                report.problem(problem)
    report.verdict(path, check.verdict, time.perf_counter() - started)
    return not check.verdict.problems
