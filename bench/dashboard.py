"""How soon the dashboard can be used, how soon it shows an event, and whether a burst freezes it."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from playwright.async_api import Page, async_playwright

from bench.driver import Sled, SledRun, connect_all
from bench.processes import find_program, gateway
from bench.report import Row, percentile
from bench.setting import Bench, run
from bench.websocket import text_frame

_STAGES: Final = ("1_backlog", "2_current", "3_qa", "4_merge", "5_done", "6_archived")
_ROUNDS: Final = 5
_SHOWN_RATE: Final = 20.0
_BURST_RATE: Final = 1_000
_PATIENCE: Final = 60.0
# It looks for nothing on the network by itself, and draws as it would on a machine without a graphics card.
_ARGUMENTS: Final = (
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--disable-gpu",
)  # fmt: skip
_PROBE: Final = """
  window.seen = [];
  window.frames = [];
  new MutationObserver((_, self) => {
    if (!document.querySelector(".card") || !document.querySelector('#link[data-state="live"]')) return;
    self.disconnect();
    // After the frame that draws it, when the page has time for whoever uses it.
    requestAnimationFrame(() => setTimeout(() => (window.interactive = performance.now())));
  }).observe(document, { childList: true, subtree: true, attributes: true });
  addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
    const lines = changes.flatMap(({ addedNodes }) => [...addedNodes]);
    const told = lines.map((line) => Number(line.querySelector(".why")?.textContent)).filter(Boolean);
    // The next frame begins when this one has been painted.
    if (told.length) requestAnimationFrame(() => told.forEach((n) => window.seen.push([n, Date.now()])));
  }).observe(document.getElementById("events"), { childList: true }));
"""
_COUNT_FRAMES: Final = """() => {
  let last = performance.now();
  const count = (now) => {
    window.frames.push(now - last);
    last = now;
    if (!window.stopped) requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
}"""
_SCRIPT_BYTES: Final = """() => performance.getEntriesByType("resource")
  .filter(({ name }) => name.endsWith(".js")).reduce((sum, { transferSize }) => sum + transferSize, 0)"""


def measure_dashboard(bench: Bench) -> None:
    """In a real Chromium, beside a gateway with many stories."""
    program = find_program("chromium")
    if program is None:
        bench.table.remark("dashboard was not measured: chromium is not installed (`make needs`)")
        return
    projects, stories = (100, 50) if bench.table.judged else (5, 10)
    with gateway(bench.directory("dashboard")) as server:
        run(_usual(bench, server.url, program, projects, stories), 600.0, pin=False)
    projects, stories = (1_000, 20) if bench.table.judged else (10, 10)
    with gateway(bench.directory("dashboard")) as server:
        run(_burst(bench, server.url, program, projects, stories), 600.0, pin=False)


async def _usual(bench: Bench, url: str, program: str, projects: int, stories: int) -> None:
    fleet = await _fleet(url, projects, stories)
    size = f"{projects:,} projects, {projects * stories:,} stories"
    times = [await _status(url) for _ in range(_ROUNDS)]
    _add(bench, f"`huskies status` of {size}: whole process", statistics.median(times), "ms", 300)
    async with _page(program) as page:
        times = [await _interactive(page, url) for _ in range(_ROUNDS)]
        _add(bench, f"dashboard with {size}: interactive", statistics.median(times), "ms", 1_000)
        _add(bench, "dashboard: its scripts", await page.evaluate(_SCRIPT_BYTES) / 1_000, "kB", 150)
        shown = await _shown(page, fleet, max(10, int(_SHOWN_RATE * bench.sizes.paced_seconds)))
        _add(bench, "dashboard: event written → visible, p50", percentile(shown, 50), "ms")
        _add(bench, "dashboard: event written → visible, p95", percentile(shown, 95), "ms", 100)


async def _status(url: str) -> float:
    """Milliseconds until the command has ended."""
    began = time.perf_counter()
    arguments = ("-m", "huskies", "status", "--gateway-url", url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    return (time.perf_counter() - began) * 1_000


async def _burst(bench: Bench, url: str, program: str, projects: int, stories: int) -> None:
    fleet = await _fleet(url, projects, stories)
    async with _page(program) as page:
        times = [await _interactive(page, url) for _ in range(_ROUNDS)]
        size = f"{projects:,} projects, {projects * stories:,} stories"
        _add(bench, f"dashboard with {size}: interactive", statistics.median(times), "ms")
        frames = await _frames(page, fleet, int(_BURST_RATE * bench.sizes.paced_seconds))
        what = f"dashboard in a burst of {_BURST_RATE:,} events/s"
        _add(bench, f"{what}: frame, p99", percentile(frames, 99), "ms")
        _add(bench, f"{what}: frame, longest", max(frames), "ms")


def _add(bench: Bench, what: str, value: float, unit: str, target: float | None = None) -> None:
    bench.table.add(Row(what=what, value=value, unit=unit, target=target))


@asynccontextmanager
async def _page(program: str) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1_600, "height": 1_000})
        page.set_default_timeout(_PATIENCE * 1_000)
        await page.add_init_script(_PROBE)
        yield page
        await browser.close()


async def _interactive(page: Page, url: str) -> float:
    """Milliseconds from asking for the page until it can be used."""
    await page.goto("about:blank")
    await page.goto(url)
    await _until(page, "window.interactive !== undefined")
    return float(await page.evaluate("window.interactive"))


async def _until(page: Page, holds: str) -> None:
    # The page's policy lets Playwright's own way of waiting not in: it makes code out of text.
    async with asyncio.timeout(_PATIENCE):
        while not await page.evaluate(holds):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)


async def _shown(page: Page, fleet: Sequence[Writer], count: int) -> list[float]:
    """Milliseconds from writing an event to its sled's connection until it is painted."""
    written: dict[int, float] = {}
    for number in range(1, count + 1):
        written[number] = time.time() * 1_000
        fleet[number % len(fleet)].write(_blocked(number))
        await asyncio.sleep(1 / _SHOWN_RATE)
    await _until(page, f"window.seen.length >= {count}")
    return [at - written[number] for number, at in await page.evaluate("window.seen")]


async def _frames(page: Page, fleet: Sequence[Writer], count: int) -> list[float]:
    """Milliseconds between frames while so many events come, and until the last one is there."""
    await page.evaluate(_COUNT_FRAMES)
    began = time.perf_counter()
    for number in range(count):
        writer = fleet[number * 7 % len(fleet)]
        story = number // len(fleet)
        writer.write(_moved(story, _STAGES[number % 4], _STAGES[number % 4 + 1]))
        if number % 20 == 19:
            await asyncio.sleep(max(0.0, began + number / _BURST_RATE - time.perf_counter()))
    fleet[0].write(_blocked(1))
    await _until(page, "window.seen.some(([n]) => n === 1)")
    await page.evaluate("window.stopped = true")
    frames: list[float] = await page.evaluate("window.frames")
    return frames


# --- sleds that say what they are told ---------------------------------------------------------------


class Writer:
    """A connected sled's events, numbered."""

    def __init__(self, sled: Sled) -> None:
        self._sled = sled
        self._seq = 0

    def write(self, *events: dict[str, Any]) -> None:
        frame = {"type": "events", "first_seq": self._seq + 1, "events": events}
        self._seq += len(events)
        self._sled.transport.write(text_frame(json.dumps(frame).encode()))

    async def settled(self) -> None:
        """Everything is acknowledged."""
        while self._sled.acked < self._seq:  # noqa: ASYNC110 - filled by a transport
            await asyncio.sleep(0.01)


async def _fleet(url: str, projects: int, stories: int) -> list[Writer]:
    """Connected sleds of projects whose stories stand in all stages."""
    runs = [SledRun(project=f"project-{number:04d}") for number in range(projects)]
    writers = [Writer(sled) for sled in await connect_all(url, runs)]
    for number, writer in enumerate(writers):
        writer.write(*(_moved(story, "1_backlog", _STAGES[(story + number) % 6]) for story in range(stories)))
    for writer in writers:
        await writer.settled()
    return writers


def _moved(story: int, before: str, after: str) -> dict[str, Any]:
    return {
        "type": "stage_transition", "story_id": f"{story}_story_of_this_project",
        "story_name": f"Story {story}, with a name as long as they are", "from_stage": before,
        "to_stage": after, "timestamp_ms": int(time.time() * 1_000),
    }  # fmt: skip


def _blocked(number: int) -> dict[str, Any]:
    return {
        "type": "story_blocked", "story_id": "1_story_of_this_project", "story_name": "",
        "reason": str(number), "timestamp_ms": int(time.time() * 1_000),
    }  # fmt: skip
