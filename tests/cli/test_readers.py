"""`tail` and `status` against a real gateway, to which the test pushes as an older sled does."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.gateway_process import Gateway, blocked

from huskies.cli import main

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Start


def test_tail_prints_what_was_and_what_comes(start: Start, gateway: Gateway) -> None:
    gateway.push(blocked(1))
    tail = start("tail", "--gateway-url", gateway.url, "--after", "0")
    assert "web-shop  1_story_x  BLOCKED: reason 1" in tail.line()
    gateway.push(blocked(2))
    line = tail.line()
    assert "web-shop  2_story_x  BLOCKED: reason 2" in line
    assert "\x1b" not in line
    assert tail.end().status == 0


def test_tail_prints_json_as_the_gateway_sent_it(start: Start, gateway: Gateway) -> None:
    gateway.push(blocked(1))
    tail = start("tail", "--after", "0", HUSKIES_GATEWAY_URL=gateway.url + "/", HUSKIES_JSON="1")
    received = json.loads(tail.line())
    assert received["event"] == blocked(1)
    assert set(received) == {
        "cursor", "project", "sled_id", "epoch", "seq", "received_ms", "replayed", "event",
    }  # fmt: skip
    assert tail.end(signal.SIGINT).status == 0


def test_tail_resumes_from_a_cursor_and_filters(start: Start, gateway: Gateway) -> None:
    gateway.push(blocked(1), blocked(2))
    gateway.push(blocked(3), project="billing")
    gateway.push(blocked(4))
    everything = start("tail", "--gateway-url", gateway.url, "--after", "0", "--json")
    cursor = json.loads(everything.line("1_story_x"))["cursor"]
    rest = start("tail", "--gateway-url", gateway.url, "--after", cursor, "--project", "web-shop", "--json")
    assert [json.loads(rest.line())["event"]["story_id"] for _ in range(2)] == ["2_story_x", "4_story_x"]
    one = start(
        "tail",
        "--gateway-url",
        gateway.url,
        "--after",
        "0",
        "--story",
        "3_story_x",
        "--type",
        "story-blocked",
    )
    assert "billing  3_story_x" in one.line()


@pytest.mark.parametrize("kind", ["merge-failure", "merge_failure"])
def test_tail_shows_the_kind_alone_that_was_asked_for(start: Start, gateway: Gateway, kind: str) -> None:
    gateway.push(blocked(1), {**blocked(2), "type": "merge_failure"}, blocked(3))
    tail = start("tail", "--gateway-url", gateway.url, "--after", "0", "--type", kind)
    assert "MERGE FAILED: reason 2" in tail.line()


def test_tail_starts_with_what_happened_since(start: Start, gateway: Gateway) -> None:
    now_ms = time.time_ns() // 1_000_000
    gateway.push(blocked(1, now_ms - 3 * 3_600_000), blocked(2, now_ms - 3_600_000))
    tail = start("tail", "--gateway-url", gateway.url, "--since", "2h")
    assert "2_story_x" in tail.line()


def test_tail_goes_on_after_the_gateway_was_away(start: Start, gateway: Gateway) -> None:
    gateway.push(blocked(1))
    tail = start("tail", "--gateway-url", gateway.url, "--after", "0", "--json")
    assert json.loads(tail.line())["event"] == blocked(1)
    assert gateway.process.end().status == 0
    tail.line(f"disconnected from {gateway.url}", "stderr")
    gateway.start_again()
    gateway.push(blocked(2))
    tail.line("connected again", "stderr")
    gateway.push(blocked(3))
    assert [json.loads(tail.line())["event"] for _ in range(2)] == [blocked(2), blocked(3)]
    assert tail.end().status == 0


@pytest.mark.skipif(not hasattr(select, "poll"), reason="this platform cannot tell that a pipe was closed")
def test_tail_ends_with_whoever_reads_it(gateway: Gateway) -> None:
    gateway.push(blocked(1))
    tail = subprocess.Popen(
        [sys.executable, "-m", "huskies", "tail", "--gateway-url", gateway.url, "--after", "0"],
        env={**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert tail.stdout is not None
    with tail.stdout:
        assert b"1_story_x" in tail.stdout.readline()
    # No further event comes, by failing to write which it could notice.
    try:
        assert tail.wait(20) == 0
    finally:
        tail.kill()
        _, errors = tail.communicate()
    assert errors == b""


def test_tail_without_a_gateway_says_what_to_do(huskies: Run, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    outcome = huskies("tail", "--gateway-url", url)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert outcome.stderr == (
        f"huskies: no gateway answers at {url}: Connection refused; start one with `huskies up` or "
        "`huskies gateway`, or name another with --gateway-url\n"
    )


def test_tail_says_why_the_gateway_refused(huskies: Run, gateway: Gateway) -> None:
    outcome = huskies("tail", "--gateway-url", gateway.url, "--after", "nonsense")
    assert outcome.status == 2
    assert f"huskies: the gateway at {gateway.url} answered 422: " in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--since", "yesterday"), "'yesterday' is neither a duration such as 30m, 2h or 7d nor a time"),
        (("--since", "999999w"), "'999999w' is neither a duration"),
        (("--type", "blocked"), "'blocked' is none of stage_transition, merge_failure, story_blocked,"),
        (("--gateway-url", "gateway:3000"), "huskies: --gateway-url: expected a URL"),
    ],
)
def test_tail_refuses_what_it_cannot_ask(huskies: Run, arguments: tuple[str, ...], complaint: str) -> None:
    outcome = huskies("tail", *arguments)
    assert outcome.status == 2
    assert complaint in outcome.stderr


@pytest.mark.parametrize(
    ("command", "number", "status"),
    [
        ("tail", signal.SIGINT, 0),
        ("tail", signal.SIGTERM, 0),
        ("status", signal.SIGINT, 130),
        ("status", signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_reader_that_waits_for_an_answer_ends_at_once(
    start: Start, command: str, number: signal.Signals, status: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        reader = start(command, "--gateway-url", f"http://127.0.0.1:{mute.getsockname()[1]}")
        connection, _ = mute.accept()
        with connection:
            assert connection.recv(1)
            assert reader.end(number, patience=5) == (status, "", "")


def test_tail_ends_at_once_while_the_gateway_is_away(start: Start, gateway: Gateway) -> None:
    gateway.push(blocked(1))
    tail = start("tail", "--gateway-url", gateway.url, "--after", "0")
    tail.line("1_story_x")
    gateway.process.end()
    tail.line("disconnected", "stderr")
    assert tail.end(patience=5).status == 0


def test_status_shows_the_fleet(start: Start, huskies: Run, gateway: Gateway) -> None:
    gateway.push(blocked(1))
    # An older sled is told nothing of what was stored; a reader is.
    start("tail", "--gateway-url", gateway.url, "--after", "0").line("1_story_x")
    shown = huskies("status", "--gateway-url", gateway.url)
    assert shown.status == 0
    assert "blocked: reason 1" in shown.stdout
    assert "web-shop" in shown.stdout.splitlines()[-1]
    [project] = huskies("status", "--gateway-url", gateway.url, "--json").stdout.splitlines()
    assert json.loads(project)["stories"][0]["blocked"] == "reason 1"


def test_status_asks_where_the_variable_says(
    huskies: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSKIES_GATEWAY_URL", gateway.url.replace("http", "ws"))
    assert huskies("status").stdout.startswith(f"No project has joined {gateway.url} yet")


def test_status_without_a_gateway_says_what_to_do(huskies: Run, unused_tcp_port: int) -> None:
    outcome = huskies("status", "--gateway-url", f"http://127.0.0.1:{unused_tcp_port}")
    assert outcome.status == 1
    assert "start one with `huskies up` or `huskies gateway`" in outcome.stderr
