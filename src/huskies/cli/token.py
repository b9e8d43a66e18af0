"""`huskies token`: the sled tokens in a gateway's projects.toml."""

from __future__ import annotations

from pathlib import Path

import click

from huskies.cli.options import data_dir_option, examples, setting


@click.group(
    "token",
    short_help="Make, list and revoke sled tokens.",
    epilog=examples(
        "huskies token make web-shop > web-shop.token",
        "huskies token make web-shop --replace",
        "huskies token list",
        "huskies token revoke web-shop",
    ),
)
def command() -> None:
    """Make, list and revoke sled tokens: the secret that lets a project's sled join this gateway.

    Works on projects.toml in the gateway's data directory, on the gateway's machine.
    """


@command.command("make")
@click.argument("project")
@setting("--replace", is_flag=True, help="Put a new token in the place of the one there is.")
@data_dir_option
def make(project: str, replace: bool, data_dir: Path) -> None:
    """Make a token for PROJECT and print it, this once."""
    from huskies.cli.token_file import make_token

    secret = make_token(data_dir, project, replace=replace)
    click.echo(secret)
    click.echo(
        f"Give it to the sled of {project}, as HUSKIES_SLED_TOKEN or in the file that sled_token_file in its "
        "project.toml names; it is not shown again.",
        err=True,
    )


@command.command("list")
@data_dir_option
def list_tokens(data_dir: Path) -> None:
    """Print the projects that have a token, one a line."""
    from huskies.cli.token_file import check_data_dir
    from huskies.config import load_projects

    check_data_dir(data_dir)
    names = sorted(load_projects(data_dir).sled_tokens)
    for name in names:
        click.echo(name)
    if not names:
        click.echo("No project has a sled token; make one with `huskies token make PROJECT`.", err=True)


@command.command("revoke")
@click.argument("project")
@data_dir_option
def revoke(project: str, data_dir: Path) -> None:
    """Take PROJECT's token away."""
    from huskies.cli.token_file import revoke_token

    revoke_token(data_dir, project)
    click.echo(f"revoked the sled token of {project}")
