"""What reaches a terminal or a log of what others say: never anything that drives a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Final

import msgspec

from fuzz.samples import JSON, WORDS
from fuzz.target import Outcome, Target, always, refused, taken
from huskies.cli import client, status
from huskies.cli.board import show
from huskies.cli.follow import Follower
from huskies.cli.lines import LinePrinter
from huskies.errors import HuskiesError
from huskies.logs import HumanFormatter, JsonFormatter
from huskies.sockets import clean
from huskies.sse import SseParser

# C0 but for the line's end, DEL, C1, and what turns the direction of writing.
_DRIVES: Final = frozenset(
    chr(code)
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x200E, 0x2010), *range(0x202A, 0x202F))
    if chr(code) != "\n"
)  # fmt: skip


@contextlib.contextmanager
def _captured() -> Iterator[io.BytesIO]:
    """What is written on stdout and stderr meanwhile."""
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", write_through=True)
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield raw
        text.flush()
    text.detach()


def _check_harmless(written: bytes) -> None:
    found = _DRIVES.intersection(written.decode())
    assert not found, f"{sorted(found)!r} reaches the terminal"


class _Kept:
    """Keeps what a follower passes on."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, bytes]] = []

    def event(self, data: bytes) -> None:
        self.kept.append(("event", data))

    def warning(self, text: str) -> None:
        self.kept.append(("warning", text.encode("utf-8", "replace")))

    notice = warning

    def disconnected(self, url: str, problem: str) -> None:
        raise AssertionError(f"nothing was connected to {url}: {problem}")

    def connected(self) -> None:
        raise AssertionError("nothing was connected")


def stream(data: bytes) -> Outcome:
    """What a gateway streams to `huskies tail`: shown as lines, as JSON, and the same however it is cut."""
    kept = _Kept()
    follower = Follower("http://gateway.example", {}, kept)
    ends = [follower._pass_on(message) for message in SseParser().feed(data)]
    again, cut = SseParser(), _Kept()
    for begin in range(0, len(data), 7 if len(data) < 2_000 else 4_096):
        for message in again.feed(data[begin : begin + (7 if len(data) < 2_000 else 4_096)]):
            Follower("http://gateway.example", {}, cut)._pass_on(message)
    assert cut.kept == kept.kept
    if not kept.kept and not any(ends):
        return refused("nothing to show")
    for as_json in (False, True):
        with _captured() as written:
            printer = LinePrinter(as_json=as_json)
            follower = Follower("http://gateway.example", {}, printer)
            for message in SseParser().feed(data):
                problem = follower._pass_on(message)
                if problem is not None:
                    printer.notice(problem)
        _check_harmless(written.getvalue())
    return taken(" ".join(f"{kind} {len(what) % 5}" for kind, what in kept.kept[:3]))


def board(data: bytes) -> Outcome:
    """What a gateway answers to `huskies status`: a board, JSON, or an error in words."""
    url = "http://gateway.example"
    try:
        projects = status.projects_in(data, url)
        with _captured() as as_json:
            status.print_json(projects)
        _check_harmless(as_json.getvalue())
        with _captured() as table:
            show(projects, url, 1_800_000_000_000)
    except HuskiesError as error:
        str(error).encode()
        return refused(error)
    _check_harmless(table.getvalue())
    return taken(f"{min(len(projects), 4)} projects, {len(table.getvalue()) // 200}")


def problem(data: bytes) -> Outcome:
    """Why something refuses that may be no gateway at all."""
    found = client._problem_in(data, "Bad Gateway")
    return refused("not ours") if "is this a Huskies gateway?" in found else taken()


def log_line(data: bytes) -> Outcome:
    """Anything, in a line of a log."""
    text = data.decode("utf-8", "surrogateescape")
    record = logging.LogRecord("huskies.x", logging.INFO, "", 0, "%s", (text,), None)
    record.project = clean(text)
    line, as_json = HumanFormatter().format(record), JsonFormatter().format(record)
    assert "\n" not in line + as_json
    _check_harmless((line + as_json).encode())
    json.loads(as_json)
    return taken("secret" if "***" in line else "plain")


def _shown(number: int, event: bytes) -> bytes:
    head = b'{"cursor":"12345678-%d-abcdef01","project":"shop","seq":%d,"replayed":true,"event":%b}'
    return b"id: 12345678-%d-abcdef01\nevent: status\ndata: %b\n\n" % (number, head % (number, number, event))


_PROJECT: Final = {
    "name": "shop", "url": None, "connected": False, "last_seen_ms": 5, "outstanding": 3,
    "missing": [{"sled_id": "a", "epoch": "b", "first_seq": 1, "last_seq": 2}], "quarantined": [],
    "identity_used_twice": True, "over_quota": True,
    "stories": [
        {
            "story_id": "1_bug_x", "story_name": "[red]X", "stage": "3_qa", "since_ms": 5,
            "blocked": "no key", "blocked_since_ms": 6, "merge_failure": "no", "merge_failure_since_ms": None,
        }
    ],
}  # fmt: skip
_ESCAPES: Final = (
    b"\x1b[2J", b"\x1b]0;x\x07", b"\xc2\x9b31m", b"\\u009b31m", b"\\u001b[31m", b"\x7f",
    b"\xe2\x80\xae", b"\r",
)  # fmt: skip

TARGETS: Final = (
    Target(
        name="tail",
        opened=always(stream),
        seeds=(
            b"id: 1\n\n" + b"".join(_shown(number, event) for number, event in enumerate(JSON, 1)),
            b'event: reset\ndata: {"reason":"restored"}\n\nevent: gap\ndata: {"from":1,"to":5}\n\n',
            b'event: error\ndata: {"reason":"slow"}\n\nevent: other\ndata: x\ndata: y\n\n',
        ),
        words=(*WORDS, *_ESCAPES, b"\ndata: ", b"\n\n", b"event: status\n", b'"timestamp_ms":1e400'),
        inputs=40_000,
    ),
    Target(
        name="status",
        opened=always(board),
        seeds=(
            msgspec.json.encode({"projects": [_PROJECT, {**_PROJECT, "name": "b", "connected": True}]}),
            msgspec.json.encode({"projects": [], "cursor": "12345678-1-12345678"}),
        ),
        words=(*_ESCAPES, b"null", b"[/red]", b"\xff", b"1" * 400),
        inputs=10_000,
        grows=False,
    ),
    Target(
        name="refusal",
        opened=always(problem),
        seeds=(b'{"error":"a token is needed"}', b'{"error":["\\u00e9"]}'),
        words=(b'"error":', b"<html>Bad gateway</html>", *_ESCAPES),
    ),
    Target(
        name="log-line",
        opened=always(log_line),
        seeds=(b"Authorization: Bearer abc", b"http://ann:secret@h/?token=abc", b"{'token': 'abc'}", b"a"),
        words=(*_ESCAPES, b"Bearer ", b"token=", b"://", b"@", b"authorization"),
    ),
)  # fmt: skip
