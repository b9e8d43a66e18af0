"""A project that a person works on: a real sled, files that move, and what the page shows of them."""

from __future__ import annotations

from pathlib import Path

import pytest_asyncio
from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.gateway.conftest import until

from huskies.config import sled_config
from huskies.gateway.server import Gateway
from huskies.sled.service import Sled

pytestmark = IN_CHROMIUM


@pytest_asyncio.fixture(loop_scope="session")
async def work(tmp_path: Path) -> Path:
    """The stories of a project, on its disk."""
    stages = tmp_path / "web-shop" / ".huskies" / "work"
    for stage in ("1_backlog", "2_current", "3_qa"):
        (stages / stage).mkdir(parents=True)
    (stages / "1_backlog" / "7_story_login.md").write_text("---\nname: Log in\n---\n")
    return stages


async def test_a_file_that_moves_is_a_card_that_moves(gateway: Gateway, page: Page, work: Path) -> None:
    sled = Sled(sled_config(work.parent.parent, {}, gateway_url=[gateway.url], port=0))
    await sled.start()
    try:
        await page.goto(gateway.url)
        card = page.locator('[data-stage="1_backlog"] .card')
        await expect(card).to_contain_text("Log in#7 story")
        story = work / "1_backlog" / "7_story_login.md"
        story.rename(work / "2_current" / story.name)
        await expect(page.locator('[data-stage="2_current"] .card')).to_contain_text("Log in")
        await expect(card).to_have_count(0)
        (work / "2_current" / story.name).write_text("---\nname: Log in\nblocked: no keys\n---\n")
        await expect(page.locator('.need[data-kind="blocked"]')).to_contain_text("no keys")
        await expect(page).to_have_title("(1) Huskies")
    finally:
        await sled.stop()
    await until(lambda: not gateway.sessions.state("web-shop").connected)
    # What it knew stays; the page asks now instead of in ten seconds.
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(page.locator("#rows .sled")).to_have_attribute("data-state", "silent")
