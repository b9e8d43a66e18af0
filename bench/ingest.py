"""How many events a second a gateway makes durable and acknowledges."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from bench.driver import SledRun, connect_all, run_all
from bench.events import event_json, project_names
from bench.lockstep import Lockstep
from bench.processes import Gateway, gateway, running, subscriber, until
from bench.report import Row
from bench.setting import Bench, median, run, spread

# As many as the gateway lets a sled have in flight, in frames of a hundred.
_BATCH: Final = 100
_BATCH_WINDOW: Final = 50
_SINGLE_WINDOW: Final = 5_000
_LIMIT: Final = 180.0
APPENDED: Final = "huskies_events_appended_total"


def batches(bench: Bench, frames: int) -> list[SledRun]:
    """A sled for each project, a hundred events a frame."""
    names = project_names(bench.sizes.sleds)
    return [SledRun(project=name, frames=frames, events=_BATCH, window=_BATCH_WINDOW) for name in names]


def _singles(bench: Bench, *, v1: bool) -> list[SledRun]:
    names = project_names(bench.sizes.sleds)
    frames = bench.sizes.single_frames
    return [SledRun(project=name, frames=frames, window=_SINGLE_WINDOW, v1=v1) for name in names]


async def _drive(server: Gateway, runs: Sequence[SledRun]) -> tuple[float, float]:
    """When sending began and when everything was acknowledged, or in v1 was in the log."""
    sleds = await connect_all(server.url, runs)
    started = await run_all(sleds)
    if runs[0].v1:
        total = sum(run.frames for run in runs)
        await asyncio.to_thread(
            until, lambda: server.metric(APPENDED) >= total, "everything in the log", _LIMIT, 0.02
        )
    ended = time.perf_counter()
    for sled in sleds:
        sled.close()
    return started, ended


def one_round(
    bench: Bench, runs: Sequence[SledRun], followed: str | None, huskies: Sequence[str] | None = None
) -> tuple[float, float]:
    """Events a second acknowledged, and delivered to who follows a project ("": everything; None: no one).

    `huskies` is the command where it is not the usual one.
    """
    total = sum(run.frames * run.events for run in runs)
    with ExitStack() as stack:
        server = stack.enter_context(gateway(bench.directory("ingest"), huskies=huskies))
        finished: Callable[[], float] | None = None
        if followed is not None:
            expected = sum(run.frames * run.events for run in runs if followed in ("", run.project))
            finished = stack.enter_context(
                subscriber(server.url, expected, followed or None, bench.directory("subscriber"))
            )
        started, ended = run(_drive(server, runs), _LIMIT)
        seen = finished() if finished is not None else ended
        return total / (ended - started), total / (max(ended, seen) - started)


def _rounds(bench: Bench, runs: Sequence[SledRun], followed: str | None) -> tuple[list[float], list[float]]:
    results = [one_round(bench, runs, followed) for _ in range(bench.sizes.rounds)]
    return [acked for acked, _ in results], [seen for _, seen in results]


def ingest_rate(bench: Bench) -> float:
    """What a gateway acknowledges with a hundred events a frame; measured unless it was already."""
    if bench.ingest_rate is None:
        bench.ingest_rate, _ = one_round(bench, batches(bench, bench.sizes.batch_frames), "p00")
    return bench.ingest_rate


def measure_ingest(bench: Bench) -> None:
    """A hundred events a frame, with one reader that follows one project, then everything."""
    runs = batches(bench, bench.sizes.batch_frames)
    what = f"ingest v2, {len(runs)} sleds, {_BATCH} events a frame"
    acked, _ = _rounds(bench, runs, "p00")
    bench.ingest_rate = median(acked)
    bench.table.add(
        Row(
            what=f"{what}, one reader of a project",
            value=bench.ingest_rate,
            unit="events/s",
            target=250_000,
            more_is_better=True,
            durable="yes",
            note=spread(acked),
        )
    )
    acked, seen = _rounds(bench, runs, "")
    bench.table.add(
        Row(
            what=f"{what}, one reader of everything",
            value=median(seen),
            unit="events/s",
            target=100_000,
            more_is_better=True,
            durable="yes",
            note=f"until it was read as well, {spread(seen)}; acknowledged {median(acked):,.0f}",
        )
    )


def measure_single(bench: Bench) -> None:
    """One event a frame."""
    for v1 in (True, False):
        runs = _singles(bench, v1=v1)
        acked, _ = _rounds(bench, runs, "p00")
        bench.table.add(
            Row(
                what=f"ingest {'v1' if v1 else 'v2, pipelined'}, {len(runs)} sleds, one event a frame",
                value=median(acked),
                unit="events/s",
                target=100_000,
                more_is_better=True,
                durable="no acks" if v1 else "yes",
                note=spread(acked),
            )
        )


def measure_lockstep(bench: Bench) -> None:
    """One event a frame, and the next only when it was acknowledged; next to the floor of this machine."""
    rounds = bench.sizes.lockstep_rounds
    runs = [SledRun(project=name, frames=rounds, window=1) for name in project_names(bench.sizes.sleds)]
    acked, _ = _rounds(bench, runs, "p00")
    message = event_json(1, "p00")
    with running([sys.executable, "-m", "bench.echo"], bench.directory("echo")) as echo:
        url = echo.find(r"echo (http://\S+)")[1]
        floor = run(Lockstep.all(url, message, len(runs), rounds), _LIMIT)
    bench.table.add(
        Row(
            what=f"ingest v2, {len(runs)} sleds that each wait for every ack",
            value=median(acked),
            unit="events/s",
            ratio=f"{median(acked) / floor:.2f}x echo",
            durable="yes",
            note=spread(acked),
        )
    )
    bench.table.add(
        Row(what=f"  a uvloop echo, {len(runs)} connections", value=floor, unit="echoes/s", durable="no")
    )
