from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from huskies.durations import is_duration, parse_duration
from huskies.readers import times
from huskies.readers.fleet import Received
from huskies.readers.happening import describe

NOW = datetime(2026, 1, 31, 14, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1_000)


@pytest.fixture(autouse=True)
def _two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        pytest.skip("this platform's local time cannot be set for one process")
    monkeypatch.setenv("TZ", "EAST-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("45s", 45), ("30m", 1_800), ("2h", 7_200), (" 2 H ", 7_200), ("7d", 604_800), ("1w", 604_800)],
)
def test_a_duration_is_counted_back_from_now(text: str, seconds_ago: int) -> None:
    assert times.parse_since(text, NOW) == NOW_MS - seconds_ago * 1_000


def test_a_duration_is_read_in_milliseconds() -> None:
    assert [parse_duration(text) for text in ("0s", "45s", "90m", "7d", "4w")] == [
        0, 45_000, 5_400_000, 604_800_000, 2_419_200_000,
    ]  # fmt: skip
    for text in ("", "7", "7 days", "-7d", "1.5h", "\u0661d", "9999999999s"):
        assert not is_duration(text)
        with pytest.raises(ValueError, match="no duration"):
            parse_duration(text)


@pytest.mark.parametrize(
    "text", ["2026-01-31T14:00:00Z", "2026-01-31T15:00+01:00", "2026-01-31T16:00", "2026-01-31 16:00"]
)
def test_a_time_without_a_zone_is_local(text: str) -> None:
    assert times.parse_since(text, NOW) == NOW_MS


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2y", "yesterday"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="isoformat"):
        times.parse_since(text, NOW)


def test_a_duration_longer_than_the_calendar_is_refused() -> None:
    with pytest.raises(OverflowError):
        times.parse_since("999999w", NOW)


@pytest.mark.parametrize(
    ("unix_ms", "shown"),
    [
        (NOW_MS, "16:00:00"),
        (NOW_MS - 86_400_000, "2026-01-30 16:00:00"),
        (8_640_000_000_000_000, "8640000000000000 ms"),
    ],
)
def test_a_time_is_shown_in_local_time(unix_ms: int, shown: str) -> None:
    assert times.local_time(unix_ms, NOW) == shown


def test_tail_shows_every_time_of_an_event_in_local_time() -> None:
    event = {
        "type": "rate_limit_hard_block",
        "story_id": "1_bug_x",
        "agent_name": "coder",
        "reset_at": "2026-01-31T14:30:00Z",
        "timestamp_ms": NOW_MS,
    }
    line = describe(Received("web-shop", event), NOW)
    assert line == "16:00:00  web-shop  1_bug_x  coder is rate limited until 16:30:00"


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(-5, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (3_600_000, "1 h"), (90_000_000, "1 d")],
)
def test_a_duration_is_shown_as_one_number(ms: int, shown: str) -> None:
    assert times.duration(ms) == shown
