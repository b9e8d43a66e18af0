from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies.notify.quiet import Quiet, parse_quiet

BERLIN = ZoneInfo("Europe/Berlin")
# Half an hour of daylight saving, and a zone that is a quarter off.
ZONES = [
    BERLIN,
    ZoneInfo("Australia/Lord_Howe"),
    ZoneInfo("Asia/Kathmandu"),
    ZoneInfo("America/Sao_Paulo"),
    UTC,
]
minutes = st.integers(0, 1_439)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


def ends(text: str, hours: str = "22:00-07:00") -> str | None:
    found = parse_quiet(hours, BERLIN).ends_ms(ms(text))
    return None if found is None else datetime.fromtimestamp(found / 1_000, UTC).strftime("%d %H:%M")


def test_over_midnight() -> None:
    assert ends("2026-01-15T21:59:00+01:00") is None
    assert ends("2026-01-15T22:00:00+01:00") == "16 06:00"
    assert ends("2026-01-16T06:59:59+01:00") == "16 06:00"
    assert ends("2026-01-16T07:00:00+01:00") is None


def test_within_a_day() -> None:
    assert ends("2026-01-15T12:30:00+01:00", "12:00-13:00") == "15 12:00"
    assert ends("2026-01-15T13:00:00+01:00", "12:00-13:00") is None


def test_a_night_in_which_clocks_change() -> None:
    # 29 March: 02:00 becomes 03:00. 25 October: 03:00 becomes 02:00.
    assert ends("2026-03-28T23:00:00+01:00") == "29 05:00"
    assert ends("2026-10-24T23:00:00+02:00") == "25 06:00"


def test_an_end_that_no_clock_shows() -> None:
    assert ends("2026-03-29T01:30:00+01:00", "22:00-02:30") == "29 01:00"


def test_an_end_that_clocks_show_twice() -> None:
    hours = "22:00-02:30"
    assert ends("2026-10-25T01:00:00+02:00", hours) == "25 00:30"
    # Back in it for half an hour.
    assert ends("2026-10-25T02:10:00+01:00", hours) == "25 01:30"


@given(
    st.integers(ms("2026-01-01T00:00:00+00:00"), ms("2027-01-01T00:00:00+00:00")),
    minutes,
    minutes,
    st.sampled_from(ZONES),
)
def test_it_ends_at_the_first_moment_that_is_not_quiet(
    at_ms: int, start: int, end: int, zone: ZoneInfo
) -> None:
    if start == end:
        return
    quiet = Quiet(time(*divmod(start, 60)), time(*divmod(end, 60)), zone)
    found = quiet.ends_ms(at_ms)
    if found is None:
        return
    assert at_ms < found <= at_ms + 26 * 3_600_000
    assert quiet.ends_ms(found) is None
    # Whoever is told to wait is told the same all the while.
    assert quiet.ends_ms(found - 1) == found
    assert quiet.ends_ms((at_ms + found) // 2) == found


@given(st.integers(0, 527_040), st.sampled_from(ZONES))
def test_no_quiet_hours_cover_what_the_clock_says_is_outside(minute: int, zone: ZoneInfo) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    local = moment.astimezone(zone).time()
    quiet = Quiet(time(22), time(7), zone)
    assert (quiet.ends_ms(int(moment.timestamp() * 1_000)) is not None) == (
        local >= time(22) or local < time(7)
    )


@pytest.mark.parametrize("text", ["", "22-7", "22:00", "25:00-07:00", "22:00-07:60", "07:00-07:00"])
def test_what_is_no_quiet_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected quiet hours such as 22:00-07:00"):
        parse_quiet(text, UTC)
