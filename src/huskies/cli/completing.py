"""What a gateway offers to a shell that completes: names of projects, ids of stories."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import click

# Whoever presses Tab does not wait longer.
_PATIENCE: Final = 1.0
# A shell takes what is completed into its command line as it stands, and would carry out `$(…)`.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def projects(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names that begin so; none where the gateway does not answer."""
    return _offered((name for name, _ in _everything(ctx)), incomplete)


def stories(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The ids that begin so, of the project that is named already if one is."""
    project = ctx.params.get("project")
    found = (each for name, ids in _everything(ctx) for each in ids if project in {None, name})
    return _offered(found, incomplete)


def _offered(found: Iterable[str], incomplete: str) -> list[str]:
    return sorted({each for each in found if each.startswith(incomplete) and _HARMLESS.fullmatch(each)})


def _everything(ctx: click.Context) -> list[tuple[str, list[str]]]:
    """Each project's name, and the ids of its stories."""
    from huskies.cli.board import views_in
    from huskies.cli.status import ask
    from huskies.errors import HuskiesError

    url = str(ctx.params.get("gateway_url"))
    try:
        views = views_in(ask(url, patience=_PATIENCE), url)
    except HuskiesError:
        return []
    return [(view.name, [story.story_id for story in view.stories]) for view in views]
