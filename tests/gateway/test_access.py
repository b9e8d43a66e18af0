"""Who may do what at a running gateway: scopes, logins, enrolled sleds, proxies, and what revoking ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from multidict import CIMultiDict
from tests.gateway.conftest import Eventually, Http, StartGateway, stop
from tests.support.operator import Operator
from tests.support.relay_client import (
    ClosedError,
    PushSocket,
    blocked,
    connect,
    connect_v1,
    new_epoch,
    new_key,
    push,
)

from huskies import limits
from huskies.errors import ConfigError
from huskies.gateway.access import audit
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway

READERS = ("/gateway/events", "/gateway/projects", "/gateway/stats")
WHOLE = ("/gateway/digests", "/gateway/peers", "/metrics")
ANYONES = ("/healthz", "/readyz", "/openapi.json", "/login", "/static/style.css")


@pytest.fixture
def access(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "gw")


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def statuses(gateway: Gateway, http: Http, headers: Mapping[str, str] | None = None) -> dict[str, int]:
    paths = (*READERS, *WHOLE, *ANYONES)
    return {path: (await http(gateway.url + path, headers=headers)).status for path in paths}


async def filled(gateway: Gateway) -> None:
    for project in ("shop", "blog"):
        await push(gateway.url, project, blocked(f"of {project}"))


# --- projects in containers ----------------------------------------------------------------------------

CONTAINERS = (
    ("POST", "/gateway/projects"),
    ("DELETE", "/gateway/projects/web-shop"),
    ("POST", "/gateway/projects/web-shop/stop"),
    ("POST", "/gateway/projects/web-shop/start"),
    ("GET", "/gateway/projects/web-shop/logs"),
    ("GET", "/gateway/containers"),
)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("admin", 0), ("read", 403), ("read:web-shop", 403), ("push:web-shop", 403), ("peer", 403), ("", 401)],
)
async def test_who_makes_and_removes_projects(  # noqa: PLR0917 - fixtures
    gateway: Gateway, http: Http, access: Operator, monkeypatch: pytest.MonkeyPatch, scope: str, expected: int
) -> None:
    # Nothing is made here, whoever may.
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/d.sock")
    access.make("ann", "read")
    headers = bearer(access.make("bob", scope)) if scope else {}
    for method, path in CONTAINERS:
        found = await http(gateway.url + path, method=method, headers=headers)
        # Beyond the gate there is no engine, and no body that says what to make.
        wanted = expected or (422 if path == "/gateway/projects" else 503)
        assert found.status == wanted, (method, path)
        assert isinstance(found.body["error"], str)


async def test_no_page_of_another_origin_makes_a_project(gateway: Gateway, http: Http) -> None:
    for method, path in CONTAINERS:
        if method != "GET":
            headers = {"Origin": "https://evil.example"}
            assert (await http(gateway.url + path, method=method, headers=headers)).status == 403
            # A name that was pointed at this machine.
            headers = {"Host": "evil.example"}
            assert (await http(gateway.url + path, method=method, headers=headers)).status == 401


# --- reading -----------------------------------------------------------------------------------------


async def test_on_this_machine_anyone_reads_until_a_token_says_who_may(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    assert set((await statuses(gateway, http)).values()) == {200}
    access.make("ann", "read")
    found = await statuses(gateway, http)
    assert {found[path] for path in (*READERS, *WHOLE)} == {401}
    assert {found[path] for path in ANYONES} == {200}
    access.revoke("ann")
    assert set((await statuses(gateway, http)).values()) == {200}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("read", (200, 200)),
        ("admin", (200, 200)),
        ("read:shop", (200, 403)),
        ("push:shop", (403, 403)),
        ("peer", (403, 403)),
    ],
)
async def test_a_token_reads_what_its_scopes_say(
    gateway: Gateway, http: Http, access: Operator, scope: str, expected: tuple[int, int]
) -> None:
    access.make("closed", "read")
    found = await statuses(gateway, http, bearer(access.make("one", scope)))
    readers, whole = expected
    assert {found[path] for path in READERS} == {readers}
    assert {found[path] for path in WHOLE} == {whole}
    assert {found[path] for path in ANYONES} == {200}


async def test_who_may_read_one_project_sees_nothing_of_another(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    await filled(gateway)
    headers = bearer(access.make("ann", "read:shop"))
    page = await http(f"{gateway.url}/gateway/events", headers=headers)
    assert [event["project"] for event in page.body["events"]] == ["shop"]
    page = await http(f"{gateway.url}/gateway/events", headers=headers, before="latest", story="1_bug_x")
    assert [event["project"] for event in page.body["events"]] == ["shop"]
    projects = (await http(f"{gateway.url}/gateway/projects", headers=headers)).body["projects"]
    assert [project["name"] for project in projects] == ["shop"]
    answer = await http(f"{gateway.url}/gateway/events", headers=headers, project="blog")
    assert answer.status == 403
    assert "may not read project blog" in answer.body["error"]
    async with reading(gateway, headers, after="0") as stream:
        await push(gateway.url, "blog", blocked("not for ann"))
        await push(gateway.url, "shop", blocked("for ann"))
        seen = [(await stream.event())["event"]["reason"] for _ in range(2)]
    assert seen == ["of shop", "for ann"]


@pytest.mark.parametrize(
    "headers",
    [
        bearer("husky_made-up"),
        {"Authorization": "Basic YW5uOnNlY3JldA=="},
        {"Cookie": "huskies=made-up"},
        {"Cookie": "__Host-huskies=made-up"},
        {"X-Forwarded-User": "ann"},
        {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "ann"},
    ],
    ids=str,
)
async def test_nothing_made_up_opens_anything(
    gateway: Gateway, http: Http, access: Operator, headers: dict[str, str]
) -> None:
    access.make("ann", "read")
    found = await statuses(gateway, http, headers)
    assert {found[path] for path in (*READERS, *WHOLE)} == {401}


async def test_a_refusal_says_what_to_do_and_how_one_authenticates(
    gateway: Gateway, http: Http, access: Operator
) -> None:
    access.make("ann", "read")
    answer = await http(f"{gateway.url}/gateway/projects")
    assert "`huskies token create NAME --scope read`" in answer.body["error"]
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="huskies"'


async def test_who_tries_too_often_is_told_no_more_and_good_tokens_are_let_in(
    gateway: Gateway, http: Http, access: Operator, eventually: Eventually
) -> None:
    good = access.make("ann", "read")
    url = f"{gateway.url}/gateway/projects"
    tried = [
        (await http(url, headers=bearer(f"guess-{number}"))).status
        for number in range(limits.FAILED_LOGINS_MAX + 2)
    ]
    assert tried == [401] * limits.FAILED_LOGINS_MAX + [429] * 2
    assert (await http(url, headers=bearer(good))).status == 200
    # The audit has counted them as one, and those beyond are in the metrics alone.
    await eventually(
        lambda: (
            [(entry.action, entry.count) for entry in access.entries()]
            == [("refused", limits.FAILED_LOGINS_MAX)]
        )
    )
    metrics = (await http(f"{gateway.url}/metrics", headers=bearer(good))).body
    assert f'huskies_refused_total{{kind="access"}} {limits.FAILED_LOGINS_MAX + 2}.0' in metrics


async def test_what_is_revoked_ends_at_once(
    gateway: Gateway, access: Operator, eventually: Eventually
) -> None:
    await filled(gateway)
    kept, gone = access.make("kept", "read"), access.make("gone", "read")
    async with (
        reading(gateway, bearer(kept), after="0") as stays,
        reading(gateway, bearer(gone), after="0") as ends,
    ):
        await ends.event()
        access.revoke("gone")
        await ends.until_closed()
        await push(gateway.url, "shop", blocked("later"))
        assert [(await stays.event())["event"]["reason"] for _ in range(3)][-1] == "later"
    await eventually(lambda: access.last_used()["gone"])


async def test_a_stream_that_was_open_to_anyone_ends_with_the_first_token(
    gateway: Gateway, access: Operator
) -> None:
    async with reading(gateway, {}, after="0") as stream:
        access.make("ann", "read")
        await stream.until_closed()


# --- people ------------------------------------------------------------------------------------------


class Browser(NamedTuple):
    session: aiohttp.ClientSession
    url: str

    async def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> Any:
        return await self.session.post(self.url + path, data=form, headers=headers, allow_redirects=False)

    async def get(self, path: str) -> Any:
        return await self.session.get(self.url + path, allow_redirects=False)


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Browser]:
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address, not a name
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Browser(session, url)


async def test_a_person_logs_in_with_a_token_and_out_again(
    gateway: Gateway, access: Operator, eventually: Eventually
) -> None:
    secret = access.make("ann", "read")
    async with browsing(gateway.url) as browser:
        page = await browser.get("/")
        assert (page.status, page.headers["Location"]) == (303, "/login")
        form = await (await browser.get("/login")).text()
        assert '<form method="post" action="/login">' in form
        # One, which carries what stands behind "#" past the login.
        assert form.count("<script") == 1
        entered = await browser.post("/login", token=f" {secret} ")
        assert (entered.status, entered.headers["Location"]) == (303, "/")
        cookie = entered.headers["Set-Cookie"]
        assert cookie.startswith("huskies=")
        assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
        assert secret not in cookie
        assert (await browser.get("/")).status == 200
        assert (await browser.get("/gateway/projects")).status == 200
        stolen = cookie.partition("=")[2].partition(";")[0]
        left = await browser.post("/logout")
        assert (left.status, left.headers["Location"]) == (303, "/login")
        assert (await browser.get("/gateway/projects")).status == 401
        # Not only the browser has forgotten it.
        answer = await browser.session.get(
            f"{gateway.url}/gateway/projects", headers={"Cookie": f"huskies={stolen}"}
        )
        assert answer.status == 401
    await eventually(lambda: {"login", "logout"} <= {entry.action for entry in access.entries()})


async def test_who_logged_in_finds_the_way_out(gateway: Gateway, access: Operator) -> None:
    async with browsing(gateway.url) as browser:
        assert "/logout" not in await (await browser.get("/")).text()
        await browser.post("/login", token=access.make("ann", "read"))
        page = await browser.get("/")
        assert '<form class="logout" method="post" action="/logout">' in await page.text()
        assert "form-action 'self'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-D\r\n\r\n"),
        ("application/x-www-form-urlencoded; charset=nothing", b"token=\xff"),
        ("application/x-www-form-urlencoded", b"a=1&" * 1_000),
    ],
)
async def test_a_form_that_is_none_is_refused_as_any_wrong_token(
    gateway: Gateway, access: Operator, kind: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FAILED_LOGIN_DELAY", 0.0)
    access.make("ann", "read")
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{gateway.url}/login", data=body, headers={"Content-Type": kind}) as answer,
    ):
        assert (answer.status, answer.content_type) == (401, "text/html")


async def test_a_login_ends_with_its_token_and_its_streams(gateway: Gateway, access: Operator) -> None:
    secret = access.make("ann", "read")
    access.make("other", "read")
    async with browsing(gateway.url) as browser:
        entered = await browser.post("/login", token=secret)
        cookie = {"Cookie": entered.headers["Set-Cookie"].partition(";")[0]}
        async with reading(gateway, cookie, after="0") as stream:
            await browser.post("/logout")
            await stream.until_closed()
        entered = await browser.post("/login", token=secret)
        access.revoke("ann")
        assert (await browser.get("/gateway/projects")).status == 401


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("made-up", "the token is unknown, revoked or has expired"),
        ("", "the token is unknown, revoked or has expired"),
        ("PUSHER", "this token may not read; it is for a program"),
    ],
)
async def test_a_login_that_fails_says_why_on_the_page(
    gateway: Gateway,
    access: Operator,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    said: str,
) -> None:
    monkeypatch.setattr(limits, "FAILED_LOGIN_DELAY", 0.0)
    access.make("ann", "read")
    pusher = access.make("ci", "push:shop")
    async with browsing(gateway.url) as browser:
        answer = await browser.post("/login", token=pusher if token == "PUSHER" else token)
        assert answer.status == (403 if token == "PUSHER" else 401)
        assert said in await answer.text()
        assert "Set-Cookie" not in answer.headers


async def test_without_tokens_there_is_nothing_to_log_in_to(gateway: Gateway) -> None:
    async with browsing(gateway.url) as browser:
        page = await browser.get("/login")
        assert (page.status, page.headers["Location"]) == (303, "/")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_page_of_another_origin_cannot_log_anyone_in_or_out(
    gateway: Gateway, access: Operator, origin: str
) -> None:
    secret = access.make("ann", "read")
    async with browsing(gateway.url) as browser:
        for path in ("/login", "/logout"):
            answer = await browser.post(path, {"Origin": origin}, token=secret)
            assert answer.status == 403
            assert "Set-Cookie" not in answer.headers
        own = await browser.post("/login", {"Origin": gateway.url}, token=secret)
        assert own.status == 303


async def test_the_pages_forbid_scripts_of_others_frames_and_sniffing(
    gateway: Gateway, access: Operator
) -> None:
    async with browsing(gateway.url) as browser:
        home = await browser.get("/")
        access.make("ann", "read")
        login = await browser.get("/login")
    for page in (home, login):
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "script-src 'self';" in policy


# --- behind a proxy ----------------------------------------------------------------------------------

PROXIED = """
[access]
trusted_proxies = ["127.0.0.1"]
user_header = "X-Forwarded-User"
user_scopes = ["read:shop"]
"""
OPEN = "[projects.shop]\nopen = true\n[projects.blog]\nopen = true\n"


async def test_a_user_whom_a_trusted_proxy_names_reads_what_the_file_says(
    start_gateway: StartGateway, http: Http, access: Operator
) -> None:
    # From the proxy's address nobody pushes for a project that is not open.
    gateway = await start_gateway(projects=PROXIED + OPEN)
    await filled(gateway)
    access.make("closed", "read")
    assert (await http(f"{gateway.url}/gateway/projects")).status == 401
    named = {"X-Forwarded-User": "ann@example.com"}
    answer = await http(f"{gateway.url}/gateway/projects", headers=named)
    assert [project["name"] for project in answer.body["projects"]] == ["shop"]
    assert (await http(f"{gateway.url}/metrics", headers=named)).status == 403


async def test_whom_a_proxy_names_reads_no_longer_than_the_file_says_so(
    start_gateway: StartGateway, access: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ACCESS_POLL", 0.02)
    gateway = await start_gateway(projects=PROXIED)
    access.make("closed", "read")
    headers = {"Accept": "text/event-stream", "X-Forwarded-User": "ann@example.com"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/gateway/events", headers=headers) as stream,
        asyncio.timeout(10),
    ):
        assert stream.status == 200
        less = PROXIED.replace("read:shop", "read:blog")
        (tmp_path / "gw" / "projects.toml").write_text(less)
        # It is cut off.
        with suppress(aiohttp.ClientPayloadError):
            await stream.content.read()


async def test_behind_tls_of_a_proxy_the_cookie_is_for_tls_alone(
    start_gateway: StartGateway, access: Operator
) -> None:
    gateway = await start_gateway(projects=PROXIED)
    secret = access.make("ann", "read")
    async with browsing(gateway.url) as browser:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "huskies.example"}
        entered = await browser.post(
            "/login", {**forwarded, "Origin": "https://huskies.example"}, token=secret
        )
        assert entered.status == 303
        cookie = entered.headers["Set-Cookie"]
    assert cookie.startswith("__Host-huskies=")
    assert "Secure" in cookie.split("; ")


async def test_only_the_origins_that_are_listed_may_use_it(
    start_gateway: StartGateway, access: Operator
) -> None:
    gateway = await start_gateway(projects='[access]\norigins = ["https://huskies.example"]\n')
    secret = access.make("ann", "read")
    async with browsing(gateway.url) as browser:
        for origin, status in (
            ("https://huskies.example", 303),
            ("https://huskies.example.evil", 403),
            ("http://huskies.example", 403),
            (gateway.url, 403),
        ):
            assert (await browser.post("/login", {"Origin": origin}, token=secret)).status == status


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'trusted_proxies = ["proxy.example"]',
            "access.trusted_proxies: expected addresses or networks such as",
        ),
        (
            'trusted_proxies = ["10.0.0.0/40"]',
            "access.trusted_proxies: expected addresses or networks such as",
        ),
        (
            'user_scopes = ["write"]',
            "access.user_scopes: expected push:PROJECT, read, read:PROJECT, admin or",
        ),
        ('origins = ["huskies.example"]', "access.origins: expected origins such as https://huskies.example"),
        ('origins = ["https://huskies.example/"]', "access.origins: expected origins such as"),
        ('user_header = "X-Forwarded-User"', "access.user_header: expected trusted_proxies beside it"),
        ('users = ["ann"]', "access.users: unknown key; expected one of trusted_proxies"),
    ],
)
async def test_what_the_file_says_of_access_is_checked_when_it_is_read(
    start_gateway: StartGateway, line: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        await start_gateway(projects=f"[access]\n{line}\n")
    assert problem in str(refused.value)


async def test_the_audit_names_the_client_behind_the_proxy(
    start_gateway: StartGateway, http: Http, access: Operator, eventually: Eventually
) -> None:
    gateway = await start_gateway(projects=PROXIED)
    access.make("closed", "read")
    await http(f"{gateway.url}/metrics", headers={"X-Forwarded-For": "1.2.3.4, 203.0.113.7"})
    await eventually(lambda: [entry.address for entry in access.entries()] == ["203.0.113.7"])


# --- sleds -------------------------------------------------------------------------------------------


async def test_a_token_pushes_for_its_projects_and_no_other(gateway: Gateway, access: Operator) -> None:
    secret = access.make("ci", "push:shop", "push:blog")
    for project in ("shop", "blog"):
        await push(gateway.url, project, blocked(), sled_token=secret)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await push(gateway.url, "bank", blocked(), sled_token=secret)
    assert refused.value.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await push(gateway.url, "shop", blocked())
    assert refused.value.status == 403


async def test_a_sled_whose_token_is_revoked_is_cut_off(gateway: Gateway, access: Operator) -> None:
    secret, other = access.make("ci", "push:shop"), access.make("other", "push:shop")
    async with (
        await connect(gateway.url, "shop", new_key(), new_epoch(), sled_token=secret) as sled,
        await connect_v1(gateway.url, "shop", secret) as older,
        await connect(gateway.url, "shop", new_key(), new_epoch(), sled_token=other) as stays,
    ):
        access.revoke("ci")
        frames, _ = await sled.until_closed()
        assert [frame["code"] for frame in frames] == ["unauthorized"]
        assert frames[0]["reason"] == "pushing for project shop was revoked"
        _, closed = await older.until_closed()
        assert "was revoked" in closed.reason
        await stays.send_events(1, blocked())
        await stays.acked(1)


async def test_a_sled_token_that_leaves_projects_toml_cuts_its_sled_off(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway(projects='[sled_tokens]\nshop = "secret-of-shop"\nblog = "b"\n')
    async with await connect(
        gateway.url, "shop", new_key(), new_epoch(), sled_token="secret-of-shop"
    ) as sled:
        (tmp_path / "gw" / "projects.toml").write_text('[sled_tokens]\nblog = "b"\n')
        frames, _ = await sled.until_closed()
    assert [frame["code"] for frame in frames] == ["unauthorized"]


async def test_of_a_project_that_enrols_its_sleds_only_those_push(gateway: Gateway, access: Operator) -> None:
    key, stranger = new_key(), new_key()
    sled_id = key.public_key().public_bytes_raw().hex()
    access.enrol("shop", sled_id)
    async with await connect(gateway.url, "shop", key, new_epoch()) as sled:
        await sled.send_events(1, blocked())
        await sled.acked(1)
        with pytest.raises(ClosedError, match="unauthorized"):
            await connect(gateway.url, "shop", stranger, new_epoch())
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect_v1(gateway.url, "shop")
        assert refused.value.status == 403
        # Its key is for its project alone.
        access.enrol("blog", "ab" * 32)
        with pytest.raises(ClosedError, match="unauthorized"):
            await connect(gateway.url, "blog", key, new_epoch())
        access.enrol("shop", sled_id, "revoked")
        frames, _ = await sled.until_closed()
    assert [frame["code"] for frame in frames] == ["unauthorized"]
    with pytest.raises(ClosedError, match="unauthorized"):
        await connect(gateway.url, "shop", key, new_epoch())


async def test_a_sled_in_this_process_needs_no_token_of_the_file(gateway: Gateway, access: Operator) -> None:
    """`huskies up` beside `huskies token make`: the secret is a hash, and the sled is ours."""
    access.make("shop", "push:shop")
    access.enrol("blog", "ab" * 32)
    for project in ("shop", "blog"):
        await push(gateway.url, project, blocked(), sled_token=gateway.own_token(project))
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await push(gateway.url, "bank", blocked(), sled_token=gateway.own_token("shop"))


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[" * 100_000, b'{"invite":"x"}', b"\xff", json.dumps({"invite": "0" * 8}).encode()],
    ids=lambda body: str(body[:12]),
)
async def test_an_enrolment_that_is_none_is_refused_in_words(gateway: Gateway, body: bytes) -> None:
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{gateway.url}/gateway/sleds", data=body)
        assert answer.status in (413, 422)
        assert "error" in await answer.json()


async def test_who_only_greets_is_not_shown_as_the_project_s_sled(gateway: Gateway, access: Operator) -> None:
    access.enrol("shop", "ab" * 32)
    async with await PushSocket.open(gateway.url, "shop") as stranger:
        assert (await stranger.next_frame())["type"] == "challenge"
        assert gateway.sessions.projects() == set()
        assert not gateway.sessions.present()
        assert (gateway.sessions.state("shop").connected, gateway.sessions.state("shop").last_seen_ms) == (
            False,
            None,
        )


async def test_who_guesses_invitations_is_told_nothing(gateway: Gateway) -> None:
    wanted = {
        "invite": "0" * 8,
        "project": "shop",
        "sled_id": "ab" * 32,
        "nonce": "0" * 64,
        "proof": "0" * 64,
        "signature": "0" * 128,
    }
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{gateway.url}/gateway/sleds", json=wanted)
        assert answer.status == 403
        assert await answer.json() == {"error": "the signature does not match the sled_id"}


# --- other gateways ----------------------------------------------------------------------------------


async def test_a_token_with_the_scope_peer_lets_another_gateway_replicate(
    start_gateway: StartGateway, access: Operator
) -> None:
    one = await start_gateway(projects='[peers]\ntoken = "shared"\n')
    peer, reader = access.make("two", "peer"), access.make("ann", "read")
    async with aiohttp.ClientSession() as session:
        for secret, status in ((peer, 101), ("shared", 101), (reader, 401), ("made-up", 401)):
            try:
                socket = await session.ws_connect(
                    f"{one.url}/gateway/peers", headers=bearer(secret), protocols=["huskies.peer.v1"]
                )
            except aiohttp.WSServerHandshakeError as error:
                assert error.status == status  # noqa: PT017 - one of several cases
            else:
                assert status == 101
                await socket.close()


# --- secrets -----------------------------------------------------------------------------------------


async def test_no_secret_is_left_anywhere(
    start_gateway: StartGateway,
    access: Operator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything that a run wrote: log lines, answers, metrics, the audit and every file of the gateway."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(limits, "FAILED_LOGIN_DELAY", 0.0)
    gateway = await start_gateway()
    told: list[str] = []
    secrets = {
        "reader": access.make("ann", "read"),
        "pusher": access.make("ci", "push:shop"),
        "wrong": "husky_wrong-secret-that-was-tried",
    }
    async with browsing(gateway.url) as browser:
        entered = await browser.post("/login", token=secrets["reader"])
        secrets["cookie"] = entered.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
        told += [await (await browser.get(path)).text() for path in (*READERS, *WHOLE)]
        for secret in list(secrets.values()):
            told += [
                await (await browser.post(path, bearer(secret), token=secret)).text()
                for path in ("/login", "/gateway/sleds", "/gateway/tokens")
            ]
            answer = await browser.session.get(
                f"{gateway.url}/gateway/events/push", params={"project": "shop", "token": secret}
            )
            told.append(await answer.text())
    async with aiohttp.ClientSession() as session:
        join = await session.post(f"{gateway.url}/gateway/tokens", headers=bearer(secrets["pusher"]))
        secrets["join"] = (await join.json())["token"]
        answer = await session.get(
            f"{gateway.url}/gateway/events/push", params={"project": "blog", "token": secrets["join"]}
        )
        told.append(await answer.text())
    await stop(gateway)
    told += [caplog.text, *(repr(entry) for entry in access.entries())]
    files = [path.read_bytes() for path in (tmp_path / "gw").iterdir() if path.is_file()]
    for name, secret in secrets.items():
        assert not [text for text in told if secret in text], name
        assert not [data for data in files if secret.encode() in data], name


# --- streams -----------------------------------------------------------------------------------------


class Stream:
    """A reader of the event stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def event(self) -> Any:
        """The next event, as it is told."""
        async with asyncio.timeout(10):
            async for line in self._response.content:
                if line.startswith(b"data: "):
                    return json.loads(line[6:])
        raise AssertionError("the stream ended")

    async def until_closed(self) -> None:
        async with asyncio.timeout(10):
            try:
                async for _ in self._response.content:
                    pass
            except aiohttp.ClientError:
                pass


@asynccontextmanager
async def reading(gateway: Gateway, headers: Mapping[str, str], **query: str) -> AsyncIterator[Stream]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{gateway.url}/gateway/events",
            params=query,
            headers={"Accept": "text/event-stream", **headers},
        ) as response,
    ):
        assert response.status == 200
        yield Stream(response)


# --- what a review found ------------------------------------------------------------------------------


async def test_a_protocol_that_is_offered_and_not_chosen_opens_nothing(
    gateway: Gateway, access: Operator
) -> None:
    """Of two header lines the server looks at the first; a key is asked for in v2 alone."""
    access.enrol("shop", "ab" * 32)
    async with aiohttp.ClientSession() as session:
        token = (await (await session.post(f"{gateway.url}/gateway/tokens")).json())["token"]
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = (
        f"GET /gateway/events/push?project=shop&token={token} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: x",
        "Sec-WebSocket-Protocol: huskies.relay.v2",
        "",
        "",
    )
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 403")
    writer.close()
    assert gateway.log.position == 0


async def test_a_name_that_was_pointed_at_this_machine_reads_nothing(gateway: Gateway, http: Http) -> None:
    """Its page is of the same origin for the browser, which sends no `Origin` then."""
    for name in ("evil.example", "evil.example:3000", "127.0.0.1.evil.example", "evil.example."):
        answer = await http(f"{gateway.url}/gateway/projects", headers={"Host": name})
        assert answer.status == 401, name
    # Nobody can own these, or point them elsewhere.
    for name in ("localhost", "127.0.0.1:1", "[::1]:80", "huskies", "web.localhost:3000", "10.0.0.1"):
        answer = await http(f"{gateway.url}/gateway/projects", headers={"Host": name})
        assert answer.status == 200, name


async def test_through_a_proxy_nobody_is_anyone_on_this_machine(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway(projects=PROXIED)
    headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": "localhost"}
    gateway.guard.refresh()
    assert gateway.guard.is_open
    # The tests themselves come from the proxy's address.
    assert (await http(f"{gateway.url}/gateway/projects", headers=headers)).status == 401
    assert (await http(f"{gateway.url}/login", headers=headers)).status == 200


async def test_bytes_that_are_no_text_end_nothing(
    start_gateway: StartGateway, access: Operator, eventually: Eventually
) -> None:
    gateway = await start_gateway(projects=PROXIED)
    access.make("closed", "read")
    parts = urlsplit(gateway.url)
    for line in (
        b"X-Forwarded-For: fe80::1%\xff",
        b"X-Forwarded-User: J\xf6rg",
        b"Authorization: Bearer \xff",
    ):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + line + b"\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readline()).split()[1] in (b"401", b"403")
        writer.close()
    await eventually(lambda: len(access.entries()) >= 2)
    assert gateway.ready


async def test_of_two_lines_about_the_client_the_last_counts(
    start_gateway: StartGateway, access: Operator, eventually: Eventually
) -> None:
    gateway = await start_gateway(projects=PROXIED)
    access.make("closed", "read")
    async with aiohttp.ClientSession() as session:
        for name in ("X-Forwarded-For", "X-Forwarded-User"):
            headers = CIMultiDict([(name, "6.6.6.6"), (name, "203.0.113.7")])
            answer = await session.get(f"{gateway.url}/gateway/projects", headers=headers)
            assert answer.status == 401
    await eventually(lambda: {entry.address for entry in access.entries()} == {"203.0.113.7", "127.0.0.1"})


async def test_where_tokens_say_who_reads_nobody_replicates_without_one(
    gateway: Gateway, access: Operator
) -> None:
    access.make("ann", "read")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{gateway.url}/gateway/peers", protocols=["huskies.peer.v1"])
    assert refused.value.status == 403


async def test_a_gateway_whose_token_is_revoked_is_cut_off(gateway: Gateway, access: Operator) -> None:
    secret = access.make("two", "peer")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{gateway.url}/gateway/peers", headers=bearer(secret), protocols=["huskies.peer.v1"]
        ) as socket,
    ):
        access.revoke("two")
        async with asyncio.timeout(10):
            said = [json.loads(message.data) async for message in socket]
    assert (said[-1]["type"], said[-1]["reason"]) == ("refused", "the token was revoked")


async def test_strangers_push_nothing_out_of_the_audit(
    gateway: Gateway, http: Http, access: Operator, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "REFUSALS_MAX", 3)
    access.make("ann", "read")
    file = AccessFile(access.directory)
    audit.note(file, Entry(at_ms=0, who="ann", action="token create", subject="ann"))
    file.close()
    for number in range(10):
        await http(f"{gateway.url}/made-up-{number}")
        await http(f"{gateway.url}/gateway/events/push", project=f"made-up-{number}")
    await eventually(lambda: sum(entry.count for entry in access.entries()) >= 21)
    actions = [(entry.who, entry.action, entry.subject) for entry in access.entries()]
    assert actions == [("ann", "token create", "ann"), ("", "refused", ""), ("", "refused a sled", "")]
