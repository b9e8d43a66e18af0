"""A page of another origin in the browser of someone who may read: nothing is gained, and nothing changed.

The victim is logged in, or sits at a machine where a gateway is open to everyone on it. The attacker's page
stands on another site, or on another port of the gateway's own host: that one is of the same site, so that
`SameSite` keeps no cookie from it. What was tried is judged by what the gateway did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Response
from tests.browser.conftest import IN_CHROMIUM, Complaints, log_in_unseen
from tests.gateway.conftest import until
from tests.support.attacker import Attacker, attacking
from tests.support.operator import Operator
from tests.support.relay_client import blocked, push

from huskies.gateway.access.audit import Entry
from huskies.gateway.openapi import document
from huskies.gateway.server import Gateway

pytestmark = IN_CHROMIUM

ANYONES = ("/healthz", "/login", "/openapi.json", "/readyz", "/static/app.js", "/static/icon.svg")
GUARDED = sorted({path for path, item in document()["paths"].items() if "get" in item} - set(ANYONES))


class Scene(NamedTuple):
    """The attacker's page is open in `page`; `secret` is the victim's token, where one is needed."""

    page: Page
    gateway: Gateway
    attacker: Attacker
    origin: str
    secret: str | None
    access: Operator

    async def is_untouched(self) -> None:
        """Nothing was pushed, nobody logged in or out, and the victim still reads."""
        assert self.gateway.log.position == 1
        assert not self.gateway.sessions.projects()
        assert self.gateway.admission._tokens == {}
        actions = [entry.action for entry in self.audit() if entry.outcome == "ok"]
        assert actions == (["login"] if self.secret else [])
        page = await self.page.context.new_page()
        await page.goto(self.gateway.url)
        await page.get_by_text("Live", exact=True).wait_for()
        await page.close()

    def audit(self) -> list[Entry]:
        self.gateway.guard.write()
        return self.access.entries()


@pytest_asyncio.fixture(loop_scope="session")
async def attacker() -> AsyncIterator[Attacker]:
    async with attacking() as one:
        yield one


@pytest_asyncio.fixture(
    loop_scope="session",
    params=[(name, logged_in) for name in ("attacker.example", "127.0.0.1") for logged_in in (True, False)],
    ids=lambda given: f"{given[0]}-{'logged in' if given[1] else 'open'}",
)
async def scene(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    page: Page,
    gateway: Gateway,
    attacker: Attacker,
    access: Operator,
    complaints: Complaints,
) -> Scene:
    name, logged_in = request.param
    await push(gateway.url, "shop", blocked("the reason"))
    await until(lambda: not gateway.sessions.projects())
    secret = access.make("ann", "read") if logged_in else None
    if secret is not None:
        await log_in_unseen(page.context, gateway, secret)
    origin = attacker.origin(name)
    # What the attacker's page is denied stands on its console.
    complaints.expect(of=origin)
    await page.goto(origin)
    return Scene(page, gateway, attacker, origin, secret, access)


READ = """([urls, mode, credentials, accept]) => Promise.all(urls.map(async (url) => {
  try {
    const signal = AbortSignal.timeout(8000);
    const answer = await fetch(url, { mode, credentials, headers: { Accept: accept }, signal });
    return [answer.type, answer.status, await answer.text()];
  } catch (error) {
    return error.name;
  }
}))"""


def note_served(page: Page) -> list[str]:
    """What the gateway answers the page with, from now on; the login page is anyone's."""
    served: list[str] = []

    def note(answer: Response) -> None:
        if answer.status == 200 and not answer.url.endswith("/login"):
            served.append(answer.url)

    page.on("response", note)
    return served


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
async def test_it_reads_nothing(scene: Scene, mode: str) -> None:
    served = note_served(scene.page)
    urls = [scene.gateway.url + path for path in GUARDED]
    for credentials in ("include", "omit"):
        for accept in ("*/*", "text/event-stream"):
            got = await scene.page.evaluate(READ, [urls, mode, credentials, accept])
            assert all(one in ("TypeError", ["opaque", 0, ""]) for one in got), got
            assert len(scene.gateway.readers) == 0
    # Nor does it lie in the memory of the attacker's process, where no script could reach it.
    assert mode == "cors" or served == []
    await scene.is_untouched()


EMBED = """([tag, attribute, urls]) => Promise.all(urls.map((url) => new Promise((resolve) => {
  const node = document.createElement(tag);
  if (tag === "link") node.rel = "stylesheet";
  node.onload = () => resolve("load");
  node.onerror = () => resolve("error");
  node[attribute] = url;
  document.body.append(node);
})))"""


async def test_it_embeds_nothing_and_is_not_told_what_there_is(scene: Scene) -> None:
    """What loads, and what does not, would tell of a project that is there, and of one that is not."""
    served = note_served(scene.page)
    paths = (*GUARDED, "/gateway/events?project=shop", "/gateway/events?limit=0", "/static/app.js")
    urls = [scene.gateway.url + path for path in paths]
    for tag, attribute in (
        ("script", "src"), ("img", "src"), ("link", "href"), ("object", "data"), ("iframe", "src"),
    ):  # fmt: skip
        told = await scene.page.evaluate(EMBED, [tag, attribute, urls])
        assert len(set(told)) == 1, (tag, told)
        assert served == [], tag
    await scene.is_untouched()


SOCKET = """([url, protocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => resolve("open");
  socket.onerror = () => resolve("error");
})"""
STREAM = """([url, withCredentials]) => new Promise((resolve) => {
  const source = new EventSource(url, { withCredentials });
  source.onopen = () => resolve("open");
  source.onerror = () => { source.close(); resolve("error"); };
})"""
SOCKETS: Final[Sequence[tuple[str, list[str]]]] = (
    ("/gateway/events/push?project=shop", ["huskies.relay.v2"]),
    ("/gateway/events/push?project=shop", []),
    ("/gateway/peers", ["huskies.peer.v1"]),
)


async def test_it_opens_no_stream_and_no_socket(scene: Scene) -> None:
    for credentials in (True, False):
        url = f"{scene.gateway.url}/gateway/events"
        assert await scene.page.evaluate(STREAM, [url, credentials]) == "error"
    assert len(scene.gateway.readers) == 0
    for path, protocols in SOCKETS:
        url = scene.gateway.url.replace("http", "ws") + path
        assert await scene.page.evaluate(SOCKET, [url, protocols]) == "error"
    await scene.is_untouched()


SUBMIT = """([action, fields, enctype]) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action, enctype, target: "_blank" });
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement("input"), { name, value }));
  }
  document.body.append(form);
  form.submit();
}"""
SEND = """([urls, body]) => Promise.all(urls.map((url) => {
  const form = new URLSearchParams(body);
  navigator.sendBeacon(url, form);
  return fetch(url, { method: "POST", mode: "no-cors", credentials: "include", body: form }).catch(() => 0);
}))"""
POSTS = sorted(path for path, item in document()["paths"].items() if "post" in item)
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("by", ["form", "no referrer", "redirect"])
async def test_what_it_posts_changes_nothing(scene: Scene, by: str, complaints: Complaints) -> None:
    """Login CSRF with the attacker's own token, logout CSRF, a join token, an enrolment."""
    # The refusals, and the icon that the browser asks for beside them.
    complaints.expect("status of 40[13]", of=scene.gateway.url)
    own = {"token": scene.access.make("eve", "read:eves") if scene.secret else "guess"}
    if by == "no referrer":
        # The browser says `Origin: null` then, as it does when it was sent on.
        await scene.page.goto(f"{scene.origin}/?referrer=no-referrer")
    await scene.page.evaluate(SEND, [[scene.gateway.url + path for path in POSTS], own])
    for path, kind in (("/login", FORM), ("/logout", FORM), ("/gateway/tokens", "text/plain")):
        url = scene.gateway.url + path
        target = f"{scene.origin}/redirect?to={url}" if by == "redirect" else url
        async with scene.page.context.expect_page() as opening:
            await scene.page.evaluate(SUBMIT, [target, own, kind])
        opened = await opening.value
        await opened.wait_for_url(url)
        assert "another origin" in await opened.inner_text("body")
        await opened.close()
    assert "refused" in {entry.action for entry in scene.audit()}
    await scene.is_untouched()


async def test_who_opens_the_dashboard_sees_nothing_of_it(scene: Scene, context: BrowserContext) -> None:
    async with context.expect_page() as opening:
        await scene.page.evaluate("(url) => { window.victim = open(url) }", scene.gateway.url)
    dashboard = await opening.value
    await dashboard.get_by_text("the reason").first.wait_for()
    tried = """() => Object.fromEntries(
      ["document", "localStorage", "name", "origin", "board", "history"].map((name) => {
        try { return [name, String(victim[name])] } catch (error) { return [name, error.name] }
      }))"""
    assert set((await scene.page.evaluate(tried)).values()) == {"SecurityError"}
    before = await dashboard.inner_text("main h2 >> nth=0")
    await scene.page.evaluate(
        "() => { for (const data of ['x', { type: 'status' }]) victim.postMessage(data, '*') }"
    )
    assert await dashboard.inner_text("main h2 >> nth=0") == before
    # There is nothing to count in it either.
    assert await scene.page.evaluate("() => victim.length") == 0
    await dashboard.close()
    await scene.is_untouched()


# --- a name that is pointed at this machine ----------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def rebound(chromium: Browser) -> AsyncIterator[Page]:
    """A page that was loaded while its name was still the attacker's own server's: no policy binds it."""
    context = await chromium.new_context(bypass_csp=True)
    yield await context.new_page()
    await context.close()


@pytest.mark.parametrize("logged_in", [True, False])
async def test_a_page_whose_name_was_pointed_at_the_gateway_does_nothing(
    rebound: Page,
    gateway: Gateway,
    access: Operator,
    logged_in: bool,  # noqa: FBT001 - a case
) -> None:
    """For the browser it is of one origin with the gateway: it reads whatever it is answered."""
    await push(gateway.url, "shop", blocked("the reason"))
    if logged_in:
        await log_in_unseen(rebound.context, gateway, access.make("ann", "read"))
    page, origin = rebound, gateway.url.replace("127.0.0.1", "rebound.example")
    await page.goto(f"{origin}/healthz")
    urls = [origin + path for path in GUARDED if path != "/"]
    for accept in ("*/*", "text/event-stream"):
        got = await page.evaluate(READ, [urls, "cors", "include", accept])
        assert all(one[1] in (401, 403, 422) for one in got), got
    posted: dict[str, Any] = await page.evaluate(
        """async (paths) => {
          const answers = await Promise.all(paths.map((path) => fetch(path, { method: "POST" })));
          return Object.fromEntries(answers.map((answer, index) => [paths[index], answer.status]));
        }""",
        POSTS,
    )
    assert set(posted.values()) == {403}
    url = origin.replace("http", "ws") + "/gateway/events/push?project=shop"
    assert await page.evaluate(SOCKET, [url, ["huskies.relay.v2"]]) == "error"
    assert gateway.log.position == 1


# --- a sled that may push for one project ------------------------------------------------------------

# A cell shows so many cards, and counts the others.
STAGES = ("2_current", "3_qa")
MARKUP = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</bdi><svg onload=alert(1)><h2>Nothing needs you.</h2>",
    '"><iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}${alert(1)}",
    "\u202egpj.exe <style>*{display:none}</style>",
)


# Where the dashboard shows what a sled said, each with the address of its view.
PLACES = {
    "#needs": "#/attention",
    "#rows": "#/board",
    "#events": "#/timeline",
    "#story": "#/story/{project}/{story}",
}


async def test_names_and_reasons_that_are_markup_stay_a_text(
    page: Page, gateway: Gateway, access: Operator
) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective}`))"
    )
    token = access.make("eve", "push:onerror-alert")
    secret = access.make("ann", "read")
    moved = {
        "type": "stage_transition",
        "story_id": "1_bug_x",
        "from_stage": "1_backlog",
        "to_stage": "2_current",
    }
    plain = ({**moved, "story_name": "", "timestamp_ms": 1}, blocked(timestamp_ms=2))
    await push(gateway.url, "plain", *plain, sled_token=access.make("plain", "push:plain"))
    await log_in_unseen(page.context, gateway, secret)
    await page.goto(gateway.url)
    await page.get_by_text("stuck").first.wait_for()
    tags = "() => [...new Set([...document.querySelectorAll('*')].map((node) => node.localName))].sort()"
    attributes = """() => [...document.querySelectorAll('*')]
      .flatMap((node) => [...node.attributes])
      .filter(({ name, value }) => /^(on|srcdoc)/.test(name) || /^javascript:/i.test(value)).length"""
    before: set[str] = set()
    for place, view in PLACES.items():
        await page.goto(f"{gateway.url}/{view.format(project='plain', story='1_bug_x')}")
        await page.locator(f"{place} >> visible=true").get_by_text("1_bug_x").first.wait_for()
        before |= set(await page.evaluate(tags))
    await page.goto(gateway.url)
    await page.locator("#events").get_by_text("stuck").first.wait_for()
    events: list[dict[str, Any]] = []
    for number, text in enumerate(MARKUP):
        named = {"story_id": f"{number}_bug_x", "story_name": text, "timestamp_ms": number + 1}
        events += [
            {"type": "stage_transition", "from_stage": "1_backlog", "to_stage": STAGES[number % 2], **named},
            {**named, "type": "story_blocked", "reason": text},
            {**named, "type": "merge_failure", "reason": text},
            {"type": "rate_limit_warning", "agent_name": text, **named},
        ]
    async with page.expect_response("**/gateway/projects*"):
        await push(gateway.url, "onerror-alert", *events, sled_token=token)
    await page.locator("#events").get_by_text(MARKUP[0], exact=True).first.wait_for()
    for place, view in PLACES.items():
        for number, text in enumerate(MARKUP):
            address = view.format(project="onerror-alert", story=f"{number}_bug_x")
            if number == 0 or place == "#story":
                await page.goto(f"{gateway.url}/{address}")
            await page.locator(place).get_by_text(text, exact=True).first.wait_for()
            assert set(await page.evaluate(tags)) <= before
            assert await page.evaluate(attributes) == 0
    assert dialogs == []


@pytest.mark.parametrize(
    "link",
    [
        "/?project=<img src=x onerror=alert(1)>#<img src=x onerror=alert(1)>",
        "/?after=0&filter=shop&story=1_bug_x#timeline-title",
        "/#javascript:alert(1)",
        "/login?problem=<script>alert(1)</script>&token=x&next=//attacker.example#<script>alert(1)</script>",
    ],
)
async def test_a_link_of_the_attackers_shows_no_more_than_one_without(
    page: Page, gateway: Gateway, link: str
) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await push(gateway.url, "shop", blocked("the reason"))
    shown = (
        "() => [...document.querySelectorAll('body *')].map((node) => node.localName + '#' + node.id).join()"
    )
    found: list[tuple[str, str]] = []
    for path in ("/", link):
        await page.goto(gateway.url + path)
        await page.get_by_text("Live", exact=True).wait_for()
        await page.locator("#events").get_by_text("the reason").wait_for()
        # It comes by itself, and last.
        await page.locator("#last time").wait_for()
        found.append((await page.evaluate(shown), await page.input_value("#filter-project")))
    assert found[0] == found[1]
    assert page.url.startswith(gateway.url)
    assert dialogs == []
