"""Something done at an exact moment: when the proxy sees the n-th frame of a kind."""

from __future__ import annotations

import threading
from collections.abc import Callable

from faults.proxy import Proxy, Seen


class Trigger:
    """Calls `act` at the n-th frame of `kind`; from then on frames of that kind are withheld.

    What `act` does happens before that frame is passed on or withheld.
    """

    def __init__(
        self,
        proxy: Proxy,
        kind: str,
        number: int,
        act: Callable[[Seen], None],
        *,
        withhold: bool,
        matches: Callable[[Seen], bool] = lambda _: True,
    ) -> None:
        self._proxy = proxy
        self._kind = kind
        self._left = number
        self._act = act
        self._withhold = withhold
        self._matches = matches
        self._sprung = threading.Event()
        proxy.watch = self._on_frame

    def sprung(self, patience: float = 120.0) -> None:
        """Wait for it; what it withheld is let through again only for later connections."""
        assert self._sprung.wait(patience), f"no {self._kind} frame was seen in {patience:.0f} s"
        self._proxy.watch = None

    def _on_frame(self, seen: Seen) -> bool:
        if seen.kind != self._kind or not self._matches(seen):
            return True
        self._left -= 1
        if self._left == 0:
            self._act(seen)
            self._sprung.set()
        return self._left > 0 or not self._withhold
