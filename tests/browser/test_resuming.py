"""What happens while the gateway is away: the page says so, and goes on without a reload."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, Page, expect
from tests.browser.conftest import IN_CHROMIUM, Complaints
from tests.browser.router import Router
from tests.browser.sleds import Sled, held, moved
from tests.gateway.conftest import StartGateway, stop
from tests.support.relay_client import push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM


async def test_a_restart_of_the_gateway_costs_no_event_and_doubles_none(
    start_gateway: StartGateway, page: Page, complaints: Complaints
) -> None:
    complaints.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|503")
    gateway = await start_gateway()
    url = gateway.url
    port = urlsplit(url).port or 0
    await push(url, "shop", moved("1_story_a", "1_backlog", "2_current", name="Before"))
    await page.goto(url)
    await expect(page.locator("#link-text")).to_have_text("Live")
    await page.evaluate("window.stayed = true")
    await stop(gateway)
    await expect(page.locator("#stale")).to_be_visible()
    gateway = await start_gateway(port=port)
    await push(url, "shop", held("2_story_b", "stuck", name="Meanwhile"))
    await expect(page.locator("#link-text")).to_have_text("Live")
    await expect(page.locator("#stale")).to_be_hidden()
    await expect(page.locator("#events .line .title")).to_have_text(["Meanwhile", "Before"])
    await expect(page.locator('.need[data-kind="blocked"]')).to_have_count(1)
    assert await page.evaluate("window.stayed")


async def test_a_page_that_is_open_before_the_first_sled_shows_it_without_a_reload(
    start_gateway: StartGateway, page: Page
) -> None:
    gateway = await start_gateway()
    await page.goto(gateway.url)
    await expect(page.get_by_text("huskies up")).to_be_visible()
    await expect(page.get_by_text(f"--gateway-url {gateway.url}")).to_be_visible()
    await push(gateway.url, "shop", moved("1_story_a", "1_backlog", "2_current", name="First"))
    await expect(page.locator("#rows .card")).to_have_count(1)
    await expect(page.locator("#welcome")).to_be_hidden()


async def test_a_laptop_that_slept_shows_what_it_missed_once(
    gateway: Gateway, page: Page, complaints: Complaints
) -> None:
    complaints.expect("ERR_EMPTY_RESPONSE|ERR_CONNECTION|ERR_INCOMPLETE_CHUNKED_ENCODING")
    async with Router.before(gateway.url) as router:
        await push(gateway.url, "shop", moved("1_story_a", "1_backlog", "2_current", name="Before"))
        await page.goto(router.url)
        await expect(page.locator("#link-text")).to_have_text("Live")
        # Long enough asleep, and whatever stands between has forgotten the stream; the laptop does not know.
        assert router.forget() == 1
        await push(gateway.url, "shop", held("2_story_b", "stuck", name="Meanwhile"))
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(page.locator("#events .line .title")).to_have_text(["Meanwhile", "Before"])
        await push(gateway.url, "shop", moved("1_story_a", "2_current", "3_qa", name="After"))
        await expect(page.locator("#events .line .title")).to_have_text(["After", "Meanwhile", "Before"])
        await expect(page.locator("#link-text")).to_have_text("Live")


# A headless browser takes every tab for seen; this says otherwise, as if another tab were chosen.
TABS = """
  let away = false;
  Object.defineProperty(document, "hidden", { get: () => away });
  window.look = (isAway) => {
    away = isAway;
    document.dispatchEvent(new Event("visibilitychange"));
  };
"""


async def test_of_many_tabs_that_nobody_looks_at_one_streams(
    gateway: Gateway, context: BrowserContext
) -> None:
    await context.add_init_script(TABS)
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say(moved("1_story_a", "1_backlog", "2_current", name="Before"))
        # More than a browser has connections to a host.
        first, *others = [await _left(context, gateway.url) for _ in range(8)]
        for tab in others:
            await expect(tab.locator("#link")).to_have_attribute("data-state", "stale")
        await sled.say(held("2_story_b", "stuck", name="Meanwhile"))
        # This one tells of it, and its title says so; the others tell nobody again.
        await expect(first).to_have_title("(1) Huskies")
        await others[-1].evaluate("look(false)")
        await expect(others[-1].locator("#events .line .title")).to_have_text(["Meanwhile", "Before"])
        await expect(others[-1].locator("#link-text")).to_have_text("Live")
        await first.close()
        await expect(others[0]).to_have_title("(1) Huskies")


async def _left(context: BrowserContext, url: str) -> Page:
    """A tab that was looked at, and is not any more."""
    tab = await context.new_page()
    await tab.goto(url)
    await expect(tab.locator("#link-text")).to_have_text("Live")
    await tab.evaluate("look(true)")
    return tab
