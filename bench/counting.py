"""Counts a marker in bytes that arrive in pieces."""

from __future__ import annotations

STATUS = b"\nevent: status"
OPENED = b"id: "


class MarkerCount:
    """How often a marker came so far, whatever the pieces were."""

    def __init__(self, marker: bytes) -> None:
        self._marker = marker
        self._tail = b""
        self.count = 0

    def feed(self, data: bytes) -> int:
        """How often it came with this piece."""
        data = self._tail + data
        found = data.count(self._marker)
        keep = len(self._marker) - 1
        self._tail = data[-keep:] if keep else b""
        self.count += found
        return found
