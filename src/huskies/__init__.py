"""Huskies: one place to watch many coding-agent projects.

The names below are the public Python API; everything else may change in any release.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from huskies.config import SledSettings
    from huskies.errors import ConfigError, HuskiesError, InvalidEventError, StoreError
    from huskies.events.model import (
        MergeFailure,
        RateLimitHardBlock,
        RateLimitWarning,
        StageTransition,
        StoryBlocked,
    )
    from huskies.sled.broadcast import Missed, Receipt, StatusBroadcaster, Subscription
    from huskies.sled.service import Sled

__version__: Final = "0.1.0"

__all__ = [
    "ConfigError",
    "HuskiesError",
    "InvalidEventError",
    "MergeFailure",
    "Missed",
    "RateLimitHardBlock",
    "RateLimitWarning",
    "Receipt",
    "Sled",
    "SledSettings",
    "StageTransition",
    "StatusBroadcaster",
    "StoreError",
    "StoryBlocked",
    "Subscription",
    "__version__",
]

_HOMES: Final = {
    "huskies.config": ("SledSettings",),
    "huskies.errors": ("ConfigError", "HuskiesError", "InvalidEventError", "StoreError"),
    "huskies.events.model": (
        "MergeFailure",
        "RateLimitHardBlock",
        "RateLimitWarning",
        "StageTransition",
        "StoryBlocked",
    ),
    "huskies.sled.broadcast": ("Missed", "Receipt", "StatusBroadcaster", "Subscription"),
    "huskies.sled.service": ("Sled",),
}


def __getattr__(name: str) -> object:
    # Imported when first used: `huskies emit`, which hooks call, must not pay for a server's imports.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
