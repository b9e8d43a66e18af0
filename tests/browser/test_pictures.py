"""The pictures: the gateway's own numbers, said in words, and said to be unfinished while they are."""

from __future__ import annotations

from playwright.async_api import Page, Route, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.browser.sleds import held, moved
from tests.support.relay_client import push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM


async def test_what_was_done_and_who_waits_is_shown(gateway: Gateway, page: Page) -> None:
    now = await page.evaluate("Date.now()")
    await push(
        gateway.url,
        "shop",
        moved("1_bug_x", "2_current", "3_qa", timestamp_ms=now - 60_000),
        moved("1_bug_x", "3_qa", "5_done", timestamp_ms=now - 30_000),
        held("2_bug_y", "stuck", timestamp_ms=now - 20_000),
    )
    await page.goto(f"{gateway.url}/#/pictures?days=7")
    await expect(page.locator("#throughput-headline")).to_have_text("1 story done")
    await expect(page.get_by_role("radio", name="7 days")).to_be_checked()
    await expect(page.locator("#throughput-picture svg")).to_have_attribute(
        "aria-label", "Stories done a day, over 7 days: 1 story in all"
    )
    await expect(page.locator("#waits-note")).to_have_text("1 story is blocked now")
    await page.get_by_text("The numbers").first.click()
    await expect(page.locator("#throughput-numbers tbody tr")).to_have_count(7)


async def test_what_is_still_being_worked_out_is_said(gateway: Gateway, page: Page) -> None:
    await push(gateway.url, "shop", *(held(f"{n}_bug_x", "stuck") for n in range(3)))

    async def behind(route: Route) -> None:
        answer = await (await route.fetch()).json()
        log_id, _, _ = answer["cursor"].split("-")
        await route.fulfill(json={**answer, "cursor": f"{log_id}-1-00000000"})

    await page.route("**/gateway/stats?*", behind)
    await page.goto(f"{gateway.url}/#/pictures")
    await expect(page.get_by_text("The gateway still works out 2 events of 3")).to_be_visible()
    await page.unroute("**/gateway/stats?*")
    await expect(page.get_by_text("still works out")).to_be_hidden()
