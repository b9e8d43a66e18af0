"""The notifier: how soon a webhook's receiver has what a sled sent, and how many events it gets through."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.support.relay_client import blocked, connect, new_epoch, new_key
from tests.support.webhooks import Receiver

from bench.driver import connect_all, run_all
from bench.ingest import batches
from bench.processes import Gateway, gateway, until
from bench.report import Row, percentile
from bench.setting import Bench, run
from huskies.storage import notifications

_LIMIT: Final = 120.0
# Between two: what one waits for is not the one before.
_PAUSE: Final = 0.1
_EVENTS_A_FRAME: Final = 100


def measure_telling(bench: Bench) -> None:
    """A gateway with a webhook, and the notifier that it starts beside it."""
    directory = bench.directory("telling")
    receiver = Receiver()
    try:
        receiver.write_settings(directory)
        with gateway(directory) as server:
            until(lambda: _position(directory) is not None, "the notifier follows the log", _LIMIT)
            count = bench.sizes.told
            took = run(_told(server, receiver, count), _LIMIT, pin=False)
            note = f"{count} blocks of as many projects, at most {max(took) * 1_000:.0f} ms"
            value = percentile(took, 50) * 1_000
            bench.table.add(
                Row(
                    what="sled sends → webhook received, p50",
                    value=value,
                    unit="ms",
                    durable="yes",
                    note=note,
                )
            )
            frames = max(1, bench.sizes.passed // bench.sizes.sleds // _EVENTS_A_FRAME)
            value = _passed(bench, server, directory, frames)
            what = "events of which nobody is told, decided on"
            bench.table.add(
                Row(what=what, value=value, unit="events/s", target=5_000, more_is_better=True, durable="yes")
            )
    finally:
        receiver.stop()


async def _told(server: Gateway, receiver: Receiver, count: int) -> list[float]:
    """Seconds from when a sled sends an event until it was received."""
    took: list[float] = []
    for number in range(1, count + 1):
        async with await connect(server.url, f"told{number}", new_key(), new_epoch()) as sled:
            sent = time.time()
            await sled.send_events(1, blocked(f"reason {number}", timestamp_ms=int(sent * 1_000)))
            hooks = await asyncio.to_thread(receiver.wait, number)
        took.append(hooks[-1].at - sent)
        await asyncio.sleep(_PAUSE)
    return took


def _passed(bench: Bench, server: Gateway, directory: Path, frames: int) -> float:
    """Events a second, from when sleds send them until the notifier has committed what it decided."""
    before = _position(directory) or 0
    runs = batches(bench, frames)
    events = sum(each.frames * each.events for each in runs)

    async def push() -> float:
        sleds = await connect_all(server.url, runs)
        started = await run_all(sleds)
        for sled in sleds:
            sled.close()
        return started

    started = run(push(), _LIMIT)
    until(lambda: (_position(directory) or 0) >= before + events, "all is decided on", _LIMIT, 0.01)
    return events / (time.perf_counter() - started)


def _position(directory: Path) -> int | None:
    """How far the notifier has decided; None where it has not begun."""
    path = directory / notifications.FILE_NAME
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM state WHERE kind = 'cursor'").fetchone()
    except sqlite3.OperationalError:
        # It is just being made, or written.
        return None
    return None if row is None else int(row[0].decode().split("-")[1])
