"""`python -m bench.subscriber URL EXPECTED [PROJECT]`: an SSE reader that counts, in a process of its own.

Prints `open` once the stream is open, and then one line of JSON: how many events came, and when the last did
(`perf_counter`, which all processes of a machine share on Linux). It goes on listening for a little while
after the expected number, so that a doubled event is seen.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from urllib.parse import urlsplit

from bench.counting import OPENED, STATUS, MarkerCount

_PATIENCE = 60.0
_LISTEN_ON = 0.5
_RECEIVE = 1 << 20


def subscribe(url: str, project: str | None) -> socket.socket:
    """A socket on which an event stream has begun."""
    parts = urlsplit(url)
    query = f"?project={project}" if project else ""
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=_PATIENCE)
    connection.sendall(
        f"GET /gateway/events{query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    head = b""
    while OPENED not in head:
        piece = connection.recv(_RECEIVE)
        if not piece:
            raise ConnectionError(head.decode())
        head += piece
    return connection


def count(connection: socket.socket, expected: int) -> tuple[int, float]:
    """How many events came, and when the last did."""
    seen = MarkerCount(STATUS)
    last = time.perf_counter()
    while True:
        connection.settimeout(_PATIENCE if seen.count < expected else _LISTEN_ON)
        try:
            data = connection.recv(_RECEIVE)
        except TimeoutError:
            return seen.count, last
        if not data:
            return seen.count, last
        if seen.feed(data):
            last = time.perf_counter()


def main() -> None:
    url, expected, project = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
    connection = subscribe(url, project)
    print("open", flush=True)
    events, last = count(connection, expected)
    print(json.dumps({"events": events, "last": last}), flush=True)


if __name__ == "__main__":
    main()
