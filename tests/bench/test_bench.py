"""The bench runs, at sizes at which its figures mean nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench.counting import MarkerCount
from bench.events import EVENT_BYTES, event_json, frame_tails, project_names
from bench.report import Row, Table, percentile
from tests.support.groups import INTERFACES

ROOT = Path(__file__).parents[2]


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "--quick", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


# In parts: on a busy machine all of it takes longer than a test may.
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("ingest", "acks", "publish"), ("one reader of everything", "StatusBroadcaster.publish")),
        (("idle", "replication", "log"), ("catches up", "history of one story")),
        (("counts", "telling", "emit"), ("counting 2,000 events", "webhook received", "emit")),
    ],
)
def test_measures_at_tiny_sizes_and_prints_one_table(names: tuple[str, ...], shown: tuple[str, ...]) -> None:
    done = run_bench("--markdown", *(word for name in names for word in ("--only", name)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| measurement | reached | target |") == 1
    for what in shown:
        assert what in done.stdout


@INTERFACES
@pytest.mark.skipif(
    not shutil.which("chromium"), reason="chromium is not installed: `make needs` installs it"
)
def test_measures_the_dashboard_at_tiny_sizes() -> None:
    done = run_bench("--only", "dashboard")
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("5 projects, 50 stories: interactive", "its scripts", "visible, p95", "frame, longest"):
        assert what in done.stdout


def test_an_unknown_measurement_is_a_usage_error() -> None:
    done = run_bench("--only", "nothing")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


def test_events_have_the_size_that_peers_are_measured_with() -> None:
    assert {len(event_json(story, project)) for story in (0, 9_999) for project in project_names(100)} == {
        EVENT_BYTES
    }


def test_frames_go_round_all_stories() -> None:
    tails = frame_tails("p00", 10, 4)
    stories = [part.split(b"_story")[0] for tail in tails for part in tail.split(b'"story_id":"')[1:]]
    assert [int(story) for story in stories] == [*range(10), 0, 1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_marker_is_counted_whatever_the_pieces_are(size: int) -> None:
    data = b"id: x\nevent: status\ndata\n\nevent: statu\nevent: status\n"
    count = MarkerCount(b"\nevent: status")
    for start in range(0, len(data), size):
        count.feed(data[start : start + size])
    assert count.count == 2


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([3.0], 99)) == (50.0, 99.0, 3.0)


def test_a_missed_target_is_said() -> None:
    table = Table()
    table.add(Row(what="rate", value=50, unit="events/s", target=100, more_is_better=True))
    table.add(Row(what="time", value=5, unit="ms", target=10))
    rate, time = table.plain().splitlines()[2:4]
    assert "MISSED" in rate
    assert "0.50x target" in rate
    assert "met" in time.split()
