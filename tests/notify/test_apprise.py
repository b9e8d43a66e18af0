"""Apprise's library with a real server behind one of its plugins."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from apprise.plugins.custom_json import NotifyJSON
from apprise.url import URLBase
from requests.adapters import HTTPAdapter

from huskies.errors import ConfigError
from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing, Receipt
from huskies.notify.channels import apprise
from huskies.notify.channels.apprise import AppriseChannel, check_url

MESSAGE = Outgoing(
    delivery_id="0123456789abcdef0123456789abcdef",
    subject="shop: 42 Login is blocked",
    text="shop: 42 Login is blocked\nwhy & <how>",
    html="",
    queued_ms=0,
)


class Service:
    """Takes what the json:// plugin posts."""

    def __init__(self) -> None:
        self.taken: list[dict[str, str]] = []
        self.status = 200
        self.breaks_off = False
        self.came = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.taken.append(json.loads(body))
                service.came.set()
                service.go_on.wait(10)
                if service.breaks_off:
                    return
                self.send_response(service.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:in-the-url@127.0.0.1:{self.server.server_port}/"

    async def until_it_came(self) -> None:
        """Whoever gave up waiting for the answer may have done so before the message was read."""
        assert await asyncio.to_thread(self.came.wait, 10)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.go_on.set()
    found.server.shutdown()
    found.server.server_close()
    thread.join()


async def test_it_hands_over(service: Service) -> None:
    channel = AppriseChannel("phone", service.url)
    assert await channel.send(MESSAGE) == Receipt("")
    [taken] = service.taken
    assert taken["title"] == "shop: 42 Login is blocked"
    assert taken["message"] == "why & <how>"
    await channel.close()


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
async def test_a_service_that_does_not_take_it(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    service.status = status
    channel = AppriseChannel("phone", service.url)
    with pytest.raises(DeliveryError, match="the service did not take it"):
        await channel.send(MESSAGE)
    out, err = capfd.readouterr()
    assert "in-the-url" not in caplog.text + out + err


@pytest.mark.parametrize("status", [502, 504])
async def test_a_proxy_s_word_is_no_answer(service: Service, status: int) -> None:
    service.status = status
    with pytest.raises(DoubtfulError, match="it failed after it may have been sent"):
        await AppriseChannel("phone", service.url).send(MESSAGE)


async def test_an_answer_that_is_lost_is_in_doubt(service: Service) -> None:
    service.breaks_off = True
    with pytest.raises(DoubtfulError, match="it failed after it may have been sent"):
        await AppriseChannel("phone", service.url).send(MESSAGE)
    assert len(service.taken) == 1


async def test_an_answer_that_does_not_come_in_time_is_in_doubt(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(URLBase, "socket_read_timeout", 0.05)
    monkeypatch.setattr(apprise, "_READ_LIMIT", 0.1)
    service.go_on.clear()
    with pytest.raises(DoubtfulError, match="it failed after it may have been sent"):
        await AppriseChannel("phone", service.url).send(MESSAGE)
    await service.until_it_came()
    assert len(service.taken) == 1


async def test_a_service_has_time_to_answer_unless_its_url_says_how_long(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[object] = []
    send = HTTPAdapter.send

    def sending(*arguments: Any, **more: Any) -> Any:
        limits.append(more["timeout"])
        return send(*arguments, **more)

    monkeypatch.setattr(HTTPAdapter, "send", sending)
    await AppriseChannel("phone", service.url).send(MESSAGE)
    await AppriseChannel("phone", service.url + "?rto=9&cto=3").send(MESSAGE)
    assert limits == [(8.0, 50.0), (3.0, 9.0)]


@pytest.mark.parametrize(
    "url", ["json://127.0.0.1:{}/", "jsons://127.0.0.1:{}/", "mailto://127.0.0.1:{}/?from=a@b.example"]
)
async def test_a_service_that_is_away_has_taken_nothing(url: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        channel = AppriseChannel("phone", url.format(nobody.getsockname()[1]))
        with pytest.raises(DeliveryError, match="the service did not take it"):
            await channel.send(MESSAGE)


async def test_a_name_that_is_none_has_taken_nothing() -> None:
    with pytest.raises(DeliveryError, match="the service did not take it"):
        await AppriseChannel("phone", "json://nobody.invalid/").send(MESSAGE)


async def test_mail_that_breaks_off_is_in_doubt() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        channel = AppriseChannel("mail", f"mailto://127.0.0.1:{port}/?from=a@b.example")
        with pytest.raises(DoubtfulError, match="it failed after it may have been sent"):
            await channel.send(MESSAGE)


async def test_of_what_cannot_be_watched_nothing_is_known(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise TypeError("made up")

    monkeypatch.setattr(NotifyJSON, "send", fail)
    with pytest.raises(DoubtfulError, match="it failed after it may have been sent"):
        await AppriseChannel("phone", service.url).send(MESSAGE)


async def test_one_that_hangs_is_in_doubt_and_holds_up_one_thread_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise, "_LIMIT", 0.2)
    service.go_on.clear()
    channel = AppriseChannel("phone", service.url)
    with pytest.raises(DoubtfulError, match="was not done within"):
        await channel.send(MESSAGE)
    with pytest.raises(DeliveryError, match="the message before is still under way"):
        await channel.send(MESSAGE)
    await service.until_it_came()
    assert len(service.taken) == 1
    service.go_on.set()
    assert channel._thread is not None
    channel._thread.join(10)


@pytest.mark.parametrize("url", ["", "nonsense", "nosuch://secret@host"])
def test_what_apprise_does_not_know_is_refused_unseen(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^ops: expected one URL that Apprise understands; what is there is none$"
    ):
        check_url(url, "ops")
