"""axe-core finds nothing on any view, dark or light; nothing moves for who asked for that."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.browser.sleds import Sled, held, moved
from tests.support.relay_client import push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM

VIEWS = (
    "#/", "#/attention", "#/board", "#/timeline", "#/pictures", "#/project/shop", "#/story/shop/1_bug_x",
)  # fmt: skip


async def serious(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core calls serious or critical: the rule, and where."""
    found = await Axe().run(page)
    return [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in found.response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_no_view_has_anything_serious(gateway: Gateway, page: Page, theme: str) -> None:
    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
    async with Sled.at(gateway.url, "shop", replays=1) as sled:
        await sled.say(
            moved("1_bug_x", "1_backlog", "3_qa", name="Totals are off"),
            held("1_bug_x", "conflict", kind="merge_failure"),
            held("2_bug_y", "stuck"),
        )
        await push(gateway.url, "bank", moved("3_story_z", "4_merge", "5_done"))
        for view in VIEWS:
            await page.goto(f"{gateway.url}/{view}")
            await expect(page.locator("#link")).to_have_attribute("data-state", "live")
            await expect(page.locator("#headline")).to_contain_text("need")
            assert not await serious(page), view
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert not await serious(page)


async def test_an_empty_gateway_has_nothing_serious(gateway: Gateway, page: Page) -> None:
    await page.goto(gateway.url)
    await expect(page.locator("#welcome")).to_be_visible()
    assert not await serious(page)


async def test_no_card_glides_where_that_is_not_wanted(gateway: Gateway, page: Page) -> None:
    await page.emulate_media(reduced_motion="reduce")
    await page.add_init_script(
        "window.animated = 0; Element.prototype.animate = () => { window.animated += 1; };"
    )
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say(moved("1_bug_x", "1_backlog", "2_current"))
        await page.goto(gateway.url)
        await expect(page.locator('[data-stage="2_current"] .card')).to_have_count(1)
        await sled.say(moved("1_bug_x", "2_current", "3_qa"))
        await expect(page.locator('[data-stage="3_qa"] .card')).to_have_count(1)
    assert await page.evaluate("window.animated") == 0
