"""How much one sled that sends as much as it can slows the others."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from typing import Final

from bench.driver import SledRun, connect_all
from bench.events import project_names
from bench.flood import KINDS
from bench.processes import gateway, running
from bench.report import Row, percentile
from bench.setting import Bench, pace, run

_SLEDS: Final = 50
_RATE: Final = 1_000.0
_SPARE: Final = 60.0
# What the others wait for their acks may grow by less than this.
_MOST: Final = 2.0


def measure_hostile(bench: Bench) -> None:
    """Fifty sleds with a thousand events a second between them; then the same beside each kind of flood."""
    alone = _measured(bench, None)
    what = f"ack of {_SLEDS} sleds at {_RATE:,.0f} events/s"
    for percent in (50, 99):
        value = percentile(alone, percent) * 1_000
        bench.table.add(Row(what=f"{what}, p{percent}", value=value, unit="ms", durable="yes"))
    for kind in KINDS:
        beside = _measured(bench, kind)
        value = percentile(beside, 99) * 1_000
        times = value / 1_000 / percentile(alone, 99)
        bench.table.add(
            Row(
                what=f"  beside one that floods it with {kind}, p99",
                value=value,
                unit="ms",
                target=_MOST * percentile(alone, 99) * 1_000,
                ratio=f"{times:.2f}x alone",
                durable="yes",
                note=f"p50 {percentile(beside, 50) * 1_000:.2f} ms",
            )
        )


def _measured(bench: Bench, kind: str | None) -> list[float]:
    """From when each event was due until its ack."""
    seconds = bench.sizes.paced_seconds
    with ExitStack() as stack:
        quota = ["--project-quota", "none"]
        server = stack.enter_context(gateway(bench.directory("hostile"), quota))
        if kind is not None:
            command = [sys.executable, "-m", "bench.flood", server.url, kind, str(seconds + _SPARE)]
            stack.enter_context(running(command, bench.directory("flood"))).find("flooding")
        return run(_paced(server.url, int(_RATE * seconds / _SLEDS)), seconds + _SPARE)


async def _paced(url: str, frames: int) -> list[float]:
    sleds = await connect_all(url, [SledRun(project=name, frames=frames) for name in project_names(_SLEDS)])
    count = len(sleds)
    await asyncio.to_thread(
        pace, _RATE, count * frames, lambda n, due: sleds[n % count].send_due(n // count, due)
    )
    await asyncio.gather(*(sled.done for sled in sleds))
    for sled in sleds:
        sled.close()
    return [seconds for sled in sleds for seconds in sled.latencies]
