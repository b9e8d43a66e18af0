"""`huskies notifications` with a real gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.gateway_process import Gateway
from tests.support.told import NOON, Teller
from tests.support.told import blocked as stored

from huskies.notify.ledger import Ledger

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.fixture
def told(gateway: Gateway, tmp_path: Path) -> Gateway:
    """Three notifications: one arrived, one failed, one is queued."""
    ledger, teller = Ledger(tmp_path / "data"), Teller()
    drafts = []
    for number in range(1, 4):
        drafts += teller.take(
            stored(f"{number}_bug_x", reason="\x1b[2J"), project="shop" if number < 3 else "web"
        )
    ledger.keep("c", teller.core.state, drafts)
    ledger.delivered(1, "its name", NOON)
    ledger.sending(2, NOON)
    ledger.again(2, "HTTP 503", NOON, looks=False)
    ledger.sending(2, NOON)
    ledger.failed(2, "HTTP 410: gone \x1b[2J", NOON)
    ledger.close()
    return gateway


def test_the_newest_come_last(told: Gateway, huskies: Run) -> None:
    outcome = huskies("notifications", "--gateway-url", told.url)
    assert outcome.status == 0
    assert [line.split("  ", 2)[2] for line in outcome.stdout.splitlines()] == [
        "chat  shop: 1 Login is blocked  acknowledged",
        "chat  shop: 2 Login is blocked  failed after 2 attempts: HTTP 410: gone \\x1b[2J",
        "chat  web: 3 Login is blocked  queued",
    ]


def test_json_is_what_the_gateway_says(told: Gateway, huskies: Run) -> None:
    outcome = huskies(
        "notifications", "--gateway-url", told.url, "--json", "--last", "2", "--state", "failed"
    )
    [line] = outcome.stdout.splitlines()
    assert "\x1b" not in line
    found = json.loads(line)
    assert (found["id"], found["state"], found["problem"]) == (2, "failed", "HTTP 410: gone \x1b[2J")


def test_some_of_them(told: Gateway, huskies: Run) -> None:
    for flags, count in ((("--last", "1"), 1), (("--project", "shop"), 2), (("--channel", "none"), 0)):
        outcome = huskies("notifications", "--gateway-url", told.url, *flags)
        assert len(outcome.stdout.splitlines()) == count
    assert (
        huskies("notifications", "--gateway-url", told.url, "--channel", "none").stderr == "There is none.\n"
    )


def test_sending_again(told: Gateway, huskies: Run) -> None:
    outcome = huskies("notifications", "resend", "2", "--gateway-url", told.url)
    assert (outcome.status, outcome.stdout) == (0, "2 is sent again\n")
    outcome = huskies("notifications", "resend", "2", "--gateway-url", told.url)
    assert outcome.status == 1
    assert "there is no notification 2 that is failed or in_doubt" in outcome.stderr
    outcome = huskies("notifications", "resend", "--all", "--gateway-url", told.url)
    assert (outcome.status, outcome.stderr) == (0, "Nothing is failed or in_doubt.\n")


@pytest.mark.parametrize("arguments", [(), ("2", "--all"), ("two",)])
def test_what_is_to_be_sent_again_is_named_one_way(huskies: Run, arguments: tuple[str, ...]) -> None:
    outcome = huskies("notifications", "resend", *arguments)
    assert outcome.status == 2
    assert "Traceback" not in outcome.stderr
