"""`huskies sleds`: the sleds that were enrolled at a gateway."""

from __future__ import annotations

from pathlib import Path

import click

from huskies.cli.options import data_dir_option, examples, setting


@click.group(
    "sleds",
    short_help="List, approve and revoke enrolled sleds.",
    epilog=examples("huskies sleds list", "huskies sleds approve 3f2a", "huskies sleds revoke 3f2a"),
)
def command() -> None:
    """Say which of the sleds that came with an invitation (`huskies token invite`) may push.

    A sled is named by its key, or the beginning of it. Works on access.db in the gateway's data directory.
    """


@command.command("list", epilog=examples("huskies sleds list", "huskies sleds list --json | jq .state"))
@setting("--json", "as_json", is_flag=True, help="Print each sled as one JSON object a line.")
@data_dir_option
def list_sleds(as_json: bool, data_dir: Path) -> None:
    """Print every sled that was ever enrolled: its project, key and state, and when it came."""
    from huskies.cli.access import Access
    from huskies.readers.times import duration, now_ms

    with Access(data_dir) as access:
        found = access.enrolled()
    for sled in found:
        if as_json:
            import msgspec

            from huskies.logs import printable_json

            click.echo(printable_json(msgspec.json.encode(sled)))
        else:
            now = now_ms()
            used = "never used"
            if sled.last_used_ms is not None:
                used = f"used {duration(now - sled.last_used_ms)} ago"
            enrolled = f"enrolled {duration(now - sled.enrolled_ms)} ago"
            click.echo(f"{sled.project}  {sled.sled_id[:16]}  {sled.state}  {enrolled}  {used}")
    if not found:
        click.echo("No sled is enrolled; invite one with `huskies token invite PROJECT`.", err=True)


@command.command("approve", epilog=examples("huskies sleds approve 3f2a"))
@click.argument("sled")
@data_dir_option
def approve(sled: str, data_dir: Path) -> None:
    """Let SLED push, which waits for that or was revoked."""
    from huskies.cli.access import Access

    with Access(data_dir) as access:
        found = access.approve(sled)
    click.echo(f"{found.sled_id[:16]} may push for {found.project}")


@command.command("revoke", epilog=examples("huskies sleds revoke 3f2a"))
@click.argument("sled")
@data_dir_option
def revoke(sled: str, data_dir: Path) -> None:
    """Let SLED push no more, at once."""
    from huskies.cli.access import Access

    with Access(data_dir) as access:
        found = access.revoke_sled(sled)
    click.echo(f"{found.sled_id[:16]} may not push for {found.project} any more")
