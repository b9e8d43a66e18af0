"""`huskies`: finds the command, and turns every error into one line and an exit status."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from huskies.errors import EXIT_FAILURE, EXIT_USAGE, HuskiesError

EXIT_INTERRUPTED: Final = 130

# In the order in which a newcomer needs them; each is the `command` of the module of its name.
_COMMANDS: Final = (
    "up", "demo", "init", "project", "status", "top", "show", "tail", "emit", "gateway", "sled", "token",
    "sleds", "audit", "chat", "notifications", "verify", "backup", "restore", "completion",
)  # fmt: skip

_EPILOG: Final = f"""\
\b
See what it is:
  huskies demo                      made-up projects live through a day in four minutes

\b
See it work, in the directory of a project:
  huskies up                        a gateway and this project's sled; prints the dashboard's URL
  huskies status                    where everything stands, what needs you first
  huskies tail --since 2h           what happened, and what happens from now on
  huskies emit blocked 42_story_login "needs an API key"

\b
One gateway for many machines:
  huskies gateway --host 0.0.0.0    on the one
  huskies token make web-shop       there: a secret for that project's sled
  huskies sled --gateway-url http://gateway.example:3000
  huskies project new web-shop      a project with its sled, in a container on the gateway's machine

\b
Exit status:
  0    done; servers, `demo`, `tail`, `top`, `status --watch` also after Ctrl-C or SIGTERM
  {EXIT_FAILURE}    it failed: one line on stderr says why and what to do; or its output was cut off
  {EXIT_USAGE}    a flag, file, directory or port that cannot be used
  {EXIT_INTERRUPTED}  interrupted before it was done

Every flag has an environment variable, shown with it; a flag wins over the variable, and that over a file.
"""


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for: `huskies emit` must start quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the help text."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None where there is none of this name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"huskies.cli.{cmd_name}").command
        return command


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"huskies {version('huskies')}")
    except PackageNotFoundError:
        click.echo("huskies, run from a source tree that is not installed")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def cli() -> None:
    """Watch many coding-agent projects in one place: nothing lost, nothing doubled."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # Whatever an event's text holds, writing it must not fail on a terminal of another encoding.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        status = cli.main(list(arguments), prog_name="huskies", standalone_mode=False)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "huskies"
        problem = error.format_message().rstrip(".").replace("\n", " ")
        click.echo(f"huskies: {_printable(problem)}; see `{command} --help`", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except HuskiesError as error:
        from huskies.logs import redact

        click.echo(f"huskies: {_printable(redact(str(error)))}", err=True)
        return error.exit_status
    return status if isinstance(status, int) else 0


def _printable(text: str) -> str:
    from huskies.logs import printable

    return printable(text)


def main() -> NoReturn:
    """Be the process `huskies`."""
    sys.exit(run(sys.argv[1:]))
