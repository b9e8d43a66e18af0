"""What a terminal is told while something takes long; only on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def bars() -> Iterator[Progress | None]:
    """Bars that are gone afterwards; None where nobody would see them."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield progress


@contextmanager
def busy(title: str) -> Iterator[None]:
    """Say that this is being done, where no one knows how long it takes."""
    with bars() as progress:
        if progress is not None:
            from rich.markup import escape

            from huskies.logs import printable

            progress.add_task(escape(printable(title)), total=None)
        yield
