"""How far a second gateway is behind, how fast it catches up, and what checksums and digests cost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from bench.driver import SledRun, connect_all, run_all
from bench.events import project_names
from bench.ingest import APPENDED, batches, ingest_rate, one_round
from bench.latency import HALF_OF_TARGET, add_percentiles, differences
from bench.processes import Gateway, gateway, until
from bench.reader import follow
from bench.report import Row
from bench.setting import Bench, median, pace, run, spread

_LIMIT: Final = 180.0
_SPARE: Final = 60.0
# Events a second of one sled that is watched among the load.
_PROBES: Final = 100.0
_PROBE: Final = "zz0"
_LAG_TARGET_MS: Final = 1_000.0
_CATCH_UP_TARGET: Final = 30.0
# A gateway that neither computes nor checks a checksum: what remains is what they cost.
_UNCHECKED: Final = """
import sys
import huskies.gateway.store.blocks as blocks
blocks.checksum = blocks.extend_digest = lambda *_: 0
from huskies.cli.main import main
sys.argv[0] = "huskies"
main()
"""


def measure_replication(bench: Bench) -> None:
    """Two gateways, one of which replicates from the other."""
    _measure_lag(bench, f"replication lag at {HALF_OF_TARGET:,} events/s", HALF_OF_TARGET)
    _measure_lag(bench, "replication lag at half of the ingest measured", ingest_rate(bench) / 2)
    _measure_catching_up(bench)
    _measure_checksums(bench)


def _measure_lag(bench: Bench, name: str, rate: float) -> None:
    each = max(1, int(rate * bench.sizes.paced_seconds / 100 / bench.sizes.sleds))
    runs = batches(bench, each)
    probes = max(10, int(_PROBES * bench.sizes.paced_seconds))
    with ExitStack() as stack:
        first = stack.enter_context(gateway(bench.directory("first")))
        second = stack.enter_context(gateway(bench.directory("second"), ["--peer", first.url]))
        limit = bench.sizes.paced_seconds + _SPARE
        seconds = run(_lags(first, second, runs, rate / 100, probes), limit)
        total = each * len(runs) * 100 + probes
        until(lambda: second.metric(APPENDED) >= total, "everything at the second gateway", _LIMIT, 0.02)
    note = f"{rate:,.0f} events/s at one gateway; from writing to it until a reader of the other has it"
    add_percentiles(bench, name, seconds, (None, _LAG_TARGET_MS), durable="yes, both", note=note)


async def _lags(
    first: Gateway, second: Gateway, runs: Sequence[SledRun], rate: float, probes: int
) -> list[float]:
    reader = await follow(second.url, probes, project=_PROBE)
    sleds = await connect_all(first.url, runs)
    (probe,) = await connect_all(first.url, [SledRun(project=_PROBE, frames=probes)])
    written: list[float] = []

    def send(number: int, due: float) -> None:
        written.append(time.perf_counter())
        probe.send_due(number, due)

    count = len(sleds)
    load = asyncio.to_thread(
        pace, rate, count * runs[0].frames, lambda n, due: sleds[n % count].send_due(n // count, due)
    )
    await asyncio.gather(load, asyncio.to_thread(pace, _PROBES, probes, send))
    await asyncio.gather(reader.finished, *(sled.done for sled in sleds))
    for sled in (*sleds, probe):
        sled.close()
    reader.transport.close()
    return differences(written, reader.times)


def _measure_catching_up(bench: Bench) -> None:
    total = bench.sizes.replicated
    names = project_names(bench.sizes.sleds)
    runs = [SledRun(project=name, frames=total // len(names) // 100, events=100, window=50) for name in names]
    total = sum(one.frames * one.events for one in runs)
    with ExitStack() as stack:
        first = stack.enter_context(gateway(bench.directory("first")))
        run(_fill(first, runs), _LIMIT)
        started = time.perf_counter()
        second = stack.enter_context(gateway(bench.directory("second"), ["--peer", first.url]))
        until(lambda: second.metric(APPENDED) >= total, "everything at the second gateway", _LIMIT, 0.02)
        seconds = time.perf_counter() - started
    bench.table.add(
        Row(
            what=f"a new gateway catches up with {total:,} events",
            value=seconds,
            unit="s",
            target=_CATCH_UP_TARGET,
            durable="yes",
            note=f"its start included; {total / seconds:,.0f} events/s",
        )
    )


async def _fill(server: Gateway, runs: Sequence[SledRun]) -> None:
    sleds = await connect_all(server.url, runs)
    await run_all(sleds)
    for sled in sleds:
        sled.close()


def _measure_checksums(bench: Bench) -> None:
    runs = batches(bench, bench.sizes.batch_frames)
    checked: list[float] = []
    unchecked: list[float] = []
    # In turn, so that what else the machine does meets both.
    for _ in range(bench.sizes.rounds):
        checked.append(one_round(bench, runs, None)[0])
        unchecked.append(one_round(bench, runs, None, [sys.executable, "-c", _UNCHECKED])[0])
    bench.table.add(
        Row(
            what="checksums and digests, of ingest",
            value=100 * (1 - median(checked) / median(unchecked)),
            unit="%",
            target=10.0,
            durable="yes",
            note=f"{median(checked):,.0f} with and {median(unchecked):,.0f} without them, "
            f"{spread(checked)} and {spread(unchecked)}",
        )
    )
