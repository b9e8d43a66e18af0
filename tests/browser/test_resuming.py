"""What happens while the gateway is away: the page says so, and goes on without a reload."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM, Complaints
from tests.browser.sleds import held, moved
from tests.gateway.conftest import StartGateway, stop
from tests.support.relay_client import push

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
    await expect(page.locator("#link-text")).to_have_text("Live", timeout=30_000)
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
