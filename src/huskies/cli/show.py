"""`huskies show`: a story's whole life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from huskies.cli import completing
from huskies.cli.options import examples, reader_url_option, setting

if TYPE_CHECKING:
    from huskies.readers.finding import Found
    from huskies.readers.fleet import Received
    from huskies.readers.life import Life

_STYLES: Final[dict[str, dict[str, object]]] = {
    "title": {"bold": True},
    "heading": {"bold": True},
    "alarm": {"fg": "red", "bold": True},
    "quiet": {"dim": True},
    "plain": {},
}


@click.command(
    "show",
    short_help="Show a story's whole life.",
    epilog=examples(
        "huskies show 42_story_login",
        "huskies show 42 --project web-shop        by its number, in one project",
        "huskies show login                        by a part of its id or name",
        "huskies show 42 --json | jq .blocked_ms",
    ),
)
@click.argument("story", metavar="STORY", shell_complete=completing.stories)
@reader_url_option
@setting("--project", metavar="NAME", shell_complete=completing.projects, help="Look in this project alone.")
@setting("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def command(story: str, gateway_url: str, project: str | None, as_json: bool) -> None:
    """Show where STORY stands, its time in each stage, what held it up, and every event of it.

    STORY is its id, its number, or a part of its id or name. Where several are meant, nothing is shown, and
    what to type is said. Exit status: 0 it is shown, 2 none or several are meant.
    """
    from huskies.readers.life import life
    from huskies.readers.times import now_ms

    found, received = _found(story, gateway_url, project)
    lived = life(received)
    if as_json:
        click.echo(_json(found, lived, now_ms()))
        return
    from huskies.cli.colour import is_coloured
    from huskies.readers.life_lines import life_lines

    coloured = is_coloured()
    for line in life_lines(found.project.name, found.story, lived, now_ms()):
        style = _STYLES[line.kind] if coloured else {}
        click.echo(click.style(line.text, **style) if style else line.text)  # type: ignore[arg-type]


def _found(story: str, gateway_url: str, project: str | None) -> tuple[Found, list[Received]]:
    from huskies.cli import pages
    from huskies.cli.board import views_in
    from huskies.cli.status import ask
    from huskies.readers.finding import NotFoundError, find, forgotten

    try:
        found = find(story, views_in(ask(gateway_url), gateway_url), project)
    except NotFoundError as error:
        if error.candidates:
            raise
        # It may have been deleted, and then stands on no board; its events are kept.
        received = list(pages.of_story(gateway_url, story, project))
        found = forgotten(story, received, error)
        return found, [each for each in received if each.project == found.project.name]
    return found, list(pages.of_story(gateway_url, found.story.story_id, found.project.name))


def _json(found: Found, lived: Life, now_ms: int) -> str:
    import msgspec

    from huskies.logs import printable_json
    from huskies.readers.life import time_of

    summary = {
        "project": found.project.name,
        "story": found.story,
        "time_in_stages_ms": dict(lived.time_in_stages(now_ms)),
        "blocked_ms": time_of(lived.blocked, now_ms),
        "merge_failed_ms": time_of(lived.merge_failures, now_ms),
        **msgspec.structs.asdict(lived),
    }
    return printable_json(msgspec.json.encode(summary))
