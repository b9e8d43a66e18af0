"""A log of ten million events: starting with it, and reading from it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from bench.driver import SledRun, connect_all, run_all
from bench.events import event_json, project_names
from bench.processes import Gateway, gateway, until
from bench.report import Row, percentile
from bench.setting import Bench, run

_BATCH: Final = 100
_FILL_LIMIT: Final = 300.0
_REQUESTS: Final = 20
_LAGGING_REQUESTS: Final = 5
_INDEXED: Final = "huskies_index_position"


def measure_log(bench: Bench) -> None:
    """Fill a log, start anew with it, and ask for a project's newest page and a story's history."""
    names = project_names(bench.sizes.sleds)
    frames = bench.sizes.log_events // (_BATCH * len(names))
    total = frames * _BATCH * len(names)
    data_dir = bench.directory("log")
    with gateway(data_dir) as server:
        _fill(bench, server, names, frames)
        _catch_up(bench, server, names, total)
    size = sum(file.stat().st_size for file in data_dir.iterdir()) / (1 << 20)
    with gateway(data_dir) as server:
        bench.table.add(
            Row(
                what=f"start-up with {total:,} events, until ready",
                value=server.startup,
                unit="s",
                target=2.0,
                note=f"the data directory holds {size:,.0f} MiB",
            )
        )
        pages = _ask(server, [f"?before=latest&limit=100&project={name}" for name in _some(names)], 100)
        _add(bench, "newest 100 of one project", pages)
        expected = total // (len(names) * bench.sizes.stories)
        paths = _story_paths(names, bench.sizes.stories, _REQUESTS)
        _add(bench, f"history of one story, {expected} events", _ask(server, paths, expected))


def _fill(bench: Bench, server: Gateway, names: Sequence[str], frames: int) -> None:
    runs = [
        SledRun(project=name, frames=frames, events=_BATCH, window=50, stories=bench.sizes.stories)
        for name in names
    ]

    async def fill() -> float:
        sleds = await connect_all(server.url, runs)
        started = await run_all(sleds)
        ended = time.perf_counter()
        for sled in sleds:
            sled.close()
        return ended - started

    seconds = run(fill(), _FILL_LIMIT)
    total = frames * _BATCH * len(names)
    bench.table.add(
        Row(
            what=f"filling a log with {total:,} events", value=total / seconds, unit="events/s", durable="yes"
        )
    )


def _catch_up(bench: Bench, server: Gateway, names: Sequence[str], total: int) -> None:
    """Wait for the index, which follows the log in the background."""
    filled = time.perf_counter()
    lag = total - server.metric(_INDEXED)
    if lag > 0:
        paths = _story_paths(names, bench.sizes.stories, _LAGGING_REQUESTS)
        slow = percentile(_ask(server, paths, None), 50) * 1_000
        bench.table.remark(
            f"one story's first page while the index lagged by {lag:,} events: p50 {slow:,.0f} ms"
        )
    try:
        until(lambda: server.metric(_INDEXED) >= total, "the index", bench.sizes.index_wait, 0.1)
    except TimeoutError as error:
        bench.table.remark(f"{error}; it reached {server.metric(_INDEXED):,} of {total:,}")
    seconds = time.perf_counter() - filled
    note = f"{lag:,} events behind when filled"
    bench.table.add(Row(what="  the index catches up after", value=seconds, unit="s", note=note))


def _some(names: Sequence[str]) -> list[str]:
    """A name for each request, each as far from the one before as can be."""
    return [names[(number * 7) % len(names)] for number in range(_REQUESTS)]


def _story_paths(names: Sequence[str], stories: int, requests: int) -> list[str]:
    paths = []
    for number in range(requests):
        name = names[(number * 7) % len(names)]
        story = json.loads(event_json((number * 89) % stories, name))["story_id"]
        paths.append(f"?story={story}&project={name}")
    return paths


def _ask(server: Gateway, queries: Sequence[str], expected: int | None) -> list[float]:
    """Seconds for each request on one connection; each must show so many events (None: any number)."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    seconds = []
    try:
        connection.connect()
        for query in queries:
            started = time.perf_counter()
            connection.request("GET", "/gateway/events" + query, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            seconds.append(time.perf_counter() - started)
            shown: dict[str, Any] = json.loads(body)
            if answer.status != 200 or (expected is not None and len(shown["events"]) != expected):
                raise AssertionError(f"{query}: {answer.status}, {body[:200]!r}")
    finally:
        connection.close()
    return seconds


def _add(bench: Bench, what: str, seconds: Sequence[float]) -> None:
    for percent in (50, 99):
        value = percentile(seconds, percent) * 1_000
        bench.table.add(Row(what=f"{what}, p{percent} of {len(seconds)}", value=value, unit="ms", target=10))
