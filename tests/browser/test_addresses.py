"""Every view has an address: filters, a story's life, projects, and the way back."""

from __future__ import annotations

from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.browser.sleds import held, moved
from tests.support.relay_client import push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM

HOUR = 3_600_000
BEGAN = 1_700_000_000_000


async def test_a_filter_is_in_the_address_and_the_address_brings_it_back(
    gateway: Gateway, page: Page
) -> None:
    await push(
        gateway.url,
        "shop",
        moved("1_story_a", "1_backlog", "2_current", name="Alpha"),
        held("1_story_a", "stuck", name="Alpha"),
        held("2_story_b", "red", kind="merge_failure", name="Beta"),
    )
    await push(gateway.url, "bank", held("3_story_c", "stuck", name="Gamma"))
    titles = page.locator("#events .line .title")
    await page.goto(f"{gateway.url}/#/timeline")
    await expect(titles).to_have_text(["Gamma", "Beta", "Alpha", "Alpha"])
    await page.get_by_label("Kind").select_option("Blocked")
    await expect(titles).to_have_text(["Gamma", "Alpha"])
    await page.get_by_role("combobox", name="Project").select_option("shop")
    await expect(titles).to_have_text(["Alpha"])
    await page.get_by_label("Search the timeline").fill("nothing like that")
    await expect(page.get_by_text("0 events match, all searched.")).to_be_visible()
    address = page.url
    assert address.endswith("/#/timeline?project=shop&type=story_blocked&q=nothing+like+that")
    other = await page.context.new_page()
    await other.goto(address)
    await expect(other.get_by_label("Search the timeline")).to_have_value("nothing like that")
    await other.get_by_label("Search the timeline").fill("stuck")
    await expect(other.locator("#events .line .title")).to_have_text(["Alpha"])


async def test_a_time_range_is_the_events_own_time(gateway: Gateway, page: Page) -> None:
    await push(
        gateway.url, "shop", *(held(f"{n}_bug_x", "stuck", timestamp_ms=BEGAN + n * HOUR) for n in range(5))
    )
    await page.goto(f"{gateway.url}/#/timeline?since={BEGAN + HOUR}&until={BEGAN + 3 * HOUR}")
    await expect(page.locator("#events .line .title")).to_have_text(["2_bug_x", "1_bug_x"])
    await expect(page.get_by_label("From")).not_to_have_value("")
    await page.get_by_label("Time", exact=True).select_option("Last hour")
    await expect(page.get_by_text("No event is like that.")).to_be_visible()
    assert page.url.endswith("/#/timeline?last=1h")


async def test_a_storys_page_shows_its_whole_life(gateway: Gateway, page: Page) -> None:
    story = "7_story_pay"
    await push(
        gateway.url,
        "shop",
        moved(story, "1_backlog", "2_current", name="Pay", timestamp_ms=BEGAN),
        held(story, "which bank?", name="Pay", timestamp_ms=BEGAN + HOUR),
        moved(story, "2_current", "2_current", name="Pay", timestamp_ms=BEGAN + 3 * HOUR),
        moved(story, "2_current", "3_qa", name="Pay", timestamp_ms=BEGAN + 4 * HOUR),
        moved(story, "3_qa", "2_current", name="Pay", timestamp_ms=BEGAN + 5 * HOUR),
        moved(story, "2_current", "4_merge", name="Pay", timestamp_ms=BEGAN + 7 * HOUR),
        held(story, "conflict", kind="merge_failure", name="Pay", timestamp_ms=BEGAN + 8 * HOUR),
        moved(story, "4_merge", "5_done", name="Pay", timestamp_ms=BEGAN + 8 * HOUR + HOUR // 2),
    )
    await page.goto(gateway.url)
    await page.locator(".card a", has_text="Pay").click()
    await expect(page.get_by_role("heading", name="Pay")).to_be_focused()
    assert page.url.endswith(f"/#/story/shop/{story}")
    await expect(page.locator("#stage-rows tr")).to_contain_text(
        ["Backlog1not known", "Current26 h", "QA11 h", "Merge11 h 30 min", "Done1"]
    )
    facts = page.locator("#story-facts dd")
    await expect(facts).to_contain_text(["2023", "8 h 30 min", "1 time, 2 h", "1 time, 30 min", "8"])
    await expect(page.locator("#held-rows tr")).to_contain_text(["conflict", "which bank?"])
    await expect(page.locator("#life-bar rect[data-stage]")).to_have_count(4)
    await page.go_back()
    await expect(page.locator("#board")).to_be_visible()
    await expect(page.locator("#story")).to_be_hidden()


async def test_a_project_has_a_page_and_one_that_is_not_there_says_so(gateway: Gateway, page: Page) -> None:
    await push(gateway.url, "shop", held("1_bug_x", "stuck"))
    await push(gateway.url, "bank", held("2_bug_y", "stuck"))
    await page.goto(f"{gateway.url}/#/project/shop")
    await expect(page.locator("#rows .row")).to_have_count(1)
    await expect(page.locator(".need .title")).to_have_text(["1_bug_x"])
    await expect(page.locator("#events .line")).to_have_count(1)
    await expect(page).to_have_title("(2) shop · Huskies")
    await page.goto(f"{gateway.url}/#/project/none")
    await expect(page.get_by_text("The gateway knows no project of this name")).to_be_visible()


async def test_what_happened_before_a_block_is_one_click_away(gateway: Gateway, page: Page) -> None:
    await push(gateway.url, "shop", moved("1_bug_x", "2_current", "3_qa"), held("1_bug_x", "stuck"))
    await page.goto(f"{gateway.url}/#/attention")
    await page.get_by_text("What happened before").first.click()
    await expect(page.locator(".before .short")).to_contain_text(["blocked: stuck", "Current → QA"])
    await expect(page.get_by_text("That is all; see its whole life.")).to_be_visible()


async def test_scrolling_goes_on_into_history(gateway: Gateway, page: Page) -> None:
    await push(gateway.url, "shop", *(held(f"{n}_bug_x", "stuck") for n in range(450)))
    await page.goto(f"{gateway.url}/#/timeline")
    lines = page.locator("#events .line")
    await expect(lines.first).to_be_visible()
    assert await lines.count() < 450
    for seen in (200, 300, 400, 450):
        await lines.last.scroll_into_view_if_needed()
        await expect(lines.nth(seen - 1)).to_be_attached()
    await expect(page.get_by_text("That is all there is.")).to_be_visible()
