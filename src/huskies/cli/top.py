"""`huskies top`: the board on a whole terminal."""

from __future__ import annotations

from typing import Final

import click

from huskies.cli.options import examples, reader_url_option

# The newest events that can be scrolled through.
_EVENTS_KEPT: Final = 500


@click.command(
    "top",
    short_help="Watch everything on a whole terminal.",
    epilog=examples(
        "huskies top",
        "huskies top --gateway-url http://gateway.example:3000",
        "NO_COLOR=1 huskies top                         without colours",
    ),
)
@reader_url_option
def command(gateway_url: str) -> None:
    """Fill the terminal with what needs attention, where everything stands, and what happens, live.

    Press ? for the keys; q or Ctrl-C ends it (exit status 0). Needs a terminal of 80 columns and 24 lines, or
    more. Where the gateway cannot be reached it says so, shows how things stood, and goes on by itself.
    """
    from huskies.cli import terminal

    terminal.needed("top", "take `huskies status` or `huskies tail`")
    with terminal.until_interrupted():
        from huskies.cli.full_screen.app import Top
        from huskies.cli.watch import Watch

        # The mouse stays the terminal's, so that text can be selected and copied.
        error = Top(Watch(gateway_url, kept=_EVENTS_KEPT), gateway_url).run(mouse=False)
        if error is not None:
            raise error
