"""What a screen that stays up to date shows: the fleet, the newest events, whether that is so now. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from huskies.readers.fleet import Fleet, ProjectView, Received


class Picture:
    """Told what happens in the order in which it is noticed; times are Unix ms.

    Two sources tell of the fleet: a stream of events, and answers that are asked for now and then (an event
    says nothing of sleds that come and go). An answer that was asked for before an event came may not know of
    it: what came meanwhile is taken once more, which changes nothing where the answer knew of it.
    """

    def __init__(
        self, views: Sequence[ProjectView], newest: Sequence[Received], now_ms: int, *, kept: int
    ) -> None:
        self._fleet = Fleet()
        self._fleet.replace(views)
        self._meanwhile: list[Received] | None = None
        self._heard_ms = now_ms
        self._cut: str | None = None
        self._unanswered: str | None = None
        self.newest: deque[Received] = deque(newest, maxlen=kept)
        self.remarks: deque[str] = deque(maxlen=3)

    @property
    def problem(self) -> str | None:
        """Why what is shown may not be so any more; None: it is so now."""
        return self._cut or self._unanswered

    @property
    def as_of_ms(self) -> int:
        """When the gateway was last heard of, which is as of when all is so."""
        return self._heard_ms

    @property
    def newest_ms(self) -> int | None:
        """When the gateway received the newest event that is known here."""
        return self.newest[0].received_ms if self.newest else None

    def views(self) -> list[ProjectView]:
        """Every project, by name."""
        return self._fleet.views()

    def happened(self, received: Received, now_ms: int) -> None:
        """Take an event of the stream."""
        self._heard_ms = now_ms
        self._fleet.take(received)
        self.newest.appendleft(received)
        if self._meanwhile is not None:
            self._meanwhile.append(received)

    def asked(self) -> None:
        """The gateway is being asked how all stands."""
        self._meanwhile = []

    def answered(self, views: Sequence[ProjectView], now_ms: int) -> None:
        """That is what it says."""
        self._fleet.replace(views)
        for received in self._meanwhile or ():
            self._fleet.take(received)
        self._meanwhile = None
        self._unanswered = None
        if self._cut is None:
            self._heard_ms = now_ms

    def unanswered(self, problem: str) -> None:
        """It said nothing, or nothing of use."""
        self._meanwhile = None
        self._unanswered = problem

    def disconnected(self, problem: str) -> None:
        """The stream broke off."""
        self._cut = problem

    def connected(self, now_ms: int) -> None:
        """The stream goes on where it broke off."""
        self._cut = None
        self._heard_ms = now_ms

    def remarked(self, text: str) -> None:
        """Something about the stream that must not be missed, such as a gap."""
        self.remarks.append(text)
