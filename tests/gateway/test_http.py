"""SPEC 4's endpoints over real HTTP: what they answer, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from tests.gateway.conftest import Eventually, Http, StartGateway, stop
from tests.support.relay_client import blocked, connect, new_epoch, new_key, push

from huskies.gateway.server import Gateway

SHOP_TOKEN = "token-of-the-shop"
PROJECTS = f"""
[projects.web-shop]
url = "http://web-shop:3001"
[projects.web]
open = true
[sled_tokens]
web-shop = "{SHOP_TOKEN}"
"""
EVENTS = "/gateway/events"


async def raw(gateway: Gateway, request: bytes) -> bytes:
    """The answer to a request that no ordinary client would send."""
    url = urlsplit(gateway.url)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


# --- tokens ------------------------------------------------------------------------------------------


async def test_a_join_token_is_random_and_says_how_long_it_lasts(gateway: Gateway, http: Http) -> None:
    answers = [await http(f"{gateway.url}/gateway/tokens", method="POST") for _ in range(3)]
    assert {answer.status for answer in answers} == {200}
    tokens = {answer.body["token"] for answer in answers}
    assert len(tokens) == 3
    assert all(len(token) >= 22 for token in tokens)
    assert answers[0].body["expires_in"] == 60


async def test_a_wrong_sled_token_is_401_and_logged_without_it(
    start_gateway: StartGateway, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    caplog.set_level(logging.INFO)
    headers = {"Authorization": "Bearer not-the-secret"}
    answer = await http(f"{gateway.url}/gateway/tokens", method="POST", headers=headers)
    assert (answer.status, list(answer.body)) == (401, ["error"])
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "sled token" in line.getMessage()
    assert "not-the-secret" not in caplog.text


async def test_the_right_sled_token_gets_a_join_token(start_gateway: StartGateway, http: Http) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {SHOP_TOKEN}"}
        assert (await http(f"{gateway.url}/gateway/tokens", method="POST", headers=headers)).status == 200


@pytest.mark.parametrize("credential", [b"Bearer \xff\xfe", b"Bearer \xed\xa0\x80"])
async def test_a_sled_token_that_is_no_text_is_401(start_gateway: StartGateway, credential: bytes) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    answer = await raw(
        gateway,
        b"POST /gateway/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: "
        + credential
        + b"\r\n\r\n",
    )
    assert answer.split(b" ")[1] == b"401"


# --- requests of foreign pages -----------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://[", "x", ""])
@pytest.mark.parametrize(
    ("method", "path", "accept"),
    [
        ("POST", "/gateway/tokens", "*/*"),
        ("GET", "/gateway/events/push?project=web", "*/*"),
        ("GET", EVENTS, "application/json"),
        ("GET", EVENTS, "text/event-stream"),
    ],
)
async def test_a_foreign_page_is_refused(  # noqa: PLR0917 - a case
    gateway: Gateway, http: Http, origin: str, method: str, path: str, accept: str
) -> None:
    answer = await http(f"{gateway.url}{path}", method=method, headers={"Origin": origin, "Accept": accept})
    assert (answer.status, list(answer.body)) == (403, ["error"])


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_foreign_page_embeds_nothing_and_a_link_to_here_is_followed(
    gateway: Gateway, http: Http, site: str
) -> None:
    """Where a browser says no `Origin`, it says that."""
    for path in ("/", EVENTS, "/gateway/projects", "/metrics", "/healthz", "/static/app.js"):
        for dest in ("empty", "script", "image", "iframe", "object", "embed"):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": dest}
            assert (await http(gateway.url + path, headers=headers)).status == 403, (path, dest)
        for headers in (
            {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
            {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        ):
            assert (await http(gateway.url + path, headers=headers)).status == 200, (path, headers)


@pytest.mark.parametrize("path", ["/", EVENTS, "/gateway/projects", "/metrics", "/healthz", "/nothing"])
async def test_no_answer_is_taken_for_what_it_is_not_or_framed(
    gateway: Gateway, http: Http, path: str
) -> None:
    headers = (await http(gateway.url + path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_a_foreign_page_cannot_open_a_push_connection(gateway: Gateway) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(
                f"{gateway.url}/gateway/events/push?project=web", origin="http://evil.example"
            )
    assert caught.value.status == 403


@pytest.mark.parametrize(("name", "status"), [("evil.example", 403), ("localhost", 200), ("127.0.0.1", 200)])
async def test_a_foreign_name_that_was_pointed_at_this_machine_is_foreign(
    gateway: Gateway, http: Http, name: str, status: int
) -> None:
    host = f"{name}:{urlsplit(gateway.url).port}"
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert (await http(f"{gateway.url}/gateway/tokens", method="POST", headers=headers)).status == status


async def test_a_page_of_the_gateway_itself_is_served(gateway: Gateway, http: Http) -> None:
    headers = {"Origin": gateway.url, "Accept": "application/json"}
    assert (await http(f"{gateway.url}{EVENTS}", headers=headers)).status == 200
    assert (await http(f"{gateway.url}/gateway/tokens", method="POST", headers=headers)).status == 200


# --- pages of history --------------------------------------------------------------------------------


async def test_an_empty_log_is_an_empty_page(gateway: Gateway, http: Http) -> None:
    asked: list[dict[str, Any]] = [{}, {"after": "0"}, {"before": "latest"}]
    for query in asked:
        answer = await http(f"{gateway.url}{EVENTS}", **query)
        assert (answer.status, answer.body) == (200, {"events": [], "next": None})


async def test_a_page_shows_events_as_the_specification_says(gateway: Gateway, http: Http) -> None:
    key, epoch = new_key(), new_epoch()
    async with await connect(gateway.url, "web-shop", key, epoch, 1) as client:
        await client.send_events(1, blocked("one"), blocked("two"))
        await client.acked(2)
    answer = await http(f"{gateway.url}{EVENTS}")
    one, two = answer.body["events"]
    assert list(one) == ["cursor", "project", "sled_id", "epoch", "seq", "received_ms", "replayed", "event"]
    assert one["event"] == blocked("one")
    assert (one["project"], one["epoch"], one["seq"], one["replayed"]) == ("web-shop", epoch, 1, True)
    assert one["sled_id"] == key.public_key().public_bytes_raw().hex()
    assert (two["seq"], two["replayed"]) == (2, False)


@pytest.fixture
async def filled(gateway: Gateway) -> Gateway:
    """Twenty events of two projects and two stories, one millisecond apart."""
    for project in ("shop", "blog"):
        await push(
            gateway.url,
            project,
            *(blocked(f"{project} {n}", f"{n % 2}_bug_x", timestamp_ms=n) for n in range(10)),
        )
    return gateway


async def walk(http: Http, url: str, way: str, start: str, **query: Any) -> list[str]:
    found: list[str] = []
    at: str | None = start
    while at is not None:
        place: dict[str, Any] = {way: at}
        answer = await http(f"{url}{EVENTS}", **query, **place)
        assert answer.status == 200
        found += [shown["event"]["reason"] for shown in answer.body["events"]]
        at = answer.body["next"]
    return found


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, list(range(20))),
    ({"project": "blog"}, list(range(10, 20))),
    ({"story": "1_bug_x"}, list(range(1, 20, 2))),
    ({"story": "0_bug_x", "project": "shop"}, list(range(0, 10, 2))),
    ({"type": "story_blocked", "since": "8"}, [8, 9, 18, 19]),
    ({"type": "merge_failure"}, []),
    ({"since": "3", "until": "5"}, [3, 4, 13, 14]),
]


@pytest.mark.parametrize("limit", ["1", "3", "1000"])
@pytest.mark.parametrize(("query", "numbers"), FILTERS)
async def test_cursors_walk_over_everything_once_in_both_directions(
    filled: Gateway, http: Http, query: dict[str, Any], numbers: list[int], limit: str
) -> None:
    wanted = [f"{'shop' if number < 10 else 'blog'} {number % 10}" for number in numbers]
    assert await walk(http, filled.url, "after", "0", limit=limit, **query) == wanted
    assert await walk(http, filled.url, "before", "latest", limit=limit, **query) == wanted[::-1]


async def test_a_page_has_a_hundred_events_unless_asked_otherwise(gateway: Gateway, http: Http) -> None:
    await push(gateway.url, "shop", *(blocked(str(number)) for number in range(101)))
    answer = await http(f"{gateway.url}{EVENTS}")
    assert len(answer.body["events"]) == 100
    assert answer.body["next"] == answer.body["events"][-1]["cursor"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"limit": "1.5"}, {"limit": ""}, {"limit": "٣"},
        {"since": "x"}, {"since": "-1"}, {"until": "9" * 30}, {"until": ""},
        {"type": "nothing"}, {"type": ""}, {"project": ""}, {"project": "a b"}, {"project": "x" * 65},
        {"after": "nonsense"}, {"before": "nonsense"}, {"after": "latest"},
        {"before": "latest", "after": "0"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_parameter_that_cannot_be_is_422(gateway: Gateway, http: Http, query: dict[str, Any]) -> None:
    answer = await http(f"{gateway.url}{EVENTS}", **query)
    assert (answer.status, list(answer.body)) == (422, ["error"])
    assert answer.body["error"]


@pytest.mark.parametrize("way", ["after", "before"])
async def test_a_cursor_of_another_log_is_409(gateway: Gateway, http: Http, way: str) -> None:
    place: dict[str, Any] = {way: "00000000-1-00000000"}
    answer = await http(f"{gateway.url}{EVENTS}", **place)
    assert (answer.status, list(answer.body)) == (409, ["error"])


# --- projects ----------------------------------------------------------------------------------------


async def test_a_listed_project_is_shown_before_it_ever_pushed(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    answer = await http(f"{gateway.url}/gateway/projects")
    web, shop = answer.body["projects"]
    assert (web["name"], web["url"], shop["name"]) == ("web", None, "web-shop")
    assert shop["url"] == "http://web-shop:3001"
    assert (shop["connected"], shop["last_seen_ms"], shop["outstanding"], shop["stories"]) == (
        False, None, None, [],
    )  # fmt: skip


async def test_a_project_shows_where_its_stories_stand(gateway: Gateway, http: Http) -> None:
    moved = {
        "type": "stage_transition", "story_id": "1_bug_x", "story_name": "X", "from_stage": "3_qa",
        "to_stage": "4_merge", "timestamp_ms": 100,
    }  # fmt: skip
    failed = {"type": "merge_failure", "story_id": "1_bug_x", "reason": "conflict", "timestamp_ms": 200}
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send_events(1, moved, blocked("stuck"), failed)
        await client.acked(3)
        [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
        assert (project["name"], project["connected"], project["outstanding"]) == ("shop", True, 0)
        assert project["last_seen_ms"] > 0
        [story] = project["stories"]
        shown = {"story_id", "story_name", "stage", "since_ms", "blocked", "merge_failure"}
        assert {name: value for name, value in story.items() if name in shown} == {
            "story_id": "1_bug_x", "story_name": "X", "stage": "4_merge", "since_ms": 100,
            "blocked": "stuck", "merge_failure": "conflict",
        }  # fmt: skip
        await client.send_events(4, {**moved, "from_stage": "4_merge"})
        await client.acked(4)
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    assert (project["stories"][0]["blocked"], project["stories"][0]["merge_failure"]) == (None, None)


async def test_a_projects_own_server_is_shown_and_not_asked(start_gateway: StartGateway, http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        gateway = await start_gateway(projects=f'[projects.shop]\nurl = "{url}"\n')
        await push(gateway.url, "shop", blocked())
        for path in ("/", EVENTS, "/metrics", "/readyz"):
            assert (await http(gateway.url + path)).status == 200
        [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
        assert project["url"] == url
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_when_a_project_was_last_seen_is_unix_milliseconds(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    async def last_seen_ms() -> int:
        [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
        return int(project["last_seen_ms"])

    before_ms = time.time_ns() // 1_000_000
    async with await connect(gateway.url, "shop", new_key(), new_epoch()):
        assert before_ms <= await last_seen_ms() <= time.time_ns() // 1_000_000
        for now_ms in (4_000_000_000_000, 4_000_000_000_001):
            monkeypatch.setattr(gateway.sessions, "now_ms", partial(int, now_ms))
            assert await last_seen_ms() == now_ms
    await eventually(lambda: "shop" not in gateway.sessions.projects())
    monkeypatch.undo()
    assert await last_seen_ms() == 4_000_000_000_001


async def test_a_project_whose_sled_left_is_not_connected(
    gateway: Gateway, http: Http, eventually: Eventually
) -> None:
    await push(gateway.url, "shop", blocked())
    await eventually(lambda: "shop" not in gateway.sessions.projects())
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    assert (project["connected"], project["outstanding"]) == (False, None)
    assert project["last_seen_ms"] > 0


# --- the rest ----------------------------------------------------------------------------------------


async def test_health_and_readiness(gateway: Gateway, http: Http) -> None:
    alive = await http(f"{gateway.url}/healthz")
    assert (alive.status, alive.body) == (200, {"status": "ok"})
    ready = await http(f"{gateway.url}/readyz")
    assert (ready.status, ready.body) == (200, {"status": "ready"})
    gateway.ready = False
    stopping = await http(f"{gateway.url}/readyz")
    assert (stopping.status, stopping.body) == (503, {"status": "stopping"})


async def test_the_metrics_have_these_names(gateway: Gateway, http: Http, eventually: Eventually) -> None:
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        await client.send_events(1, blocked("a"), blocked("b"))
        await client.acked(2)
        await eventually(lambda: gateway.index.position == 2)
        answer = await http(f"{gateway.url}/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    values = dict(re.findall(r"^(huskies\S+) (\S+)$", answer.body, re.MULTILINE))
    assert {name: float(values[name]) for name in (
        'huskies_events_received_total{protocol="v2"}', "huskies_events_appended_total",
        "huskies_commits_total",
        'huskies_connections{protocol="v2"}', 'huskies_connections{protocol="v1"}', "huskies_readers",
        "huskies_log_position", "huskies_commit_events_count",
    )} == {
        'huskies_events_received_total{protocol="v2"}': 2, "huskies_events_appended_total": 2,
        "huskies_commits_total": 1, 'huskies_connections{protocol="v2"}': 1,
        'huskies_connections{protocol="v1"}': 0, "huskies_readers": 0, "huskies_log_position": 2,
        "huskies_commit_events_count": 1,
    }  # fmt: skip
    assert "huskies_index_position" in values


async def test_the_position_is_known_to_prometheus_after_a_restart(
    start_gateway: StartGateway, http: Http
) -> None:
    gateway = await start_gateway()
    await push(gateway.url, "shop", blocked("a"), blocked("b"))
    await stop(gateway)
    again = await start_gateway()
    body = (await http(f"{again.url}/metrics")).body
    assert "huskies_log_position 2.0" in body


async def test_the_dashboard_is_served_with_a_strict_policy(gateway: Gateway, http: Http) -> None:
    answer = await http(f"{gateway.url}/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for path in sorted(set(re.findall(r'(?:href|src)="(/static/[^"]+)"', answer.body))):
        assert (await http(f"{gateway.url}{path}")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/static/../secrets", 404),
        ("GET", "/gateway/tokens", 405),
        ("POST", "/gateway/events", 405),
        ("DELETE", "/gateway/projects", 405),
    ],
)
async def test_what_is_not_there_is_json_too(
    gateway: Gateway, http: Http, method: str, path: str, status: int
) -> None:
    answer = await http(f"{gateway.url}{path}", method=method)
    assert (answer.status, list(answer.body)) == (status, ["error"])
    assert ("Allow" in answer.headers) == (status == 405)


async def test_a_push_that_is_no_upgrade_is_426_and_uses_no_token_up(gateway: Gateway, http: Http) -> None:
    token = (await http(f"{gateway.url}/gateway/tokens", method="POST")).body["token"]
    headers = {"Authorization": f"Bearer {token}"}
    for _ in range(2):
        answer = await http(f"{gateway.url}/gateway/events/push", headers=headers, project="shop")
        assert (answer.status, list(answer.body)) == (426, ["error"])


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n",
    ],
    ids=["no host", "no value", "no text"],
)
async def test_a_request_that_is_no_http_is_400_and_no_line_of_the_log(
    gateway: Gateway, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await raw(gateway, request_)).split(b" ")[1] == b"400"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- the OpenAPI document ----------------------------------------------------------------------------


def schema_of(document: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    answer = document["paths"][path][method]["responses"][str(status)]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return {**schema, "components": document["components"]}


async def test_the_openapi_document_names_every_endpoint(gateway: Gateway, http: Http) -> None:
    document = (await http(f"{gateway.url}/openapi.json")).body
    assert document["openapi"].startswith("3.1.")
    assert set(document["paths"]) == {
        "/", "/gateway/events", "/gateway/events/push", "/gateway/projects", "/gateway/tokens", "/healthz",
        "/gateway/digests", "/gateway/peers", "/gateway/sleds", "/gateway/stats", "/login", "/logout",
        "/metrics", "/openapi.json", "/readyz", "/gateway/containers", "/gateway/projects/{name}",
        "/gateway/notifications", "/gateway/notifications/{id}/resend", "/gateway/projects/{name}/logs",
        "/gateway/projects/{name}/start", "/gateway/projects/{name}/stop",
    }  # fmt: skip
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_every_answer_is_as_the_openapi_document_says(start_gateway: StartGateway, http: Http) -> None:
    gateway = await start_gateway(projects=PROJECTS)
    hard = {
        "type": "rate_limit_hard_block", "story_id": "1_bug_x", "agent_name": "coder",
        "reset_at": "2026-01-01T00:00:00Z", "timestamp_ms": 1,
    }  # fmt: skip
    await push(gateway.url, "web", blocked(), hard)
    document = (await http(f"{gateway.url}/openapi.json")).body
    bad = {"Authorization": "Bearer wrong"}
    foreign = {"Origin": "http://evil.example"}
    asked: list[tuple[str, str, int, dict[str, str], dict[str, Any]]] = [
        ("/gateway/tokens", "post", 200, {}, {}),
        ("/gateway/tokens", "post", 401, bad, {}),
        ("/gateway/tokens", "post", 403, foreign, {}),
        ("/gateway/events/push", "get", 401, bad, {"project": "web"}),
        ("/gateway/events/push", "get", 403, foreign, {"project": "web"}),
        ("/gateway/events/push", "get", 422, {}, {"project": "a b"}),
        ("/gateway/events", "get", 200, {}, {"limit": "1"}),
        ("/gateway/events", "get", 403, foreign, {}),
        ("/gateway/events", "get", 409, {}, {"after": "00000000-1-00000000"}),
        ("/gateway/events", "get", 422, {}, {"limit": "0"}),
        ("/gateway/projects", "get", 200, {}, {}),
        ("/gateway/stats", "get", 200, {}, {}),
        ("/gateway/stats", "get", 422, {}, {"days": "0"}),
        ("/gateway/digests", "get", 200, {}, {}),
        ("/gateway/digests", "get", 422, {}, {"seq": "1"}),
        ("/gateway/sleds", "post", 422, {}, {}),
        ("/logout", "post", 403, foreign, {}),
        ("/healthz", "get", 200, {}, {}),
        ("/readyz", "get", 200, {}, {}),
    ]
    for path, method, status, headers, query in asked:
        answer = await http(f"{gateway.url}{path}", method=method.upper(), headers=headers, **query)
        assert answer.status == status, (path, answer)
        jsonschema.validate(answer.body, schema_of(document, path, method, status))
    gateway.ready = False
    answer = await http(f"{gateway.url}/readyz")
    jsonschema.validate(answer.body, schema_of(document, "/readyz", "get", 503))


async def test_the_documents_parameters_are_those_that_are_taken(gateway: Gateway, http: Http) -> None:
    document = (await http(f"{gateway.url}/openapi.json")).body
    named = {p["name"] for p in document["paths"]["/gateway/events"]["get"]["parameters"]}
    assert named == {
        "after",
        "before",
        "limit",
        "project",
        "type",
        "story",
        "since",
        "until",
        "Last-Event-ID",
    }
    assert json.dumps(document)
