"""Apprise's library with a real server behind one of its plugins."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
        self.go_on = threading.Event()
        self.go_on.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.taken.append(json.loads(body))
                service.go_on.wait(10)
                self.send_response(service.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:in-the-url@127.0.0.1:{self.server.server_port}/"


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


async def test_a_service_that_does_not_take_it(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    service.status = 500
    channel = AppriseChannel("phone", service.url)
    with pytest.raises(DeliveryError, match="the service did not take it"):
        await channel.send(MESSAGE)
    out, err = capfd.readouterr()
    assert "in-the-url" not in caplog.text + out + err


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
