"""Pages of a gateway's history."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from huskies.cli import client
from huskies.protocol.wire import EVENTS_PATH
from huskies.readers.fleet import Received

_ANSWER_LIMIT: Final = 10.0
_PAGE_EVENTS: Final = 1_000


class Page(msgspec.Struct, frozen=True):
    """Some events, each as the gateway's JSON, and the cursor that the next page begins at."""

    events: list[msgspec.Raw]
    next: str | None = None


def newest(gateway_url: str, count: int) -> list[Received]:
    """The newest events, the newest first; raises `HuskiesError`."""
    page = _page(gateway_url, {"before": "latest", "limit": str(count)})
    return [_received(event, gateway_url) for event in page.events]


def of_story(gateway_url: str, story_id: str, project: str | None) -> Iterator[Received]:
    """Every event of a story, in one project or in all, as the log has them; raises `HuskiesError`."""
    query = {"story": story_id, "limit": str(_PAGE_EVENTS), "after": "0"}
    if project is not None:
        query["project"] = project
    while True:
        page = _page(gateway_url, query)
        yield from (_received(event, gateway_url) for event in page.events)
        if page.next is None:
            return
        query["after"] = page.next


def _page(gateway_url: str, query: Mapping[str, str]) -> Page:
    headers = {"Accept": "application/json"}
    with client.get(
        gateway_url, EVENTS_PATH, query=query, headers=headers, timeout=_ANSWER_LIMIT
    ) as response:
        body = client.read_all(response, gateway_url)
    try:
        return msgspec.json.decode(body, type=Page)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _unknown(gateway_url, "no page of events") from None


def _received(event: msgspec.Raw, gateway_url: str) -> Received:
    try:
        return msgspec.json.decode(event, type=Received)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _unknown(gateway_url, "an event that cannot be shown") from None


def _unknown(gateway_url: str, what: str) -> client.GatewayRefusedError:
    return client.GatewayRefusedError(
        gateway_url, http.client.OK, f"{what}; is this a Huskies gateway? Check --gateway-url"
    )
