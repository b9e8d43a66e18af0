"""How long an ack takes under load, and how long an event takes from its publisher to a reader."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.driver import SledRun, connect_all
from bench.events import project_names
from bench.ingest import batches, ingest_rate
from bench.processes import gateway, running, subscriber
from bench.reader import follow
from bench.report import Row, percentile
from bench.setting import Bench, pace, run

RATE: Final = 1_000.0
_SPARE: Final = 60.0


def add_percentiles(
    bench: Bench,
    what: str,
    seconds: Sequence[float],
    targets: tuple[float | None, float | None],
    *,
    durable: str,
    note: str = "",
) -> None:
    """Two rows, p50 and p99, in ms."""
    for percent, target in zip((50, 99), targets, strict=True):
        value = percentile(seconds, percent) * 1_000
        row = Row(what=f"{what}, p{percent}", value=value, unit="ms", target=target, durable=durable)
        row.note = note if percent == 50 else ""
        bench.table.add(row)


# Half of the ingest that the gateway is meant to take at least, whatever it takes here.
HALF_OF_TARGET = 125_000


def measure_acks(bench: Bench) -> None:
    """Frames on a fixed schedule, at half of what the gateway is meant to take and of what it takes."""
    measured = ingest_rate(bench) / 2
    _measure_acks(bench, f"ack at {HALF_OF_TARGET:,} events/s", min(HALF_OF_TARGET, measured))
    _measure_acks(bench, "ack at half of the ingest measured", measured)


def _measure_acks(bench: Bench, name: str, rate: float) -> None:
    """From when each frame was due until its ack."""
    each = max(1, int(rate * bench.sizes.paced_seconds / 100 / bench.sizes.sleds))
    runs = batches(bench, each)
    frames = each * len(runs)
    with (
        gateway(bench.directory("acks")) as server,
        subscriber(server.url, each * 100, "p00", bench.directory("subscriber")) as finished,
    ):
        seconds = run(_paced_acks(server.url, runs, rate / 100), bench.sizes.paced_seconds + _SPARE)
        finished()
    note = f"{frames:,} frames of 100, {rate:,.0f} events/s, from when a frame was due"
    add_percentiles(bench, name, seconds, (None, 50.0), durable="yes", note=note)


async def _paced_acks(url: str, runs: Sequence[SledRun], rate: float) -> list[float]:
    sleds = await connect_all(url, runs)
    count = len(sleds)
    await asyncio.to_thread(
        pace, rate, count * runs[0].frames, lambda n, due: sleds[n % count].send_due(n // count, due)
    )
    await asyncio.gather(*(sled.done for sled in sleds))
    for sled in sleds:
        sled.close()
    return [seconds for sled in sleds for seconds in sled.latencies]


def measure_publish(bench: Bench) -> None:
    """From a publisher to a reader of the event stream."""
    count = max(10, int(RATE * bench.sizes.paced_seconds))
    limit = bench.sizes.paced_seconds + _SPARE
    note = f"{RATE:,.0f} events/s for {bench.sizes.paced_seconds:g} s"
    with gateway(bench.directory("publish")) as server:
        seconds = run(_relayed(server.url, count), limit)
    what = "frame written → reader at 1,000 events/s"
    add_percentiles(bench, what, seconds, (0.7, 2.0), durable="yes", note=note)
    project_dir = bench.directory("publisher")
    (project_dir / ".huskies").mkdir(parents=True)
    with gateway(bench.directory("publish")) as server:
        seconds = run(_published(server.url, project_dir, count), limit)
    what = "StatusBroadcaster.publish → reader at 1,000 events/s"
    note += "; in a real sled: its fsync, then the gateway's"
    add_percentiles(bench, what, seconds, (None, None), durable="yes, both", note=note)


async def _relayed(url: str, count: int) -> list[float]:
    reader = await follow(url, count)
    (sled,) = await connect_all(url, [SledRun(project=project_names(1)[0], frames=count)])
    written: list[float] = []

    def send(number: int, due: float) -> None:
        written.append(time.perf_counter())
        sled.send_due(number, due)

    await asyncio.to_thread(pace, RATE, count, send)
    await reader.finished
    sled.close()
    reader.transport.close()
    return differences(written, reader.times)


async def _published(url: str, project_dir: Path, count: int) -> list[float]:
    # One event more: the publisher's first shows that its sled is connected.
    reader = await follow(url, count + 1)
    command = [sys.executable, "-m", "bench.publisher", str(project_dir), url, str(RATE), str(count)]
    with running(command, project_dir.with_name(project_dir.name + "-output")) as publisher:
        await asyncio.to_thread(publisher.find, "connected")
        while not reader.times:  # noqa: ASYNC110 - filled by a transport
            await asyncio.sleep(0.01)
        publisher.tell("go")
        await reader.finished
        reader.transport.close()
        published: list[float] = json.loads((await asyncio.to_thread(publisher.find, r"\[.*\]\n"))[0])
    return differences(published, reader.times[1:])


def differences(earlier: Sequence[float], later: Sequence[float]) -> list[float]:
    """How long each took, from when it was sent and when it came."""
    return [after - before for before, after in zip(earlier, later, strict=True)]
