"""`/gateway/notifications`: who may see what, and who may have it sent again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import Http, StartGateway
from tests.support.operator import Operator
from tests.support.told import NOON, Teller, blocked

from huskies.gateway.server import Gateway
from huskies.notify.ledger import Ledger
from huskies.storage.notifications import FILE_NAME


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Five notifications of two projects: the first failed, the second is in doubt."""
    ledger, teller = Ledger(tmp_path / "gw"), Teller()
    drafts = []
    for number in range(1, 6):
        drafts += teller.take(blocked(f"{number}_bug_x"), project="shop" if number % 2 else "web")
    ledger.keep("c", teller.core.state, drafts)
    ledger.failed(1, "HTTP 410", NOON)
    ledger.in_doubt(2, "no answer came", NOON)
    ledger.close()
    return tmp_path / "gw"


async def test_where_nobody_is_told_there_is_nothing(gateway: Gateway, http: Http, tmp_path: Path) -> None:
    answer = await http(f"{gateway.url}/gateway/notifications")
    assert (answer.status, answer.body) == (200, {"notifications": [], "next": None})
    answer = await http(f"{gateway.url}/gateway/notifications/all/resend", method="POST")
    assert (answer.status, answer.body) == (200, {"queued": []})
    assert not (tmp_path / "gw" / FILE_NAME).exists()


@pytest.mark.usefixtures("told")
async def test_pages_the_newest_first(start_gateway: StartGateway, http: Http) -> None:
    gateway = await start_gateway()
    url = f"{gateway.url}/gateway/notifications"
    pages: list[list[int]] = []
    before: dict[str, Any] = {}
    while True:
        answer = await http(url, **{"limit": 2, **before})
        pages.append([one["id"] for one in answer.body["notifications"]])
        if answer.body["next"] is None:
            break
        before = {"before": answer.body["next"]}
    assert pages == [[5, 4], [3, 2], [1]]
    [failed] = (await http(url, state="failed")).body["notifications"]
    assert {key: failed[key] for key in ("id", "project", "channel", "state", "problem", "attempts")} == {
        "id": 1,
        "project": "shop",
        "channel": "chat",
        "state": "failed",
        "problem": "HTTP 410",
        "attempts": 0,
    }
    assert "html" not in failed
    assert [one["id"] for one in (await http(url, project="web")).body["notifications"]] == [4, 2]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"state": "lost"}, "state: expected one of queued, sending"),
        ({"limit": "0"}, "limit: expected a whole number from 1 to 1000"),
        ({"limit": "1001"}, "limit: expected a whole number from 1 to 1000"),
        ({"before": "x"}, "before: expected the `next` of another answer"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    gateway: Gateway, http: Http, query: dict[str, Any], problem: str
) -> None:
    answer = await http(f"{gateway.url}/gateway/notifications", **query)
    assert answer.status == 422
    assert answer.body["error"].startswith(problem)


async def test_who_reads_one_project_sees_what_is_of_that(
    told: Path, start_gateway: StartGateway, http: Http
) -> None:
    token = Operator(told).make("ann", "read:web")
    gateway = await start_gateway()
    url, ann = f"{gateway.url}/gateway/notifications", {"Authorization": f"Bearer {token}"}
    assert (await http(url)).status == 401
    assert [one["id"] for one in (await http(url, headers=ann)).body["notifications"]] == [4, 2]
    answer = await http(url, headers=ann, project="shop")
    assert (answer.status, answer.body["error"].partition(" may ")[2]) == (403, "not read project shop")


async def test_who_administers_has_what_did_not_arrive_sent_again(
    told: Path, start_gateway: StartGateway, http: Http
) -> None:
    operator = Operator(told)
    reads, admin = ({"Authorization": f"Bearer {operator.make(name, name)}"} for name in ("read", "admin"))
    gateway = await start_gateway()
    url = f"{gateway.url}/gateway/notifications"
    answer = await http(f"{url}/1/resend", method="POST", headers=reads)
    assert answer.status == 403
    assert (await http(f"{url}/1/resend", headers=admin)).status == 405
    answer = await http(f"{url}/1/resend", method="POST", headers=admin)
    assert (answer.status, answer.body) == (200, {"queued": [1]})
    # It is queued now, and so are the last three.
    for number in (1, 3, 99):
        answer = await http(f"{url}/{number}/resend", method="POST", headers=admin)
        assert answer.status == 404
    assert (await http(f"{url}/x/resend", method="POST", headers=admin)).status == 422
    answer = await http(f"{url}/all/resend", method="POST", headers=admin)
    assert answer.body == {"queued": [2]}
    found = (await http(url, headers=reads, state="queued")).body["notifications"]
    assert [one["id"] for one in found] == [5, 4, 3, 2, 1]
    assert [one["problem"] for one in found] == [""] * 5
    await gateway.stop()
    gateway.url = ""
    assert [entry.subject for entry in operator.entries() if entry.action == "notifications resend"] == [
        "1",
        "all",
    ]
