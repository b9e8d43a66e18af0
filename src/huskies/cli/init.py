"""`huskies init`: lay out a project."""

from __future__ import annotations

from pathlib import Path

import click

from huskies.cli.options import examples, project_dir_argument


@click.command(
    "init",
    short_help="Lay out a project's .huskies/.",
    epilog=examples(
        "huskies init",
        "huskies init ~/code/web-shop && huskies up ~/code/web-shop",
    ),
)
@project_dir_argument
def command(project_dir: Path) -> None:
    """Lay out .huskies/ in PROJECT_DIR, by default here; never overwrites.

    Stories are files .huskies/work/STAGE/STORY.md; moving one to another stage's directory is an event.
    """
    from huskies.cli.projects import lay_out
    from huskies.config import HUSKIES_DIR
    from huskies.logs import printable

    lay_out(project_dir)
    click.echo(f"{printable(str(project_dir.resolve() / HUSKIES_DIR))} is laid out")
    click.echo("Next: `huskies up` to watch it on this machine, or `huskies sled` to join a gateway.")
