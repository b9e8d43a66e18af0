"""`huskies completion`: what makes a shell complete commands, flags, projects and stories."""

from __future__ import annotations

import click

from huskies.cli.options import examples

_VARIABLE = "_HUSKIES_COMPLETE"


@click.command(
    "completion",
    short_help="Let Tab complete commands in a shell.",
    epilog=examples(
        "huskies completion bash > ~/.local/share/bash-completion/completions/huskies",
        "huskies completion zsh > ~/.zfunc/_huskies         a directory in $fpath",
        "huskies completion fish > ~/.config/fish/completions/huskies.fish",
        'eval "$(huskies completion bash)"                  in this shell alone',
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that makes SHELL complete `huskies` with Tab.

    Names of projects and stories are completed, too, where the gateway of --gateway-url answers at once.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from huskies.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - narrows the type; click has each of the choices
    # Not the method of bash's own class, which starts a bash only to see how old it is.
    click.echo(ShellComplete.source(kind(cli, {}, "huskies", _VARIABLE)))
