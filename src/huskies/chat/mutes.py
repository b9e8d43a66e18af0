"""What the bot needs of whoever keeps which projects are muted."""

from __future__ import annotations

from typing import Final, Protocol

from huskies.limits import TIMESTAMP_MS_MAX

# Until someone says otherwise.
FOR_EVER_MS: Final = TIMESTAMP_MS_MAX


class Mutes(Protocol):
    """Which projects nobody is notified of; durable when a method returns."""

    async def mute(self, project: str, until_ms: int) -> None:
        """No notifications of the project until then (Unix ms)."""

    async def unmute(self, project: str) -> bool:
        """Notifications again; whether it was muted."""

    async def muted(self) -> dict[str, int]:
        """The projects that are muted now, and until when (Unix ms)."""
