"""`tail` and `status` against a server that says what a gateway rarely says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

import pytest

from huskies.cli import follow

if TYPE_CHECKING:
    from tests.cli.conftest import Run


NO_GATEWAY = "is this a Huskies gateway? Check --gateway-url"


class Answer(NamedTuple):
    body: bytes
    status: int = 200
    claimed_length: int | None = None


class Script:
    """Gives the scripted answers in turn, and keeps what was asked; the last answer is refusal for good."""

    def __init__(self, answers: list[Answer]) -> None:
        self.asked: list[tuple[str, str | None]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.asked.append((self.path, self.headers["Last-Event-ID"]))
                answer = answers.pop(0)
                self.send_response(answer.status)
                if answer.claimed_length is not None:
                    self.send_header("Content-Length", str(answer.claimed_length))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def answers() -> list[Answer]:
    return []


@pytest.fixture
def script(answers: list[Answer]) -> Iterator[Script]:
    server = Script(answers)
    yield server
    server.stop()


class Sink:
    """Keeps what comes; `over` ends the following, as Ctrl-C would."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, data: bytes) -> None:
        if data == b"over":
            raise KeyboardInterrupt
        self.said.append(data.decode())

    def warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")

    def notice(self, text: str) -> None:
        self.said.append(text)

    def disconnected(self, url: str, problem: str) -> None:
        self.said.append(f"disconnected from {url} ({problem})")

    def connected(self) -> None:
        self.said.append("connected again")


OVER = Answer(b"event: status\ndata: over\n\n")


def followed(script: Script, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(follow, "_LONGEST_PAUSE", 0)
    sink = Sink()
    with pytest.raises(KeyboardInterrupt):
        follow.Follower(script.url, {"after": "0"}, sink).run()
    return [line.replace(script.url, "URL") for line in sink.said]


def test_it_resumes_from_the_last_whole_block(
    script: Script, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers += [
        Answer(
            b"id: a-1\nevent: status\ndata: one\n\nid: a-2\nevent: status\ndata: cut", claimed_length=1_000
        ),
        Answer(b"", status=503),
        Answer(b"id: a-2\nevent: status\ndata: two\n\n"),
        OVER,
    ]
    assert followed(script, monkeypatch) == [
        "one",
        "disconnected from URL (the gateway ended it)",
        "connected again",
        "two",
        "disconnected from URL (the gateway ended it)",
        "connected again",
    ]
    path = "/gateway/events?after=0"
    assert script.asked == [(path, None), (path, "a-1"), (path, "a-1"), (path, "a-2")]


def test_what_a_reader_must_not_miss_is_loud(
    script: Script, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers += [
        Answer(
            b'event: gap\ndata: {"from":1,"to":41}\n\n'
            b'event: reset\ndata: {"reason":"restored"}\n\n'
            b"event: reset\ndata: nonsense\n\n"
            b"event: news\ndata: something\n\n"
            b'event: error\ndata: {"reason":"too slow"}\n\n'
        ),
        OVER,
    ]
    assert followed(script, monkeypatch) == [
        "warning: GAP: events 1 to 41 are kept no more, or damaged, at the gateway and were missed",
        "warning: RESET: restored; what follows starts again from the beginning",
        "warning: RESET: no reason given; what follows starts again from the beginning",
        "news: something",
        "disconnected from URL (too slow)",
        "connected again",
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(b'{"error":"not now"}', 503), "the gateway at URL answered 503: not now"),
        (
            Answer(b"<h1>Hello\x1b[2J", 404),
            f"the gateway at URL answered 404: <h1>Hello\\x1b[2J; {NO_GATEWAY}",
        ),
        (
            Answer(b"[]"),
            f"the gateway at URL answered 200: no list of projects; {NO_GATEWAY}",
        ),
        (
            Answer(b"{", claimed_length=10),
            "no gateway answers at URL: the answer broke off: the answer is incomplete; try again",
        ),
    ],
)
def test_status_says_what_it_met(
    huskies: Run, script: Script, answers: list[Answer], answer: Answer, problem: str
) -> None:
    answers.append(answer)
    outcome = huskies("status", "--gateway-url", script.url)
    assert outcome.status == 1
    assert outcome.stderr.replace(script.url, "URL") == f"huskies: {problem}\n"


def test_status_prints_one_object_a_line_however_it_came(
    huskies: Run, script: Script, answers: list[Answer]
) -> None:
    answers.append(Answer(b'{\n  "projects": [\n    {\n "name": "a"},\n  {"name":\n"b"}\n]\n}\n'))
    outcome = huskies("status", "--gateway-url", script.url, "--json")
    assert outcome.status == 0
    assert [json.loads(line)["name"] for line in outcome.stdout.splitlines()] == ["a", "b"]
