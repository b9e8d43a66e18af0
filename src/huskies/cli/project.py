"""`huskies project`: new projects in containers, which a gateway makes and takes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from huskies.cli import completing
from huskies.cli.options import DIRECTORY, data_dir_option, examples, reader_url_option, setting

_GIT_NEXT = "; else what git is configured with, here or where the gateway runs."


@click.group(
    "project",
    short_help="Make projects in containers; list, stop, start and remove them.",
    epilog=examples(
        "huskies project new web-shop",
        "huskies project new web-shop --git https://git.example/web-shop.git --stack python",
        "huskies project list",
        "huskies project logs web-shop",
        "huskies project remove web-shop",
    ),
)
def command() -> None:
    """Have a gateway make a project: a directory, a container with a sled, and an SSH server to log in to.

    The gateway carries it out on its machine with Docker or Podman, and lists the project in its
    projects.toml. It takes a token with the scope admin, unless anyone on this machine may read.
    """


@command.command(
    "new",
    epilog=examples(
        "huskies project new web-shop",
        "huskies project new web-shop --git https://git.example/web-shop.git --stack node --memory 8g",
        "huskies project new web-shop --dry-run",
    ),
)
@click.argument("name")
@setting("--git", metavar="URL", help="Clone this repository.  [default: begin a new one]")
@setting(
    "--stack", metavar="STACK", help="What the image has: base, python, node, rust or go.  [default: base]"
)
@setting("--image", metavar="IMAGE", help="Take this image, made of one of ours, instead of a stack's.")
@setting("--memory", metavar="SIZE", help="How much memory it may take: 512m, 8g.  [default: 4g]")
@setting("--cpus", type=float, metavar="NUMBER", help="How many processors it may take: 1.5.  [default: 2]")
@setting("--git-name", metavar="NAME", help=f"Who commits there{_GIT_NEXT}")
@setting("--git-email", metavar="ADDRESS", help=f"And the address{_GIT_NEXT}")
@setting(
    "--ssh-key",
    type=DIRECTORY,
    metavar="FILE",
    help="The public key that may log in.  [default: your own, in ~/.ssh]",
)
@reader_url_option
@setting("--dry-run", is_flag=True, help="Print the command that makes the container; asks no gateway.")
@setting(
    "--projects-dir",
    type=DIRECTORY,
    help="With --dry-run: where the gateway has projects.  [default: in its data]",
)
@data_dir_option
@setting("--json", "as_json", is_flag=True, help="Print what comes as JSON, one object a line.")
def new(
    *,
    name: str,
    git: str | None,
    stack: str | None,
    image: str | None,
    memory: str | None,
    cpus: float | None,
    git_name: str | None,
    git_email: str | None,
    ssh_key: Path | None,
    gateway_url: str,
    dry_run: bool,
    projects_dir: Path | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Make a project called NAME; it is done when its sled has connected.

    Where something fails, or it is broken off, what was made is removed again, or named.
    """
    from huskies.cli import new_project
    from huskies.containers.wanted import Wanted, check

    wanted = Wanted(
        name=name,
        git=git,
        stack=stack,
        image=image,
        gateway_url=gateway_url,
        memory=memory,
        cpus=cpus,
        git_name=git_name or new_project.git_config("user.name"),
        git_email=git_email or new_project.git_config("user.email"),
        ssh_key=new_project.public_key(ssh_key),
    )
    check(wanted)
    if dry_run:
        click.echo(new_project.run_line(wanted, (projects_dir or data_dir / "projects").absolute()))
    else:
        new_project.make(wanted, gateway_url, as_json=as_json)


@command.command("list", epilog=examples("huskies project list", "huskies project list --json | jq .state"))
@setting("--json", "as_json", is_flag=True, help="Print each as one JSON object a line.")
@reader_url_option
def list_projects(as_json: bool, gateway_url: str) -> None:
    """Print the containers of projects: how each stands, and how to log in."""
    import json

    from huskies.cli.columns import Cell, aligned
    from huskies.cli.new_project import asked
    from huskies.logs import printable

    found = asked("GET", gateway_url, "/gateway/containers")["containers"]
    if as_json:
        for each in found:
            click.echo(json.dumps(each))
        return
    rows = [
        [Cell(printable(text)) for text in (each["name"], _standing(each), each["url"], each["ssh"])]
        for each in found
    ]
    for line in aligned(rows, [False] * 4, None) if rows else ():
        click.echo("".join(span.text for span in line).rstrip())
    if not found:
        click.echo("This gateway has made no projects; make one with `huskies project new NAME`.", err=True)


@command.command("stop", epilog=examples("huskies project stop web-shop"))
@click.argument("name", shell_complete=completing.projects)
@reader_url_option
def stop(name: str, gateway_url: str) -> None:
    """Stop NAME's container, until it is started; what its sled has not delivered waits in the directory."""
    from huskies.cli.new_project import asked, path_of

    asked("POST", gateway_url, path_of(name, "stop"))
    click.echo(f"{name} is stopped; `huskies project start {name}` starts it again")


@command.command("start", epilog=examples("huskies project start web-shop"))
@click.argument("name", shell_complete=completing.projects)
@reader_url_option
def start(name: str, gateway_url: str) -> None:
    """Start NAME's container again."""
    from huskies.cli.new_project import asked, path_of

    found = asked("POST", gateway_url, path_of(name, "start"))
    click.echo(f"{name} is started: {found['url']}")


@command.command(
    "remove",
    epilog=examples(
        "huskies project remove web-shop", "huskies project remove web-shop --directory --history"
    ),
)
@click.argument("name", shell_complete=completing.projects)
@setting("--directory", is_flag=True, help="Remove the project's directory, too, with everything in it.")
@setting(
    "--history",
    is_flag=True,
    help="Show nothing more of what its sleds said to this gateway; works without a container, too.",
)
@reader_url_option
def remove(name: str, directory: bool, history: bool, gateway_url: str) -> None:
    """Remove NAME's container and its token; its directory and its history stay, unless told otherwise."""
    from huskies.cli.new_project import asked, path_of
    from huskies.logs import printable

    flags = {"directory": directory, "history": history}
    query = {flag: "true" for flag, is_set in flags.items() if is_set}
    for what in asked("DELETE", gateway_url, path_of(name), query=query)["removed"]:
        click.echo(f"removed {printable(what)}")


@command.command("logs", epilog=examples("huskies project logs web-shop --lines 1000"))
@click.argument("name", shell_complete=completing.projects)
@setting(
    "--lines", type=click.IntRange(0, 10_000), default=200, show_default=True, help="How many of the last."
)
@reader_url_option
def logs(name: str, lines: int, gateway_url: str) -> None:
    """Print what NAME's container wrote: its sled and its SSH server."""
    from huskies.cli.new_project import asked_for_text, path_of
    from huskies.logs import printable

    text = asked_for_text(gateway_url, path_of(name, "logs"), {"lines": str(lines)})
    for line in text.splitlines():
        click.echo(printable(line))


def _standing(each: dict[str, Any]) -> str:
    is_known = each["health"] and each["state"] == "running"
    return f"{each['state']}, {each['health']}" if is_known else str(each["state"])
