"""The board in a real browser: cards that move, names that are markup, bursts, and a thousand rows."""

from __future__ import annotations

from itertools import pairwise

import aiohttp
from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.browser.sleds import Sled, held, moved
from tests.support.relay_client import push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
STAGES = ("1_backlog", "2_current", "3_qa", "4_merge", "5_done")


async def test_an_event_moves_a_card_without_making_another(gateway: Gateway, page: Page) -> None:
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say(moved("1_story_pay", "1_backlog", "2_current", name="Pay"))
        await page.goto(gateway.url)
        card = page.locator(".row .card", has_text="Pay")
        await expect(page.locator('[data-stage="2_current"] .card')).to_have_count(1)
        before = await card.element_handle()
        await sled.say(moved("1_story_pay", "2_current", "3_qa", name="Pay"))
        await expect(page.locator('[data-stage="3_qa"] .card')).to_have_count(1)
        after = await card.element_handle()
        assert before is not None
        assert await before.evaluate("(one, other) => one === other", after)
        await expect(page.locator('[data-stage="2_current"] .card')).to_have_count(0)


async def test_a_name_that_is_markup_is_shown_as_it_is_written(gateway: Gateway, page: Page) -> None:
    await push(gateway.url, "shop", held("1_story_x", MARKUP, name=MARKUP))
    await page.goto(gateway.url)
    for place in ("#needs", "#rows", "#events"):
        await expect(page.locator(place).get_by_text(MARKUP).first).to_be_visible()
    await page.goto(f"{gateway.url}/#/story/shop/1_story_x")
    await expect(page.get_by_role("heading", name=MARKUP)).to_be_visible()
    assert await page.locator("main img, main script").count() == 0


async def test_a_burst_ends_at_the_gateways_own_board(gateway: Gateway, page: Page) -> None:
    await page.goto(gateway.url)
    # Of what happened before the page asked, it has no more than the newest page.
    await expect(page.locator("#link-text")).to_have_text("Live")
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say(
            *(
                moved(f"{story}_story_s", before, after, name=f"Story {story}")
                for before, after in pairwise(STAGES)
                for story in range(250)
            )
        )
        await expect(page.locator('[data-stage="5_done"] .count')).to_have_text("250")
    await expect(page.locator("#events .line")).to_have_count(150)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/gateway/projects") as answer,
    ):
        [project] = (await answer.json())["projects"]
    assert {story["stage"] for story in project["stories"]} == {"5_done"}


async def test_rows_far_away_have_no_cards_until_they_come_near(gateway: Gateway, page: Page) -> None:
    for number in range(60):
        await push(gateway.url, f"p{number:02d}", moved("1_story_pay", "1_backlog", "2_current", name="Pay"))
    await page.goto(f"{gateway.url}/#/board")
    await expect(page.locator(".row")).to_have_count(60)
    last = page.locator(".row", has_text="p59")
    assert await last.locator(".card").count() == 0
    await last.scroll_into_view_if_needed()
    await expect(last.locator(".card")).to_have_count(1)
    await expect(page.locator(".row", has_text="p00").locator(".card")).to_have_count(0)
    await page.get_by_label("Find a project").fill("P07")
    await expect(page.locator(".row")).to_have_count(1)
    assert page.url.endswith("/#/board?find=P07")
