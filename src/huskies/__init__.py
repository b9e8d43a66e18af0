"""Huskies: one place to watch many coding-agent projects."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
