"""Webhooks to a real server: what is sent, and what its answers mean."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate

import pytest
from tests.support.webhooks import Receiver

from huskies.errors import ConfigError
from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing
from huskies.notify.channels import webhook
from huskies.notify.channels.webhook import WebhookChannel, check_url, parse_secret, signatures

MESSAGE = Outgoing(
    delivery_id="0123456789abcdef0123456789abcdef",
    subject="shop: 42 Login is blocked",
    text="shop: 42 Login is blocked\nwhy",
    html="",
    queued_ms=1_767_268_800_123,
    edits="earlier",
    about=("aa/e1/1",),
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.stop()


@pytest.fixture
async def channel(receiver: Receiver) -> AsyncIterator[WebhookChannel]:
    found = WebhookChannel("ops", receiver.url, (receiver.key, b"x" * 24), time.time)
    yield found
    await found.close()


async def test_it_is_a_signed_cloud_event(receiver: Receiver, channel: WebhookChannel) -> None:
    receipt = await channel.send(MESSAGE)
    assert receipt.remote_id == MESSAGE.delivery_id
    [hook] = receiver.hooks
    assert receiver.is_signed(hook)
    # One signature for each secret: the receiver may know the new or the old one.
    assert len(hook.headers["webhook-signature"].split()) == 2
    assert hook.id == MESSAGE.delivery_id
    assert abs(int(hook.headers["webhook-timestamp"]) - time.time()) < 60
    assert hook.headers["content-type"] == "application/cloudevents+json"
    assert hook.event == {
        "specversion": "1.0",
        "id": MESSAGE.delivery_id,
        "source": "/gateway/notifications",
        "type": "dev.huskies.notification",
        "time": "2026-01-01T12:00:00.123Z",
        "datacontenttype": "application/json",
        "data": {
            "subject": "shop: 42 Login is blocked",
            "text": "shop: 42 Login is blocked\nwhy",
            "about": ["aa/e1/1"],
            "urgent": False,
            "replaces": "earlier",
        },
    }


def test_the_signature_is_that_of_the_standard() -> None:
    # The example of the specification.
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "ops")
    body = b'{"test": 2432232314}'
    assert signatures((secret,), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(
    ("status", "headers", "permanent", "retry_after"),
    [
        (410, {}, True, None),
        (301, {"Location": "/"}, True, None),
        (404, {}, False, None),
        (500, {}, False, None),
        (429, {"Retry-After": "120"}, False, 120.0),
        (503, {"Retry-After": "no time at all"}, False, None),
    ],
)
async def test_what_answers_mean(  # noqa: PLR0917 - two fixtures and a row of the table
    receiver: Receiver,
    channel: WebhookChannel,
    status: int,
    headers: dict[str, str],
    permanent: bool,  # noqa: FBT001 - a parameter of the test
    retry_after: float | None,
) -> None:
    receiver.answer = lambda _: (status, headers)
    with pytest.raises(DeliveryError, match=f"HTTP {status}") as caught:
        await channel.send(MESSAGE)
    assert (caught.value.permanent, caught.value.retry_after) == (permanent, retry_after)


async def test_a_time_to_try_again_may_be_a_date(receiver: Receiver, channel: WebhookChannel) -> None:
    receiver.answer = lambda _: (503, {"Retry-After": formatdate(time.time() + 90, usegmt=True)})
    with pytest.raises(DeliveryError) as caught:
        await channel.send(MESSAGE)
    assert caught.value.retry_after is not None
    assert 60 < caught.value.retry_after <= 90


async def test_nobody_listens_is_certain() -> None:
    # Bound and not listening: until this is over the kernel gives the port to nobody else.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/secret"
        channel = WebhookChannel("ops", url, (b"x" * 24,), time.time)
        with pytest.raises(DeliveryError, match="the connection failed") as caught:
            await channel.send(MESSAGE)
    assert "secret" not in str(caught.value)
    await channel.close()


async def test_no_answer_is_in_doubt(receiver: Receiver, channel: WebhookChannel) -> None:
    receiver.answer = lambda _: None
    with pytest.raises(DoubtfulError, match="no answer came"):
        await channel.send(MESSAGE)
    assert len(receiver.hooks) == 1


async def test_an_answer_that_does_not_come_in_time_is_in_doubt(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_LIMIT", 0.2)
    slow = WebhookChannel("ops", receiver.url, (b"x" * 24,), time.time)

    given_up = threading.Event()

    def answer(_: object) -> tuple[int, dict[str, str]]:
        given_up.wait(30)
        return 204, {}

    receiver.answer = answer
    with pytest.raises(DoubtfulError, match="took too long"):
        await slow.send(MESSAGE)
    given_up.set()
    await slow.close()


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http:///x", "http://a b/", "http://x:99999/", "x"])
def test_what_is_no_url_is_refused_unseen(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^ops: expected an http or https URL with a host$"):
        check_url(url, "ops")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_!",
        base64.b64encode(b"x" * 24).decode(),
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
    ],
)
def test_what_is_no_secret_is_refused_unseen(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^ops: expected whsec_ and 24 to 64 bytes in base64"):
        parse_secret(text, "ops")
