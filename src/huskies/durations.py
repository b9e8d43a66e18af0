"""Lengths of time as people write them (`45s`, `30m`, `2h`, `7d`, `1w`) and read them. Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_DURATION: Final = re.compile(r"\s*([0-9]{1,9})\s*([smhdw])\s*", re.IGNORECASE)


def is_duration(text: str) -> bool:
    """Whether `parse_duration` understands the text."""
    return _DURATION.fullmatch(text) is not None


def parse_duration(text: str) -> int:
    """Milliseconds; raises `ValueError`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"no duration such as 30m, 2h or 7d: {text!r}")
    return int(match[1]) * _UNITS_MS[match[2].lower()]


_SHOWN: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def exact_duration(ms: int) -> str:
    """Say `2 h 5 min`: the two largest units that there are."""
    seconds = max(0, ms // 1_000)
    for (size, unit), (smaller, smaller_unit) in pairwise(_SHOWN):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{seconds} s"


def duration(ms: int) -> str:
    """Say `12 s`, `5 min`, `3 h` or `4 d`: one number is enough to see how urgent it is."""
    seconds = max(0, ms // 1_000)
    for size, unit in _SHOWN[:-1]:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
