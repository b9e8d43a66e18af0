"""Ports of a test's own, to be given back and taken again: nobody else is given one meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved() -> Iterator[int]:
    """A port that nobody gets by chance, and whoever asks for it by its number does."""
    with socket.socket() as kept:
        # Bound, not listening: the kernel picks it for nobody else, and lets those bind it who set the same.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])
