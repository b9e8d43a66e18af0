"""NATS with JetStream, spoken to over raw sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.driver import write_all
from bench.events import event_json
from bench.pipeline import Requests
from bench.processes import free_port, running
from bench.reader import Arrivals
from bench.setting import pace

GREETING = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB _INBOX.acks 1\r\n'
_SUBJECT = b"events.p00"
_STREAM = "EVENTS"


def _publish(payload: bytes) -> bytes:
    return b"PUB %b _INBOX.acks %d\r\n%b\r\n" % (_SUBJECT, len(payload), payload)


def requests() -> Requests:
    """Publish to the stream; its answer is the ack."""
    made = [_publish(event_json(story, "p00")) for story in range(200)]
    return Requests(make=lambda number: made[number % 200], answer=b'"seq":', error=b'"error"')


@contextmanager
def server(program: str, directory: Path, sync: str | None) -> Iterator[int]:
    """A nats-server with a file-backed stream; its port. `sync`: its `sync_interval`, None as it comes."""
    directory.mkdir(parents=True)
    port = free_port()
    interval = f", sync_interval: {sync}" if sync else ""
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory / "store"}"{interval} }}\n', "utf-8"
    )
    with running([program, "-c", str(config)], directory / "output") as process:
        process.stays_up_until(lambda: _answers(port))
        stream: dict[str, object] = {
            "name": _STREAM,
            "subjects": ["events.>"],
            "storage": "file",
            "retention": "limits",
        }
        _ask(port, f"$JS.API.STREAM.CREATE.{_STREAM}", stream)
        yield port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _ask(port: int, subject: str, question: dict[str, object]) -> None:
    """Ask JetStream's own API for something; raises where it says no."""
    payload = json.dumps(question).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            GREETING + b"PUB %b _INBOX.acks %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)
        )
        answer = b""
        while b'"type":' not in answer or not answer.endswith(b"}\r\n"):
            answer += connection.recv(65_536)
        if b'"error"' in answer:
            raise ConnectionError(answer.decode())


async def latencies(port: int, rate: float, count: int) -> Sequence[float]:
    """Seconds from a publish until a subscriber of the stream has it."""
    loop = asyncio.get_running_loop()
    greeting = b'CONNECT {"verbose":false}\r\nSUB deliver.here 1\r\nPING\r\n'
    _, reader = await loop.create_connection(
        lambda: Arrivals(greeting, b'"type":"stage_transition"', count, b"PONG"), "127.0.0.1", port
    )
    await reader.opened
    consumer = {
        "ack_policy": "none",
        "deliver_policy": "all",
        "deliver_subject": "deliver.here",
        "name": "BENCH",
    }
    question: dict[str, object] = {"stream_name": _STREAM, "config": consumer}
    await asyncio.to_thread(_ask, port, f"$JS.API.CONSUMER.CREATE.{_STREAM}.BENCH", question)
    _, publisher = await loop.create_connection(
        lambda: Arrivals(GREETING + b"PING\r\n", b'"seq":', count, b"PONG"), "127.0.0.1", port
    )
    await publisher.opened
    descriptor = publisher.transport.get_extra_info("socket").fileno()
    sent: list[float] = []
    message = _publish(event_json(1, "p00"))

    def send(_number: int, _due: float) -> None:
        sent.append(time.perf_counter())
        write_all(descriptor, message)

    await asyncio.to_thread(pace, rate, count, send)
    await reader.finished
    await publisher.finished
    for connection in (reader, publisher):
        connection.transport.close()
    return [after - before for before, after in zip(sent, reader.times, strict=True)]
