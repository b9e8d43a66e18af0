"""Which of several gateways a sled tries next, after how long, and when it returns to an earlier one. Pure.

The gateways stand in order of preference, and are tried in rounds, from the first to the last. Within a round
the first delay of SPEC 3 lies between two attempts; between two rounds lies the delay that doubles, so that
with a single gateway, where each attempt is a round, this is SPEC 3 to the letter.
"""

from __future__ import annotations

from enum import Enum, auto

from huskies import limits
from huskies.protocol.backoff import Backoff, first_delay, jittered


class Outcome(Enum):
    """What came of an attempt to relay."""

    # No session, or one that another sled with the same identity took over.
    FAILED = auto()
    # Accepted, so the delays start over; but it ended without taking anything: the next one's turn.
    FRUITLESS = auto()
    # Accepted, and what was sent was taken: when it ends, the first gateway is tried again.
    FRUITFUL = auto()


class Failover:
    """The order of `count` gateways, named by their place in it.

    `now` is monotonic seconds, `chance` drawn evenly from [0, 1).
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._rounds = Backoff()
        self._returning_to: int | None = None
        self._returned = False
        # Returns in a row that came to nothing, and when the next one may be made at the earliest.
        self._vain = [0] * count
        self._not_before = [0.0] * count
        self.current = 0

    @property
    def is_returning(self) -> bool:
        """Whether the present session is being left for an earlier gateway."""
        return self._returning_to is not None

    def ended(self, outcome: Outcome, now: float, chance: float) -> float:
        """An attempt at `current` is over; moves on, and says how many seconds to wait before the next."""
        self._judge_return(outcome, now)
        if outcome is not Outcome.FAILED:
            self._rounds.succeeded()
        if self._returning_to is not None:
            self.current, self._returning_to = self._returning_to, None
            self._returned = True
            return 0.0
        if outcome is Outcome.FRUITFUL:
            self.current = 0
            return self._rounds.next_delay(chance)
        self.current = (self.current + 1) % self._count
        return self._rounds.next_delay(chance) if self.current == 0 else first_delay(chance)

    def probe_delay(self, chance: float) -> float:
        """Seconds until the earlier gateways are looked at."""
        return jittered(limits.RETURN_INTERVAL, chance)

    def worth_returning_to(self, now: float) -> list[int]:
        """The gateways before `current` that may be returned to if they answer, best first."""
        return [earlier for earlier in range(self.current) if now >= self._not_before[earlier]]

    def will_return(self, gateway: int) -> None:
        """This earlier gateway answers: it is tried as soon as the present session has ended."""
        self._returning_to = gateway

    def _judge_return(self, outcome: Outcome, now: float) -> None:
        """A gateway that says it is ready and then takes nothing is returned to less and less often."""
        here = self.current
        if outcome is Outcome.FRUITFUL:
            self._vain[here] = 0
            self._not_before[here] = 0.0
        elif self._returned:
            self._vain[here] += 1
            # 2**32 intervals are far beyond the longest; the bound keeps the power small.
            wait = limits.RETURN_INTERVAL * 2.0 ** min(self._vain[here], 32)
            self._not_before[here] = now + min(wait, limits.RETURN_INTERVAL_MAX)
        self._returned = False
