"""`huskies audit`: who made, used and revoked what at a gateway, and what was refused."""

from __future__ import annotations

from pathlib import Path

import click

from huskies.cli.options import data_dir_option, examples, setting


@click.command(
    "audit",
    short_help="Show who did what at a gateway, and what was refused.",
    epilog=examples("huskies audit", "huskies audit --last 20", "huskies audit --json | jq .outcome"),
)
@setting("--last", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many entries.")
@setting("--json", "as_json", is_flag=True, help="Print each entry as one JSON object a line.")
@data_dir_option
def command(last: int, as_json: bool, data_dir: Path) -> None:
    """Print the newest entries of the audit, the newest last. What repeats itself is counted."""
    from datetime import UTC, datetime

    from huskies.cli.access import Access
    from huskies.logs import printable, printable_json
    from huskies.readers.times import local_time

    with Access(data_dir) as access:
        entries = access.newest(last)
    now = datetime.now(UTC)
    for entry in entries:
        if as_json:
            import msgspec

            click.echo(printable_json(msgspec.json.encode(entry)))
            continue
        times = f"  {entry.count} times" if entry.count > 1 else ""
        what = (entry.action, entry.subject, entry.who, entry.address, entry.outcome)
        parts = [local_time(entry.at_ms, now), *what]
        click.echo(printable("  ".join(part for part in parts if part)) + times)
    if not entries:
        click.echo("Nothing happened yet.", err=True)
