"""Quiet hours: a part of each day, by the clocks of a time zone. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

import msgspec

QUIET_RULE: Final = "expected quiet hours such as 22:00-07:00"
_HOURS: Final = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


class Quiet(msgspec.Struct, frozen=True):
    """From `start` until before `end`, each day, over midnight where the end is the earlier of the two."""

    start: time
    end: time
    zone: tzinfo

    def ends_ms(self, at_ms: int) -> int | None:
        """When (Unix ms) the quiet hours end in which this moment lies; None where it lies in none.

        Clocks that are put forward over the end of the quiet hours end them; clocks that are put back into
        them begin them anew.
        """
        moment = datetime.fromtimestamp(at_ms / 1_000, UTC)
        if not self._covers(moment):
            return None
        local = moment.astimezone(self.zone)
        day = local.date() if local.time() < self.end else local.date() + _DAY
        ends = [
            datetime.combine(day, self.end, self.zone).replace(fold=fold).astimezone(UTC) for fold in (0, 1)
        ]
        # An hour that comes twice ends them twice; of one that never comes the clock says no such time.
        end = min((one for one in ends if one > moment), default=max(ends) + _DAY)
        while end - _MINUTE > moment and not self._covers(end - _MINUTE):
            end -= _MINUTE
        return int(end.timestamp() * 1_000)

    def _covers(self, moment: datetime) -> bool:
        now = moment.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


def parse_quiet(text: str, zone: tzinfo) -> Quiet:
    """Quiet hours from `22:00-07:00`; raises `ValueError` with the rule."""
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError(f"{QUIET_RULE}; got {text!r}")
    try:
        start, end = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
    except ValueError:
        raise ValueError(f"{QUIET_RULE}; got {text!r}") from None
    if start == end:
        raise ValueError(f"{QUIET_RULE}, with an end that is not the start; got {text!r}")
    return Quiet(start, end, zone)
