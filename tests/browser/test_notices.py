"""Notifications: of live events that need someone, one for each, and only where they were asked for."""

from __future__ import annotations

import pytest_asyncio
from playwright.async_api import Page, expect
from tests.browser.conftest import IN_CHROMIUM
from tests.browser.sleds import Sled, held, moved

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM

# What the page hands to the browser: whether a desktop shows it is no matter of ours.
RECORDING = """
  window.told = [];
  window.Notification = class extends EventTarget {
    static permission = "default";
    static async requestPermission() { return (this.permission = "granted"); }
    constructor(title, options) { super(); window.told.push([title, options.body]); }
  };
"""


@pytest_asyncio.fixture(loop_scope="session")
async def told(page: Page) -> Page:
    await page.add_init_script(RECORDING)
    return page


async def test_live_blocks_are_told_once_and_replays_are_not(gateway: Gateway, told: Page) -> None:
    async with Sled.at(gateway.url, "shop", replays=2) as sled:
        await told.goto(gateway.url)
        await told.get_by_role("button", name="Notify me").click()
        await expect(told.get_by_role("button", name="Notifying")).to_be_visible()
        # What happens before the page knows the board is no news to it.
        await expect(told.locator("#link-text")).to_have_text("Live")
        await sled.say(held("1_bug_x", "old"), held("2_bug_y", "old"))
        await sled.say(held("3_bug_z", "stuck", name="Zeta"), moved("4_bug_w", "1_backlog", "2_current"))
        await sled.say(held("4_bug_w", "conflict", kind="merge_failure"))
        await expect(told.locator("#events .line")).to_have_count(5)
    assert await told.evaluate("window.told") == [
        ["Blocked: Zeta", "shop\nstuck"],
        ["Merge failed: 4_bug_w", "shop\nconflict"],
    ]


async def test_nobody_is_told_who_did_not_ask(gateway: Gateway, told: Page) -> None:
    await told.goto(gateway.url)
    await expect(told.locator("#link-text")).to_have_text("Live")
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say(held("3_bug_z", "stuck"))
        await expect(told.locator(".need")).to_have_count(1)
    assert await told.evaluate("window.told") == []


async def test_a_rate_limit_that_is_relayed_needs_someone_until_it_is_over(
    gateway: Gateway, page: Page
) -> None:
    limit = {
        "type": "rate_limit_hard_block", "story_id": "1_bug_x", "story_name": "", "agent_name": "coder",
        "reset_at": "2199-01-01T00:00:00Z",
    }  # fmt: skip
    now = await page.evaluate("Date.now()")
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say(moved("1_bug_x", "1_backlog", "2_current"), {**limit, "timestamp_ms": now})
        await page.goto(gateway.url)
        await expect(page.locator('.need[data-kind="limited"]')).to_contain_text(
            "Agent coder is rate-limited."
        )
        await sled.say(moved("1_bug_x", "2_current", "3_qa", timestamp_ms=now))
        await expect(page.locator(".need")).to_have_count(0)


async def test_a_warning_of_a_rate_limit_is_shown_for_a_while_and_no_instead_of_a_limit(
    gateway: Gateway, page: Page
) -> None:
    now = await page.evaluate("Date.now()")
    about = {"story_id": "1_bug_x", "story_name": "", "agent_name": "coder", "timestamp_ms": now}
    warning = {"type": "rate_limit_warning", **about}
    async with Sled.at(gateway.url, "shop") as sled:
        await sled.say({**warning, "agent_name": "old", "timestamp_ms": now - 3_700_000}, warning)
        await page.goto(gateway.url)
        near = page.locator('.need[data-kind="near"]')
        await expect(near).to_contain_text(["Agent coder is close to its rate limit."])
        await sled.say(
            {"type": "rate_limit_hard_block", **about, "reset_at": "2199-01-01T00:00:00Z"}, warning
        )
        await expect(page.locator('.need[data-kind="limited"]')).to_have_count(1)
        await expect(near).to_have_count(0)
