"""Times as people write and read them: durations, points in time, local clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from huskies.durations import duration, exact_duration, is_duration, parse_duration

__all__ = ["duration", "exact_duration", "local_time", "now_ms", "parse_since", "parse_time"]


def now_ms() -> int:
    """Unix milliseconds."""
    return int(datetime.now(UTC).timestamp() * 1_000)


def parse_time(text: str) -> datetime:
    """A point in time from ISO 8601, taken as local where it names no zone; raises `ValueError`."""
    return datetime.fromisoformat(text.strip()).astimezone(UTC)


def parse_since(text: str, now: datetime) -> int:
    """Unix milliseconds of `2h` (s, m, h, d, w) before `now`, or of a point in time; raises `ValueError`."""
    ago_ms = parse_duration(text) if is_duration(text) else None
    moment = parse_time(text) if ago_ms is None else now - timedelta(milliseconds=ago_ms)
    return max(0, int(moment.timestamp() * 1_000))


def local_time(unix_ms: int, now: datetime) -> str:
    """The local time of day, with the date where it is not today's; `now` has a zone."""
    try:
        moment = datetime.fromtimestamp(unix_ms / 1_000, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        # An event's time may lie further out than this platform's calendar reaches.
        return f"{unix_ms} ms"
    today = moment.date() == now.astimezone().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
