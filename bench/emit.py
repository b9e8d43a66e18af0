"""What `huskies emit` takes, as a whole process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from bench.processes import huskies_command
from bench.report import Row, percentile
from bench.setting import Bench


def measure_emit(bench: Bench) -> None:
    project_dir = bench.directory("emit")
    (project_dir / ".huskies").mkdir(parents=True)
    arguments = ["emit", "-C", str(project_dir), "stage-transition", "42_story_login", "current", "qa"]
    emit = _times([*huskies_command(), *arguments], bench.sizes.emits)
    floor = _times([sys.executable, "-c", "pass"], bench.sizes.emits)
    bench.table.add(
        Row(
            what="`huskies emit`, whole process, p50",
            value=percentile(emit, 50) * 1_000,
            unit="ms",
            target=150,
            durable="yes",
            note=f"{len(emit)} runs, slowest {max(emit) * 1_000:.0f} ms",
        )
    )
    bench.table.add(Row(what="  `python -c pass`, p50", value=percentile(floor, 50) * 1_000, unit="ms"))


def _times(command: Sequence[str], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
        times.append(time.perf_counter() - started)
    return times
