"""Redis Streams with an fsync before every answer, spoken to over raw sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.events import event_json
from bench.pipeline import Requests
from bench.processes import free_port, running


def requests() -> Requests:
    """Add to a stream; the answer is the entry's id."""
    made = [_command(b"XADD", b"events", b"*", b"e", event_json(story, "p00")) for story in range(200)]
    return Requests(make=lambda number: made[number % 200], answer=b"$", error=b"-ERR")


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@contextmanager
def server(program: str, directory: Path) -> Iterator[int]:
    """A redis-server; its port."""
    directory.mkdir(parents=True)
    port = free_port()
    settings = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": directory,
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }
    command = [program, *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]
    with running(command, directory / "output") as process:
        process.find("eady to accept connections")
        yield port
