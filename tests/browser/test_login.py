"""Logging in and out as a person does it, in a browser that says where its requests come from."""

from __future__ import annotations

from playwright.async_api import Page
from tests.browser.conftest import IN_CHROMIUM, Complaints, log_in
from tests.support.operator import Operator
from tests.support.relay_client import blocked, push

from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM


async def test_a_person_logs_in_and_out(
    page: Page, gateway: Gateway, access: Operator, complaints: Complaints
) -> None:
    # Logging out ends the page's stream; now and then that is seen before the page is left.
    complaints.expect("ERR_INCOMPLETE_CHUNKED_ENCODING|401", of=f"{gateway.url}/")
    await push(gateway.url, "shop", blocked("the reason"))
    secret = access.make("ann", "read")
    await log_in(page, gateway, secret)
    await page.locator("#events").get_by_text("the reason").wait_for()
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url(f"{gateway.url}/login")
    assert await page.context.cookies() == []
    await page.goto(gateway.url)
    assert page.url == f"{gateway.url}/login"


async def test_a_login_leads_to_the_view_that_was_asked_for(
    page: Page, gateway: Gateway, access: Operator, complaints: Complaints
) -> None:
    complaints.expect("401")
    await push(gateway.url, "shop", blocked("the reason"))
    secret = access.make("ann", "read")
    view = f"{gateway.url}/#/timeline?type=story_blocked"
    await page.goto(view)
    await page.get_by_label("Your token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("alert").wait_for()
    await page.get_by_label("Your token").fill(secret)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(view)
    await page.locator("#events").get_by_text("the reason").wait_for()
