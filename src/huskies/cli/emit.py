"""`huskies emit`: report an event of a project, whether or not its sled is running."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from huskies.cli.options import DIRECTORY, examples, setting
from huskies.events.model import STAGES
from huskies.events.names import stage_from

if TYPE_CHECKING:
    from datetime import datetime

    from huskies.events.model import StatusEvent

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PROJECT_HELP: Final = "The project, or a directory in it.  [default: here]"


def _stage(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    stage = stage_from(value)
    if stage is None:
        raise click.BadParameter(f"{value!r} is none of {', '.join(STAGES)} (the number may be left out).")
    return stage


def _moment(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    from huskies.readers.times import parse_time

    try:
        return None if value is None else parse_time(value)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no time such as 2026-01-31T14:00:00Z.") from None


def _take_project(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    # The variable has been looked up before the subcommand's name, where `emit -C DIR` wins over it.
    if ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
        ctx.obj = value


def _project_option(command: _Command) -> _Command:
    return setting(
        "-C",
        "--project-dir",
        type=DIRECTORY,
        expose_value=False,
        callback=_take_project,
        help=_PROJECT_HELP,
    )(command)


def _name_option(command: _Command) -> _Command:
    # HUSKIES_NAME names a project, in the very environment in which its agents call this.
    return setting(
        "--story-name",
        "--name",
        "story_name",
        default="",
        help="The story's title; HUSKIES_NAME is the project's, and not used here.",
    )(command)


@click.group(
    "emit",
    short_help="Report what happened to a story.",
    epilog=examples(
        'huskies emit stage-transition 42_story_login current qa --name "Login page"',
        'huskies emit blocked 42_story_login "needs an API key"',
        'huskies emit merge-failure 42_story_login "conflict in src/main.rs"',
        "huskies emit rate-limit 42_story_login coder",
        "huskies emit rate-limit 42_story_login coder --reset-at 2026-01-31T14:00:00Z",
        'huskies emit -C ~/code/web-shop blocked 42_story_login "needs an API key"',
    ),
)
@setting("-C", "--project-dir", type=DIRECTORY, default=Path(), show_default=False, help=_PROJECT_HELP)
@click.pass_context
def command(ctx: click.Context, project_dir: Path) -> None:
    """Report what happened to a story; done once it is safely on disk.

    It is relayed when the project's sled runs, now or later. A stage may be given as 3_qa or qa.
    """
    ctx.obj = project_dir


@command.command(
    "stage-transition",
    short_help="STORY went from one stage to another.",
    epilog=examples("huskies emit stage-transition 42_story_login current qa --name Login"),
)
@click.argument("story")
@click.argument("from_stage", metavar="FROM", callback=_stage)
@click.argument("to_stage", metavar="TO", callback=_stage)
@_name_option
@_project_option
@click.pass_context
def stage_transition(
    ctx: click.Context,
    *,
    story: str,
    from_stage: str,
    to_stage: str,
    story_name: str,
) -> None:
    """Report that STORY went from one stage to another."""
    from huskies.events.model import StageTransition

    event = StageTransition(story_id=story, story_name=story_name, from_stage=from_stage, to_stage=to_stage)
    _report(ctx.obj, event)


@command.command(
    "blocked",
    short_help="STORY cannot go on without help.",
    epilog=examples("huskies emit blocked 42_story_login 'needs the API key'"),
)
@click.argument("story")
@click.argument("reason")
@_name_option
@_project_option
@click.pass_context
def blocked(ctx: click.Context, *, story: str, reason: str, story_name: str) -> None:
    """Report that STORY cannot go on without help."""
    from huskies.events.model import StoryBlocked

    _report(ctx.obj, StoryBlocked(story_id=story, story_name=story_name, reason=reason))


@command.command(
    "merge-failure",
    short_help="STORY could not be merged.",
    epilog=examples("huskies emit merge-failure 42_story_login 'conflict in src/main.rs'"),
)
@click.argument("story")
@click.argument("reason")
@_name_option
@_project_option
@click.pass_context
def merge_failure(ctx: click.Context, *, story: str, reason: str, story_name: str) -> None:
    """Report that STORY could not be merged."""
    from huskies.events.model import MergeFailure

    _report(ctx.obj, MergeFailure(story_id=story, story_name=story_name, reason=reason))


@command.command(
    "rate-limit",
    short_help="AGENT is close to its rate limit, or stopped.",
    epilog=examples(
        "huskies emit rate-limit 42_story_login coder",
        "huskies emit rate-limit 42_story_login coder --reset-at 2026-01-31T14:00:00Z",
    ),
)
@click.argument("story")
@click.argument("agent")
@setting("--reset-at", metavar="TIME", callback=_moment, help="The agent is stopped, until this time.")
@_name_option
@_project_option
@click.pass_context
def rate_limit(
    ctx: click.Context,
    *,
    story: str,
    agent: str,
    reset_at: datetime | None,
    story_name: str,
) -> None:
    """Report that AGENT, at work on STORY, is close to its rate limit, or stopped by it.

    Leaves the project only where its project.toml says `relay_rate_limits = true`.
    """
    from huskies.events.model import RateLimitHardBlock, RateLimitWarning

    event: StatusEvent = RateLimitWarning(story_id=story, story_name=story_name, agent_name=agent)
    if reset_at is not None:
        event = RateLimitHardBlock(story_id=story, story_name=story_name, agent_name=agent, reset_at=reset_at)
    _report(ctx.obj, event)


def _report(directory: Path, event: StatusEvent) -> None:
    """Put the event into the project's spool; returns once it is durable."""
    from huskies.config import find_project
    from huskies.errors import InvalidEventError
    from huskies.sled import spool
    from huskies.sled.layout import Layout

    layout = Layout(find_project(directory))
    try:
        spool.write(layout, event)
    except InvalidEventError as error:
        raise click.UsageError(f"This is not a valid event: {error.problem}") from None
