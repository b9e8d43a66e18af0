"""How much of each sequence the other gateways hold, as far as they have acknowledged it or said so."""

from __future__ import annotations

from collections import deque
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


class Sent:
    """What was sent on one connection and is not acknowledged: acks say what of it is held."""

    def __init__(self) -> None:
        # The ends of the runs in each frame.
        self._frames: deque[tuple[int, dict[Origin, int]]] = deque()
        # Of which a base was sent: what came behind it may be acknowledged and not held.
        self._behind_base: set[Origin] = set()

    def frame(self, frame: int, ends: dict[Origin, int]) -> None:
        """A frame was sent, and sequences go so far with it."""
        self._frames.append((frame, ends))

    def base(self, origin: Origin) -> None:
        """The sequence's beginning was said not to be retained."""
        self._behind_base.add(origin)

    def heard(self, origin: Origin) -> None:
        """The other gateway says how far it holds the sequence."""
        self._behind_base.discard(origin)

    def again(self, origin: Origin) -> None:
        """All of the sequence is sent again: what is on its way need not be held when it is acknowledged."""
        for _, ends in self._frames:
            ends.pop(origin, None)

    def acknowledged(self, frame: int) -> dict[Origin, int]:
        """How far sequences are held, now that everything up to this frame is acknowledged."""
        held: dict[Origin, int] = {}
        while self._frames and self._frames[0][0] <= frame:
            held.update(self._frames.popleft()[1])
        return {origin: seq for origin, seq in held.items() if origin not in self._behind_base}
