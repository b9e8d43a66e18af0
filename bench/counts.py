"""The counts that `GET /gateway/stats` answers with: what folding an event costs, and what an answer does."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench.report import Row, percentile
from bench.setting import Bench
from huskies.events.model import STAGES, StoredEvent, StoredStageTransition, StoredStoryBlocked
from huskies.gateway.stats import DAY_MS, Told
from huskies.gateway.stats_view import Asked, answer, range_of
from huskies.gateway.store.index import FILE_NAME, Index, IndexRows
from huskies.gateway.store.stats_reader import read_sums

_PROJECTS: Final = 100
_DAYS: Final = 365
# Written in one transaction, as the index is.
_BATCH: Final = 20_000
_LIVE_STORIES: Final = 30
_REQUESTS: Final = 20
_NOW_MS: Final = 20_500 * DAY_MS


def measure_counts(bench: Bench) -> None:
    """Count a year's events of a hundred projects, and ask for all of it."""
    directory = bench.directory("counts")
    directory.mkdir()
    total = bench.sizes.counted
    index = Index(directory)
    begin = index.path.stat().st_size
    seconds = 0.0
    for position, told in enumerate(_batches(total), 1):
        started = time.thread_time()
        index.write(IndexRows(position=position, told=told), None, _NOW_MS)
        seconds += time.thread_time() - started
    index.close()
    size = (sum(file.stat().st_size for file in directory.iterdir()) - begin) / (1 << 20)
    bench.table.add(
        Row(
            what=f"counting {total:,} events of {_PROJECTS} projects and {_DAYS} days",
            value=seconds / total * 1e6,
            unit="µs of a processor each",
            note=f"they take {size:,.0f} MiB of views.db",
        )
    )
    for days in (30, _DAYS):
        took = [_ask(directory, days) * 1_000 for _ in range(_REQUESTS)]
        bench.table.add(
            Row(what=f"  all of {days} days, p50 of {_REQUESTS}", value=percentile(took, 50), unit="ms")
        )


def _ask(directory: Path, days: int) -> float:
    """Seconds for what an answer takes beside HTTP and the fleet."""
    started = time.perf_counter()
    asked_for = range_of(Asked(days=days, offset_minutes=60), _NOW_MS)
    sums = read_sums(directory / FILE_NAME, asked_for, None)
    msgspec.json.encode(answer(asked_for, _NOW_MS, "", sums, {}))
    return time.perf_counter() - started


def _batches(total: int) -> Iterator[list[Told]]:
    """Events as they come over a year: of each project some, of which the index takes so many at once."""
    rng = random.Random(1)  # noqa: S311 - the same in each run
    stories = [[(number, 0) for number in range(_LIVE_STORIES)] for _ in range(_PROJECTS)]
    each = max(1, min(_BATCH, total) // _PROJECTS)
    step = _DAYS * DAY_MS // max(1, total // _PROJECTS)
    at_ms = _NOW_MS - _DAYS * DAY_MS
    for _ in range(total // (each * _PROJECTS)):
        told = []
        for project, live in enumerate(stories):
            events = [_event(rng, live, at_ms + number * step) for number in range(each)]
            told.append(Told(f"p{project:02d}", project + 1, _NOW_MS, events))
        yield told
        at_ms += each * step


def _event(rng: random.Random, live: list[tuple[int, int]], at_ms: int) -> StoredEvent:
    """The next event of one of the stories; one that is done makes room for the next."""
    place = rng.randrange(len(live))
    number, stage = live[place]
    story_id = f"{number:05d}_story_login"
    if rng.random() < 0.15:
        return StoredStoryBlocked(story_id=story_id, reason="stuck", timestamp_ms=at_ms)
    is_done = stage == len(STAGES) - 3
    live[place] = (number + _LIVE_STORIES, 0) if is_done else (number, stage + 1)
    return StoredStageTransition(
        story_id=story_id, from_stage=STAGES[stage], to_stage=STAGES[stage + 1], timestamp_ms=at_ms
    )
