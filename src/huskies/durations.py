"""Lengths of time as people write them: `45s`, `30m`, `2h`, `7d`, `1w`."""

from __future__ import annotations

import re
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
