"""A sled joins a gateway with an invitation, and each knows the other from then on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.gateway.conftest import Eventually, StartGateway

from huskies.config import SledSettings
from huskies.errors import ConfigError, HuskiesError
from huskies.events.model import StoryBlocked
from huskies.gateway.access import sleds
from huskies.gateway.access.file import AccessFile
from huskies.gateway.server import Gateway
from huskies.protocol import enrolment
from huskies.protocol.enrolment import ENROL_PATH, Enrolled, Enrolment
from huskies.sled.joining import join
from huskies.sled.layout import Layout
from huskies.sled.pins import load_pins, pin
from huskies.sled.service import Sled


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "web-shop").mkdir()
    return Layout(tmp_path / "web-shop")


@pytest.fixture
def access(tmp_path: Path, gateway: Gateway) -> Iterator[AccessFile]:
    del gateway
    opened = AccessFile(tmp_path / "gw")
    yield opened
    opened.close()


def invited(access: AccessFile, project: str = "web-shop") -> str:
    return sleds.invite(access, project, created_by="ann", now_ms=0, lifetime_ms=2**60, adds=False)


async def test_once_joined_a_sled_needs_no_token(
    gateway: Gateway, access: AccessFile, layout: Layout, eventually: Eventually
) -> None:
    enrolled = await join(layout, "web-shop", gateway.url + "/", invited(access))
    assert (enrolled.project, enrolled.state) == ("web-shop", "active")
    assert load_pins(layout) == {gateway.url: gateway.peers.gateway_id}
    sled = Sled(
        SledSettings(project_dir=layout.project_dir, name="web-shop", gateway_url=gateway.url, port=0)
    )
    await sled.start()
    try:
        assert [known.sled_id for known in sleds.all_sleds(access)] == [sled.sled_id]
        await sled.broadcaster.publish(StoryBlocked(story_id="1_x", reason="joined"))
        await eventually(lambda: gateway.log.position == 1)
        assert gateway.sessions.state("web-shop").connected
    finally:
        await sled.stop()


async def test_a_gateway_that_is_not_the_one_it_joined_gets_nothing(  # noqa: PLR0917 - fixtures
    start_gateway: StartGateway,
    gateway: Gateway,
    access: AccessFile,
    layout: Layout,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await join(layout, "web-shop", gateway.url, invited(access))
    hostile = await start_gateway(name="hostile")
    # As if its address now led there.
    pin(layout, hostile.url, gateway.peers.gateway_id)
    sled = Sled(
        SledSettings(project_dir=layout.project_dir, name="web-shop", gateway_url=hostile.url, port=0)
    )
    await sled.start()
    try:
        await sled.broadcaster.publish(StoryBlocked(story_id="1_x", reason="secret"))
        await eventually(lambda: "than the one that the sled was enrolled with" in caplog.text)
    finally:
        await sled.stop()
    assert hostile.log.position == 0


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("nonsense", "HUSKIES_INVITE: expected an invitation"),
        ("husky-invite-00000000-" + "x" * 32, "refuses: the invitation is not one of this gateway's"),
    ],
)
async def test_a_code_that_is_none_is_refused(
    gateway: Gateway, layout: Layout, code: str, problem: str
) -> None:
    with pytest.raises(HuskiesError, match=problem):
        await join(layout, "web-shop", gateway.url, code)
    assert load_pins(layout) == {}


async def test_an_invitation_for_another_project_says_so(
    gateway: Gateway, access: AccessFile, layout: Layout
) -> None:
    with pytest.raises(HuskiesError, match="is for project blog, and this one is web-shop"):
        await join(layout, "web-shop", gateway.url, invited(access, "blog"))


async def test_who_cannot_be_reached_is_named(layout: Layout) -> None:
    with pytest.raises(HuskiesError, match=r"the gateway at http://127\.0\.0\.1:9 cannot be reached"):
        await join(layout, "web-shop", "http://127.0.0.1:9", "husky-invite-00000000-" + "x" * 32)


class Liar:
    """What answers at an address instead of the gateway: it does not know the invitation's secret."""

    def __init__(self) -> None:
        self.says = web.json_response({})

    async def enrol(self, request: web.Request) -> web.Response:
        wanted = json.loads(await request.read())
        body = Enrolled(gateway_id="ab" * 32, project="web-shop", state="active", proof=wanted["proof"])
        text = json.dumps({name: getattr(body, name) for name in Enrolled.__struct_fields__})
        return self.says if self.says.body != b"{}" else web.Response(text=text)


@pytest.fixture
async def liar() -> AsyncIterator[tuple[Liar, str]]:
    liar = Liar()
    app = web.Application()
    app.router.add_post(ENROL_PATH, liar.enrol)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield liar, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_who_does_not_know_the_invitation_is_not_taken_for_the_gateway(
    liar: tuple[Liar, str], layout: Layout
) -> None:
    """Also where it sends back what the sled itself proved."""
    with pytest.raises(HuskiesError, match="is not the gateway that the invitation came from"):
        await join(layout, "web-shop", liar[1], "husky-invite-00000000-" + "x" * 32)
    assert load_pins(layout) == {}


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b"nonsense", "HTTP 200; is this a Huskies gateway"),
        (404, b"<html>", "HTTP 404; is this a Huskies gateway"),
        (403, b'{"error":"no\\u001b[31m"}', r"refuses: no"),
        (200, b"x" * 100_000, "answers what cannot be used|larger than"),
    ],
)
async def test_answers_that_are_none_are_said_to_be_so(
    liar: tuple[Liar, str], layout: Layout, status: int, body: bytes, problem: str
) -> None:
    liar[0].says = web.Response(status=status, body=body)
    with pytest.raises(HuskiesError, match=problem) as caught:
        await join(layout, "web-shop", liar[1], "husky-invite-00000000-" + "x" * 32)
    assert "\x1b" not in str(caught.value)


def test_pins_that_are_damaged_stop_the_sled(layout: Layout) -> None:
    layout.state.mkdir(parents=True)
    layout.gateways.write_text("{")
    with pytest.raises(ConfigError, match="is damaged; remove it and join the gateway again"):
        load_pins(layout)


def test_several_gateways_may_be_joined(layout: Layout) -> None:
    layout.state.mkdir(parents=True)
    pin(layout, "http://a", "ab" * 32)
    pin(layout, "http://b", "cd" * 32)
    pin(layout, "http://a", "ef" * 32)
    assert load_pins(layout) == {"http://a": "ef" * 32, "http://b": "cd" * 32}


def test_what_the_sled_proves_is_bound_to_its_key() -> None:
    parsed = enrolment.parse_code("husky-invite-00000000-" + "x" * 32)
    assert parsed is not None
    texts = {enrolment.sled_text(parsed.id, "a", key * 32, "0" * 64) for key in ("ab", "cd")}
    assert len({enrolment.prove(parsed.key, text) for text in texts}) == 2
    assert Enrolment.__struct_config__.forbid_unknown_fields
