"""`huskies chat` as a real process, beside a real gateway, with a real receiver of webhooks."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock, Timeout
from tests.support.certificates import Authority
from tests.support.gateway_process import Gateway, blocked
from tests.support.webhooks import Hook, Receiver

if TYPE_CHECKING:
    from tests.cli.conftest import Process, Run, Start

PATIENCE = 30.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    with suppress(OSError):
        found.stop()


@pytest.fixture
def place(receiver: Receiver, tmp_path: Path) -> Path:
    """A data directory with a notify.toml, and no gateway in it."""
    receiver.write_settings(tmp_path / "chat")
    return tmp_path / "chat"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def event(number: int) -> dict[str, Any]:
    return blocked(number, now_ms())


def chat(start: Start, gateway: Gateway, place: Path) -> Process:
    process = start("chat", "--gateway-url", gateway.url, "--data-dir", place)
    process.line("chat")
    return process


def started(receiver: Receiver, gateway: Gateway, number: int = 1) -> None:
    """Wait until what happens is told: the first start begins at the log's end, wherever that is."""
    gateway.push(event(number), project="first")
    receiver.wait(1)


def shown(huskies: Run, gateway: Gateway, *arguments: str) -> list[dict[str, Any]]:
    outcome = huskies("notifications", "--gateway-url", gateway.url, "--json", *arguments)
    assert outcome.status == 0, outcome.stderr
    return [json.loads(line) for line in outcome.stdout.splitlines()]


def until_free(place: Path) -> None:
    """Wait until no process holds the directory for telling people."""
    try:
        with FileLock(place / "chat.lock", timeout=PATIENCE):
            return
    except Timeout:
        pytest.fail("a process tells people still")


def test_a_sled_s_event_is_told_within_a_second(
    start: Start, receiver: Receiver, project: Path, tmp_path: Path
) -> None:
    receiver.write_settings(tmp_path / "data")
    up = start("up", project, "--port", "0", "--data-dir", tmp_path / "data")
    up.line("chat")
    waits: list[float] = []
    for number in range(1, 6):
        assert (
            start("emit", "-C", project, "blocked", f"{number}_story_a", "needs <you>").end(None).status == 0
        )
        hook = receiver.wait(number)[-1]
        assert receiver.is_signed(hook)
        assert hook.event["data"]["text"] == f"web-shop: {number} story_a is blocked\nneeds <you>"
        waits.append(hook.at - _happened(up, hook))
    # The machine may be busy with other tests: what is measured is whether anything waits for a clock.
    assert min(waits) < 1.0
    outcome = up.end(signal.SIGTERM, patience=10)
    assert outcome.status == 0
    assert "Traceback" not in outcome.stderr
    until_free(tmp_path / "data")


def _happened(up: Process, hook: Hook) -> float:
    """When the event happened (Unix s), as the log says."""
    [line] = [line for line in up.seen["stdout"] if line.startswith("dashboard")]
    seq = int(hook.event["data"]["about"][0].rpartition("/")[2])
    with urllib.request.urlopen(line.split()[1] + "/gateway/events?after=0", timeout=10) as response:
        events = json.load(response)["events"]
    return float(next(one["event"]["timestamp_ms"] for one in events if one["seq"] == seq) / 1_000)


def test_the_first_start_says_what_is_held_up_and_no_history(
    start: Start, gateway: Gateway, receiver: Receiver, place: Path
) -> None:
    gateway.push(event(1), event(2))
    chat(start, gateway, place)
    [hook] = receiver.wait(1)
    assert hook.subject == "2 stories are held up now"
    gateway.push(event(3))
    assert receiver.wait(2)[1].subject == "web-shop: 3 Story 3 is blocked"


def test_a_process_that_is_killed_while_it_sends_sends_the_same_again(
    start: Start, gateway: Gateway, receiver: Receiver, place: Path
) -> None:
    first = chat(start, gateway, place)
    started(receiver, gateway)

    def kill(_: Hook) -> tuple[int, dict[str, str]] | None:
        first.send(signal.SIGKILL)
        return None

    receiver.answer = kill
    gateway.push(event(2))
    told = receiver.wait(2)[1]
    assert first.end(None).status == -signal.SIGKILL
    receiver.answer = lambda _: (204, {})
    start("chat", "--gateway-url", gateway.url, "--data-dir", place)
    again = receiver.wait(3)[2]
    assert (again.id, again.body) == (told.id, told.body)
    gateway.push(event(3))
    assert receiver.wait(4)[3].subject == "web-shop: 3 Story 3 is blocked"


def test_a_process_that_is_killed_at_any_moment_loses_and_doubles_nothing(
    start: Start, gateway: Gateway, receiver: Receiver, place: Path
) -> None:
    process = chat(start, gateway, place)
    started(receiver, gateway)
    for number in range(2, 8):
        # Before it answers, after it answered, or before anything came.
        def answer(_: Hook, *, number: int = number, victim: Process = process) -> tuple[int, dict[str, str]]:
            if number % 3 == 0:
                victim.send(signal.SIGKILL)
            return 204, {}

        receiver.answer = answer
        count = len({hook.id for hook in receiver.hooks})
        gateway.push(event(number))
        if number % 3:
            if number % 3 == 1:
                receiver.wait(count + 1)
            process.send(signal.SIGKILL)
        process.end(None)
        receiver.answer = lambda _: (204, {})
        process = start("chat", "--gateway-url", gateway.url, "--data-dir", place)
        process.line("chat")
        wait_for_ids(receiver, count + 1)
    subjects = {hook.id: hook.subject for hook in receiver.hooks}
    assert sorted(subjects.values()) == sorted(
        ["first: 1 Story 1 is blocked", *(f"web-shop: {n} Story {n} is blocked" for n in range(2, 8))]
    )


def wait_for_ids(receiver: Receiver, count: int) -> None:
    patience = time.monotonic() + PATIENCE
    while len({hook.id for hook in receiver.hooks}) < count:
        assert time.monotonic() < patience, f"{len(receiver.hooks)} came"
        time.sleep(0.02)


def test_it_goes_on_after_the_gateway_was_away(
    start: Start, gateway: Gateway, receiver: Receiver, place: Path
) -> None:
    process = chat(start, gateway, place)
    started(receiver, gateway)
    gateway.process.end(signal.SIGKILL)
    process.line("not to be had", "stderr")
    gateway.start_again()
    gateway.push(event(2))
    assert receiver.wait(2)[1].subject == "web-shop: 2 Story 2 is blocked"
    assert process.end().status == 0


def test_a_log_that_begins_again_tells_nothing_twice(
    start: Start, gateway: Gateway, receiver: Receiver, place: Path, tmp_path: Path
) -> None:
    process = chat(start, gateway, place)
    started(receiver, gateway)
    gateway.push(event(2), event(3))
    receiver.wait(3)
    gateway.process.end(signal.SIGKILL)
    # The log is another one, under the same events; its cursors are not.
    _forget_log_id(tmp_path / "data")
    gateway.start_again()
    process.line("read from its beginning", "stderr")
    gateway.push(event(4))
    receiver.wait(4)
    assert [hook.subject for hook in receiver.hooks][1:] == [
        f"web-shop: {number} Story {number} is blocked" for number in (2, 3, 4)
    ]


def _forget_log_id(data_dir: Path) -> None:
    (data_dir / "views.db").unlink()
    with sqlite3.connect(data_dir / "log.db") as db:
        names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert "meta" in names, names
        db.execute("UPDATE meta SET value = 'ffffffffffffffff' WHERE key = 'log_id'")
    db.close()


def test_settings_that_cannot_be_used_are_one_line(start: Start, place: Path) -> None:
    (place / "notify.toml").write_text("[[rules]]\nevnts = []\n")
    outcome = start("chat", "--data-dir", place).end(None)
    assert outcome.status == 2
    [line] = outcome.stderr.splitlines()
    assert "notify.toml: rules.evnts: unknown key; expected one of events, projects, " in line


def test_there_is_one_at_a_time(start: Start, gateway: Gateway, place: Path) -> None:
    chat(start, gateway, place)
    outcome = start("chat", "--gateway-url", gateway.url, "--data-dir", place).end(None)
    assert outcome.status == 2
    assert "another `huskies chat` uses it" in outcome.stderr


class Refusing(BaseHTTPRequestHandler):
    """A homeserver that lets nobody in."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"errcode": "M_FORBIDDEN", "error": "Invalid username or password"}'
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_bot_that_is_not_let_in_silences_no_other_channel_and_is_put_right_by_another_bot_toml(
    start: Start, receiver: Receiver, refusing: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    receiver.write_settings(data, '[[rules]]\nchannels = ["ops"]\n')
    bot = f'homeserver = "{refusing}"\nusername = "huskies"\npassword_file = "password"\n'
    (data / "bot.toml").write_text(bot)
    (data / "password").write_text("wrong")
    (data / "password").chmod(0o600)
    gateway = Gateway(start, data)
    gateway.process.line("the bot is not logged in: ", "stderr")
    started(receiver, gateway)
    (data / "bot.toml").write_text(bot + 'name = "another"\n')
    gateway.process.line("bot.toml has changed; it is read at the next start", "stderr")
    gateway.process.line("chat is started", "stderr")
    gateway.push(event(2))
    receiver.wait(2)


def test_who_may_not_read_is_told_what_to_do(
    start: Start, gateway: Gateway, place: Path, huskies: Run, tmp_path: Path
) -> None:
    huskies("token", "create", "ann", "--scope", "read", "--data-dir", tmp_path / "data")
    outcome = start("chat", "--gateway-url", gateway.url, "--data-dir", place).end(None)
    assert outcome.status == 1
    assert "huskies token create chat --scope read" in outcome.stderr
    assert "Traceback" not in outcome.stderr


# --- beside a gateway --------------------------------------------------------------------------------


def test_a_gateway_runs_it_and_ends_it_and_needs_no_token(
    start: Start, receiver: Receiver, huskies: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    receiver.write_settings(data)
    huskies("token", "create", "ann", "--scope", "read", "--data-dir", data)
    gateway = Gateway(start, data)
    gateway.process.line("chat")
    started(receiver, gateway)
    outcome = gateway.process.end(signal.SIGINT, patience=10)
    assert outcome.status == 0
    assert "Traceback" not in outcome.stderr
    until_free(data)


def test_it_knows_a_gateway_with_tls_by_its_certificate_whoever_signed_that(
    start: Start, receiver: Receiver, project: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    receiver.write_settings(data)
    authority = Authority(tmp_path)
    chain, key = authority.certificate()
    gateway = start("gateway", "--port", "0", "--data-dir", data, "--tls-cert", chain, "--tls-key", key)
    url = gateway.line("gateway").split()[1]
    gateway.line("chat")
    start("sled", project, "--port", "0", "--gateway-url", url, "--tls-ca", authority.path).line("relays to")
    assert start("emit", "-C", project, "blocked", "1_story_a", "x").end(None).status == 0
    assert receiver.wait(1)[0].subject == "web-shop: 1 story_a is blocked"
    assert gateway.end().status == 0


def test_it_ends_with_a_gateway_that_is_killed(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    receiver.write_settings(tmp_path / "data")
    gateway = Gateway(start, tmp_path / "data")
    gateway.process.line("chat")
    gateway.process.send(signal.SIGKILL)
    until_free(tmp_path / "data")
    gateway.process.end(None)


def test_one_that_was_killed_is_waited_for_by_its_successor(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    receiver.write_settings(data)
    gateway = Gateway(start, data)
    gateway.process.line("chat")
    started(receiver, gateway)
    answers = threading.Event()

    def answer(_: Hook) -> tuple[int, dict[str, str]]:
        answers.wait(PATIENCE)
        return 204, {}

    # What it has under way keeps it for a moment.
    receiver.answer = answer
    gateway.push(event(2))
    receiver.wait(2)
    gateway.process.end(signal.SIGKILL)
    gateway.start_again()
    gateway.process.line("chat")
    answers.set()
    receiver.answer = lambda _: (204, {})
    gateway.push(event(3))
    wait_for_ids(receiver, 3)


def test_a_gateway_without_anyone_to_tell_runs_none(gateway: Gateway, tmp_path: Path) -> None:
    outcome = gateway.process.end()
    assert "chat" not in outcome.stdout
    assert not (tmp_path / "data" / "chat.lock").exists()


def test_a_gateway_goes_on_while_the_settings_are_wrong_and_tries_again_once_they_change(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    receiver.write_settings(data, '[[rules]]\nchannels = ["nobody"]\n')
    gateway = Gateway(start, data)
    gateway.process.line("expected channels that are defined (ops); got 'nobody'", "stderr")
    gateway.process.line("it is started again once they change", "stderr")
    receiver.write_settings(data)
    gateway.process.line("chat")
    started(receiver, gateway)


def test_one_that_is_killed_is_started_again(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    data = tmp_path / "data"
    receiver.write_settings(data)
    gateway = Gateway(start, data)
    started_line = gateway.process.line("chat is started", "stderr")
    number = int(started_line.rpartition("pid=")[2].rstrip(")"))
    gateway.process.line("chat")
    os.kill(number, signal.SIGKILL)
    gateway.process.line("it is started again", "stderr")
    gateway.process.line("chat")
    started(receiver, gateway)
