"""`huskies token`: who may push, read and replicate at a gateway; invitations for sleds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from huskies.cli.options import data_dir_option, examples, setting

if TYPE_CHECKING:
    from huskies.gateway.access.tokens import Token

# Click leaves the line breaks of a paragraph alone that begins with a backspace.
_SCOPES: Final = """\
\b
Scopes:
  push:PROJECT    let the project's sled push
  read            read everything: dashboard, events, projects, metrics
  read:PROJECT    read what is of one project
  admin           read everything, and start projects
  peer            replicate with this gateway
"""


@click.group(
    "token",
    short_help="Make, list, rotate and revoke tokens; invite sleds.",
    epilog=examples(
        "huskies token make web-shop > web-shop.token",
        "huskies token create ann --scope read",
        "huskies token create ci --scope push:web-shop --scope read:web-shop --expires 90d",
        "huskies token rotate ci --overlap 1d",
        "huskies token invite web-shop",
        "huskies token list",
        "huskies token revoke ci",
    )
    + "\n\n"
    + _SCOPES,
)
def command() -> None:
    """Make, list, rotate and revoke the tokens of a gateway, and invite sleds to it.

    A token is shown once; the gateway keeps its hash in access.db, in its data directory, where these
    commands work beside it. What is revoked ends at once, connections included.
    """


@command.command(
    "make", epilog=examples("huskies token make web-shop", "huskies token make web-shop --replace")
)
@click.argument("project")
@setting("--replace", is_flag=True, help="Revoke the token there is, and make another.")
@data_dir_option
def make(project: str, replace: bool, data_dir: Path) -> None:
    """Make a token for PROJECT's sled and print it, this once: `create` with the scope push:PROJECT."""
    from huskies.cli.access import Access
    from huskies.config import PROJECT_NAME_RULE
    from huskies.errors import ConfigError
    from huskies.events.names import is_project_name

    if not is_project_name(project):
        raise ConfigError("PROJECT", f"{PROJECT_NAME_RULE}; got {project!r}")
    with Access(data_dir, creates=True) as access:
        secret = access.make_sled_token(project, replace=replace)
    click.echo(secret)
    click.echo(
        f"Give it to the sled of {project}, as HUSKIES_SLED_TOKEN or in the file that sled_token_file in its "
        "project.toml names; it is not shown again.",
        err=True,
    )


@command.command(
    "create",
    epilog=examples(
        "huskies token create ann --scope read",
        "huskies token create ci --scope read:web-shop --scope push:web-shop --expires 90d",
    ),
)
@click.argument("name")
@setting("--scope", multiple=True, required=True, help="What it is good for; may be repeated.")
@setting("--expires", metavar="DURATION", help="When it ends by itself: 12h, 90d.  [default: never]")
@data_dir_option
def create(name: str, scope: Sequence[str], expires: str | None, data_dir: Path) -> None:
    """Make a token called NAME and print it, this once."""
    from huskies.cli.access import Access

    with Access(data_dir, creates=True) as access:
        secret = access.create(name, scope, expires)
    click.echo(secret)
    click.echo(f"{name} may {', '.join(scope)}; the token is not shown again.", err=True)


@command.command("list", epilog=examples("huskies token list", "huskies token list --json | jq .name"))
@setting("--json", "as_json", is_flag=True, help="Print each token as one JSON object a line.")
@data_dir_option
def list_tokens(as_json: bool, data_dir: Path) -> None:
    """Print the tokens that are valid: name, id, scopes, who made it, when it was last used, when it ends."""
    from huskies.cli.access import Access

    with Access(data_dir) as access:
        found, of_file = access.valid_tokens(), access.projects_with_a_token()
    if as_json:
        import msgspec

        from huskies.logs import printable_json

        for token in found:
            click.echo(printable_json(msgspec.json.encode(token)))
        return
    for token in found:
        click.echo(_line(token))
    for project in of_file:
        click.echo(f"{project}  (sled_tokens of projects.toml)  push:{project}")
    if not found and not of_file:
        click.echo("There is no token; make one with `huskies token make PROJECT`.", err=True)


@command.command(
    "rotate", epilog=examples("huskies token rotate ci", "huskies token rotate ci --overlap 12h")
)
@click.argument("name")
@setting("--overlap", metavar="DURATION", default="1d", help="How long the old one holds beside the new one.")
@data_dir_option
def rotate(name: str, overlap: str, data_dir: Path) -> None:
    """Make another token like NAME (a name or an id) and print it; both hold until the old one ends."""
    from huskies.cli.access import Access

    with Access(data_dir) as access:
        old, secret = access.rotate(name, overlap)
    click.echo(secret)
    click.echo(f"the token before it, {old.id}, ends in {overlap}; this one is not shown again.", err=True)


@command.command("revoke", epilog=examples("huskies token revoke ci"))
@click.argument("name")
@data_dir_option
def revoke(name: str, data_dir: Path) -> None:
    """Revoke the token NAME (a name or an id), a project's in projects.toml included, at once."""
    from huskies.cli.access import Access

    with Access(data_dir) as access:
        for said in access.revoke(name):
            click.echo(said)


@command.command(
    "invite",
    epilog=examples("huskies token invite web-shop", "huskies token invite web-shop --second --expires 12h"),
)
@click.argument("project")
@setting("--expires", metavar="DURATION", default="1h", help="How long the invitation holds.")
@setting("--second", is_flag=True, help="Let the sled come beside the one that the project has.")
@data_dir_option
def invite(project: str, expires: str, second: bool, data_dir: Path) -> None:
    """Print an invitation by which PROJECT's sled is enrolled once; its own key lets it push from then on."""
    from huskies.cli.access import Access

    with Access(data_dir, creates=True) as access:
        code = access.invite(project, expires, adds=second)
    click.echo(code)
    click.echo(
        f"On the machine of {project}: huskies sled --join GATEWAY_URL, and this code when it asks "
        f"(or in HUSKIES_INVITE). It holds for {expires}, once.",
        err=True,
    )


def _line(token: Token) -> str:
    from huskies.logs import printable
    from huskies.readers.times import duration, now_ms

    now = now_ms()
    used = "never used" if token.last_used_ms is None else f"used {duration(now - token.last_used_ms)} ago"
    parts = [token.name, token.id, " ".join(token.scopes), f"by {token.created_by}", used]
    if token.expires_ms is not None:
        parts.append(f"ends in {duration(token.expires_ms - now)}")
    return printable("  ".join(parts))
