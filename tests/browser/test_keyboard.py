"""Everything by keyboard alone."""

from __future__ import annotations

from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.browser.sleds import held
from tests.support.relay_client import push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM


async def test_one_walks_opens_searches_and_goes_elsewhere_by_keys(gateway: Gateway, page: Page) -> None:
    await push(
        gateway.url, "shop", held("1_bug_x", "stuck", name="Alpha"), held("2_bug_y", "stuck", name="Beta")
    )
    await page.goto(gateway.url)
    titles = page.locator(".need .title")
    await expect(titles).to_have_text(["Alpha", "Beta"])
    press = page.keyboard.press
    await press("j")
    await expect(titles.first).to_be_focused()
    await press("j")
    await expect(titles.last).to_be_focused()
    await press("k")
    await press("Enter")
    await expect(page.get_by_role("heading", name="Alpha")).to_be_focused()
    for second, heading in (("b", "Board"), ("t", "Timeline"), ("p", "Pictures"), ("a", "Needs attention")):
        await press("g")
        await press(second)
        await expect(page.get_by_role("heading", name=heading)).to_be_focused()
    await press("g")
    await press("o")
    await press("/")
    field = page.get_by_label("Search the timeline")
    await expect(field).to_be_focused()
    await page.keyboard.type("beta?")
    await expect(field).to_have_value("beta?")
    await press("Escape")
    await expect(field).to_have_value("")
    await press("Escape")
    await expect(field).not_to_be_focused()


async def test_help_names_every_key_and_gives_the_focus_back(gateway: Gateway, page: Page) -> None:
    await push(gateway.url, "shop", held("1_bug_x", "stuck"))
    await page.goto(gateway.url)
    await expect(page.locator(".need")).to_have_count(1)
    await page.keyboard.press("j")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page.locator(".need .title")).to_be_focused()
