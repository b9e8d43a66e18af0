"""Whether what is printed on stdout has colours: on a terminal, unless NO_COLOR says otherwise."""

from __future__ import annotations

import os
import sys


def is_coloured() -> bool:
    """See https://no-color.org/; a terminal that calls itself dumb knows none."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
