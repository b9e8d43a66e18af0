"""`python -m tests.browser.screenshots DIRECTORY [VIEW…]`: every view of the dashboard, for eyes.

A gateway of its own, on a clock that stands still, with a made-up month behind it: the pictures are the same
each time, but for the fonts of the machine.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

from playwright.async_api import Browser, async_playwright
from tests.browser.conftest import CHROMIUM
from tests.browser.sleds import Sled
from tests.gateway.conftest import starting, until
from tests.support.scenery import HOUR, MINUTE, Told, month, project_names, snapshot_of

from huskies.gateway.server import Gateway

SIZES: Final = {"phone": (360, 740), "laptop": (1280, 800), "wall": (3840, 2160)}
THEMES: Final = ("light", "dark")
# A Tuesday afternoon.
NOW_MS: Final = 1_789_482_720_000
SEED: Final = 26
PROJECTS: Final = 12
STORIES: Final = 26
SILENT: Final = "warehouse"
SILENT_FOR: Final = 38 * MINUTE
CATCHING_UP: Final = "data-pipeline"
# In the order in which they happened, and so in that of the timeline; what is older comes project by project.
_IN_ORDER: Final = 60
_LISTED: Final = '[projects.loyalty-app]\nurl = "http://loyalty-app:3001"\n'
_PATIENCE_MS: Final = 60_000


class View(NamedTuple):
    """A picture: what it is called, what is opened, what is pressed, and what must be there then."""

    name: str
    address: str
    ready: str
    keys: tuple[str, ...] = ()


VIEWS: Final = (
    View("overview", "#/", "#events .line"),
    View("attention", "#/attention", "#needs .need"),
    View("board", "#/board", "#rows .card"),
    View("timeline", "#/timeline", "#events .line"),
    View("pictures", "#/pictures", "figure"),
    View("project", "#/project/billing", "#events .line"),
    View("story", "#/story/{story}", "#life-bar rect"),
    View("help", "#/board", "#rows .card", ("?",)),
)


async def shoot(directory: Path, names: Collection[str]) -> None:
    """Write the pictures of these views, or of all."""
    told = [
        one
        for one in month(SEED, NOW_MS, PROJECTS, STORIES)
        if one.project != SILENT or one.at < NOW_MS - SILENT_FOR
    ]
    async with async_playwright() as playwright, AsyncExitStack() as stack:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        stack.push_async_callback(browser.close)
        url = await stack.enter_async_context(_gateway([]))
        if not names or "empty" in names:
            await _shoot(browser, url, View("empty", "", "#welcome"), directory)
        url = await stack.enter_async_context(_gateway(told))
        for view in (view for view in VIEWS if not names or view.name in names):
            address = view.address.format(story=_longest(told))
            await _shoot(browser, url, view._replace(address=address), directory)


async def _shoot(browser: Browser, url: str, view: View, directory: Path) -> None:
    for size, (width, height) in SIZES.items():
        for theme in THEMES:
            context = await browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
                locale="en-GB",
                timezone_id="Europe/Berlin",
            )
            page = await context.new_page()
            page.set_default_timeout(_PATIENCE_MS)
            await page.clock.set_fixed_time(datetime.fromtimestamp(NOW_MS / 1_000, UTC))
            await page.goto(f"{url}/{view.address}")
            await page.locator('#link[data-state="live"]').wait_for()
            await page.locator(view.ready).first.wait_for()
            for key in view.keys:
                await page.keyboard.press(key)
            await page.screenshot(path=directory / f"{view.name}-{size}-{theme}.png")
            await context.close()


def _longest(told: list[Told]) -> str:
    """The story of which most is told."""
    counts: dict[str, int] = {}
    for project, event in told:
        key = f"{project}/{event['story_id']}"
        counts[key] = counts.get(key, 0) + (1 if event["type"] == "stage_transition" else 3)
    return max(sorted(counts), key=lambda key: counts[key])


@asynccontextmanager
async def _gateway(told: list[Told]) -> AsyncIterator[str]:
    clock = _Clock()
    with (
        tempfile.TemporaryDirectory(prefix="huskies-pictures-") as directory,
        mock.patch("huskies.gateway.server.now_ms", clock),
    ):
        async with starting(Path(directory)) as start, AsyncExitStack() as stack:
            gateway = await start(projects=_LISTED if told else "")
            if told:
                await _tell(gateway, told, clock, stack)
            yield gateway.url


class _Clock:
    def __init__(self) -> None:
        self.at = NOW_MS

    def __call__(self) -> int:
        return self.at


async def _tell(gateway: Gateway, told: list[Told], clock: _Clock, stack: AsyncExitStack) -> None:
    gone = await stack.enter_async_context(AsyncExitStack())
    sleds: dict[str, Sled] = {}
    for name in project_names(PROJECTS):
        replays = sum(one.project == name for one in told) + 37 if name == CATCHING_UP else 0
        owner = gone if name == SILENT else stack
        sleds[name] = await owner.enter_async_context(Sled.at(gateway.url, name, replays))
    older, newer = told[:-_IN_ORDER], told[-_IN_ORDER:]
    clock.at = newer[0].at
    for name, sled in sleds.items():
        await sled.say(*(event for project, event in older if project == name))
    for one in newer:
        clock.at = one.at + 40
        await sleds[one.project].say(one.event)
    clock.at = NOW_MS - SILENT_FOR
    await gone.aclose()
    await until(lambda: not gateway.sessions.state(SILENT).connected)
    clock.at = NOW_MS
    limit = {
        "type": "rate_limit_hard_block", "agent_name": "coder", "timestamp_ms": NOW_MS - 12 * MINUTE,
        "reset_at": "2026-09-15T15:30:00Z",
    }  # fmt: skip
    story = next(one.event for one in reversed(newer) if one.project == "search")
    limit |= {"story_id": story["story_id"], "story_name": story["story_name"]}
    await sleds["search"].say(limit)
    for name, sled in sleds.items():
        if name not in {SILENT, CATCHING_UP}:
            await sled.stands(*snapshot_of(told, name, STORIES, SEED, NOW_MS - 26 * HOUR))


if __name__ == "__main__":
    asyncio.run(shoot(Path(sys.argv[1]), sys.argv[2:]))
