"""How much of each sequence the other gateways hold, as far as they have acknowledged it or said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from huskies.protocol.vectors import Origin


class Holders:
    """What each other gateway holds; what it once held it is taken to hold while it is away.

    `listeners` are called with the sequences of which some gateway was found to hold more.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[Origin, int]] = {}
        self.listeners: list[Callable[[Mapping[Origin, int]], None]] = []

    def connected(self, gateway_id: str) -> None:
        """It is about to say what it holds: what was known of it before may not be so any more."""
        self._held[gateway_id] = {}

    def note(self, gateway_id: str, held: Mapping[Origin, int]) -> None:
        """It holds these sequences so far, durably."""
        known = self._held.setdefault(gateway_id, {})
        news = {origin: seq for origin, seq in held.items() if seq > known.get(origin, 0)}
        known.update(news)
        if news:
            for listener in self.listeners:
                listener(news)

    def seq(self, origin: Origin, own: int, copies: int) -> int:
        """The newest seq that at least so many gateways hold, this one with `own` among them."""
        held = sorted([own, *(known.get(origin, 0) for known in self._held.values())], reverse=True)
        return held[copies - 1] if len(held) >= copies else 0
