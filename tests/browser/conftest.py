"""A real Chromium, a real gateway, and what the pages of a test complained about.

Playwright's objects belong to the event loop that started them, and Chromium is started once for each worker:
so all tests here run in one loop, with their gateways, and begin with `pytestmark = IN_CHROMIUM`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    WebError,
    async_playwright,
    expect,
)
from tests.gateway.conftest import StartGateway, starting
from tests.support.groups import INTERFACES
from tests.support.operator import Operator

from huskies.gateway.server import Gateway

CHROMIUM: Final = shutil.which("chromium")
# Marks, and no call of `skip`, so that what is missing is said in one line.
IN_CHROMIUM: Final = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: `make needs` installs it"),
    INTERFACES,
]
# A browser on a busy machine takes its time; what is expected of a page has as long as everything else.
_PATIENCE_MS: Final = 30_000
expect.set_options(timeout=_PATIENCE_MS)
_ARGUMENTS: Final = (
    # It looks for nothing on the network by itself.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    # Nothing here is drawn for anyone, and drawing by software takes a processor.
    "--disable-gpu",
    # Names that an attacker owns, pointed at this machine; RFC 2606 gives these to nobody.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    # Not for the session: an open browser takes a third of a processor from the tests that follow.
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        await browser.close()


class Complaints:
    """Errors on the console (what a Content-Security-Policy stops, too), and scripts that failed."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []
        self._expected: list[tuple[str, str]] = []

    def expect(self, pattern: str = "", *, of: str = "") -> None:
        """What matches is no reason to fail, where the page's URL begins with `of`."""
        self._expected.append((of, pattern))

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._said.append((message.page.url if message.page else "", message.text))

    def on_error(self, error: WebError) -> None:
        self._said.append((error.page.url if error.page else "", str(error.error)))

    def unexpected(self) -> list[tuple[str, str]]:
        return [
            (url, text)
            for url, text in self._said
            if not any(url.startswith(of) and re.search(pattern, text) for of, pattern in self._expected)
        ]


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest_asyncio.fixture(loop_scope="session")
async def context(
    chromium: Browser, complaints: Complaints, start_gateway: StartGateway
) -> AsyncIterator[BrowserContext]:
    """A person's browser: its cookies and its tabs."""
    # It goes before the gateway does, and complains of nothing that is not there any more.
    del start_gateway
    one = await chromium.new_context()
    one.set_default_timeout(_PATIENCE_MS)
    one.on("console", complaints.on_console)
    one.on("weberror", complaints.on_error)
    yield one
    await one.close()
    assert not complaints.unexpected()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


@pytest_asyncio.fixture(loop_scope="session")
async def start_gateway(tmp_path: Path) -> AsyncIterator[StartGateway]:
    async with starting(tmp_path) as start_one:
        yield start_one


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


@pytest.fixture
def access(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "gw")


async def log_in_unseen(context: BrowserContext, gateway: Gateway, secret: str) -> None:
    """Without a page of the gateway's."""
    answer = await context.request.post(f"{gateway.url}/login", form={"token": secret}, max_redirects=0)
    assert answer.status == 303


async def log_in(page: Page, gateway: Gateway, secret: str) -> None:
    """As a person does it; the dashboard is shown when this returns."""
    await page.goto(f"{gateway.url}/login")
    await page.get_by_label("Your token").fill(secret)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(f"{gateway.url}/")
