"""`huskies init`: lay out a project."""

from __future__ import annotations

from pathlib import Path

import click

from huskies.cli.options import examples, project_dir_argument


@click.command(
    "init",
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
    from huskies.cli.layout import lay_out
    from huskies.logs import printable

    made = lay_out(project_dir)
    for path in made:
        click.echo(f"made {printable(str(path))}")
    click.echo(
        "Next: `huskies up` here, or `huskies sled` to join a gateway." if made else "All is there already."
    )
