"""`huskies demo`: everything at once, with made-up projects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from huskies.cli.options import PORT, examples, setting

if TYPE_CHECKING:
    from pathlib import Path

    from huskies.cli.runtime import Services
    from huskies.demo.day import Step

# Each has a sled of its own, in one process.
_PROJECTS_MAX: Final = 200


@click.command(
    "demo",
    short_help="Show it all, with made-up projects.",
    epilog=examples(
        "huskies demo",
        "huskies demo --speed 480                       the day in a minute",
        "huskies demo --projects 50 --seed 3            more projects, and another day",
        "huskies demo --port 8080                       where the dashboard is to be",
    ),
)
@setting(
    "--speed",
    type=click.FloatRange(1, 100_000),
    default=120.0,
    show_default="120, a day of 8 hours in 4 minutes",
    help="How many minutes of the day pass in one.",
)
@setting(
    "--projects",
    type=click.IntRange(1, _PROJECTS_MAX),
    default=12,
    show_default=True,
    help="How many projects there are.",
)
@setting("--seed", type=int, default=1, show_default=True, help="The same seed makes up the same day.")
@setting("--port", type=PORT, default=0, show_default="any free one", help="The gateway's port.")
def command(speed: float, projects: int, seed: int, port: int) -> None:
    """Show a gateway and made-up projects that live through a day in a few minutes.

    Gateway, sleds and story files are real, and lie in a directory of their own that is removed at the end;
    names and stories are made up, and every project is called demo-…. After the day everything stays as it
    is, until Ctrl-C or SIGTERM ends it (exit status 0). No project and no gateway of yours is touched.
    """
    import random

    from huskies import logs
    from huskies.cli import runtime, terminal
    from huskies.demo.day import script
    from huskies.demo.scratch import scratch

    logs.set_up(level="warning")
    steps = script(projects, random.Random(seed).random)  # noqa: S311 - makes a day up, and no secret
    with terminal.until_interrupted(), scratch() as directory:

        async def launch(services: Services) -> None:
            await _launch(services, steps, directory, speed, port)

        runtime.run(launch)


async def _launch(
    services: Services, steps: Sequence[Step], directory: Path, speed: float, port: int
) -> None:
    from huskies.demo.player import Player

    player = Player(steps, directory, port=port, speed=speed, tell=click.echo)
    await services.start(player)
    click.echo("\n".join(_banner(steps, directory, speed, player.url)))


def _banner(steps: Sequence[Step], directory: Path, speed: float, url: str) -> list[str]:
    from huskies.demo.day import MINUTES, Appear, CutOff, clock

    projects = {step.project for step in steps}
    number, of = next(
        (step.action.story_id.partition("_")[0], step.project)
        for step in steps
        if isinstance(step.action, Appear)
    )
    cut_off = [f"{step.project} at {clock(step.minute)}" for step in steps if isinstance(step.action, CutOff)]
    minutes = f"{MINUTES / speed:.3g} minutes"
    return [
        f"DEMONSTRATION: {len(projects)} made-up projects live through a day in {minutes}.",
        "Gateway, sleds and files are real; names and stories are not.",
        "",
        f"dashboard  {url}",
        "",
        "Look at what needs attention, at stories that move, and at projects that are",
        f"cut off and come back: {', '.join(cut_off[:2])}",
        "",
        "Type in another terminal:",
        f"  export HUSKIES_GATEWAY_URL={url}",
        "  huskies top              a board that fills the terminal",
        "  huskies status --watch   a table that is drawn again",
        "  huskies tail             a line for each event",
        f"  huskies show {number} --project {of}",
        "",
        "Ctrl-C ends it, and removes where all of it lies:",
        f"  {directory}",
        "",
    ]
