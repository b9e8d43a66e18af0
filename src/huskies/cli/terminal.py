"""What commands that draw a whole terminal share: needing one, and ending."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


def needed(what: str, instead: str) -> None:
    """Raises `click.UsageError` where stdout is no terminal that can be drawn on."""
    if not sys.stdout.isatty():
        raise click.UsageError(f"{what} draws on a terminal, and stdout is none; {instead}")
    if os.environ.get("TERM") == "dumb":
        raise click.UsageError(f"{what} draws on a terminal, and TERM=dumb says this one cannot; {instead}")


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is done here, and that is how it should end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return
