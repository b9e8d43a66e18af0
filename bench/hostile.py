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
from bench.setting import Bench, median, pace, run

_SLEDS: Final = 50
_RATE: Final = 1_000.0
_SPARE: Final = 60.0
# Of what other measurements take: there are six here in each round.
_PART: Final = 0.6
# What the others wait for their acks may grow by less than this.
_MOST: Final = 2.0


def measure_hostile(bench: Bench) -> None:
    """Fifty sleds with a thousand events a second between them; then the same beside each kind of flood.

    In rounds, each with one measurement alone: a machine is not as fast at one time as at another.
    """
    found: dict[str | None, list[list[float]]] = {kind: [] for kind in (None, *KINDS)}
    for _ in range(bench.sizes.rounds):
        for kind, measured in found.items():
            measured.append(_measured(bench, kind))
    what = f"ack of {_SLEDS} sleds at {_RATE:,.0f} events/s"
    for percent in (50, 99):
        value = _median(found[None], percent)
        bench.table.add(Row(what=f"{what}, p{percent}", value=value, unit="ms", durable="yes"))
    alone = _median(found[None], 99)
    for kind in KINDS:
        value = _median(found[kind], 99)
        bench.table.add(
            Row(
                what=f"  beside one that floods it with {kind}, p99",
                value=value,
                unit="ms",
                target=_MOST * alone,
                ratio=f"{value / alone:.2f}x alone",
                durable="yes",
                note=f"p50 {_median(found[kind], 50):.2f} ms",
            )
        )


def _median(rounds: list[list[float]], percent: int) -> float:
    """The median of the rounds' percentiles, in ms."""
    return median([percentile(seconds, percent) * 1_000 for seconds in rounds])


def _measured(bench: Bench, kind: str | None) -> list[float]:
    """From when each event was due until its ack."""
    seconds = bench.sizes.paced_seconds * _PART
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
