"""A receiver of webhooks: a real HTTP server that keeps what it takes, and answers as it is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 30.0


class Hook(NamedTuple):
    """One request."""

    id: str
    event: dict[str, Any]
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def subject(self) -> str:
        return str(self.event["data"]["subject"])


# Called with the request before it is answered; what it returns is the answer: status, headers. None: no
# answer at all, the connection ends.
Answer = Callable[[Hook], tuple[int, dict[str, str]] | None]


class Receiver:
    """Listens on loopback; `stop` ends it, and `start_again` listens at the same port."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)
        self.hooks: list[Hook] = []
        self.answer: Answer = lambda _: (204, {})
        self._changed = threading.Condition()
        self._port = 0
        self.start_again()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hook?secret=in-the-url"

    @property
    def secret(self) -> str:
        return "whsec_" + base64.b64encode(self.key).decode()

    def start_again(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook = Hook(headers["webhook-id"], json.loads(body), headers, body, time.time())
                answer = receiver._take(hook)
                if answer is None:
                    self.close_connection = True
                    return
                status, more = answer
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def _take(self, hook: Hook) -> tuple[int, dict[str, str]] | None:
        with self._changed:
            self.hooks.append(hook)
            self._changed.notify_all()
        return self.answer(hook)

    def wait(self, count: int) -> list[Hook]:
        """The first so many requests, once there are so many."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.hooks) >= count, PATIENCE)
            assert came, f"{len(self.hooks)} of {count}: {[hook.subject for hook in self.hooks]}"
            return self.hooks[:count]

    def is_signed(self, hook: Hook) -> bool:
        """Whether one of its signatures is of our key."""
        text = f"{hook.id}.{hook.headers['webhook-timestamp']}.".encode() + hook.body
        mine = base64.b64encode(hmac.digest(self.key, text, hashlib.sha256)).decode()
        return f"v1,{mine}" in hook.headers["webhook-signature"].split()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def write_settings(self, directory: Path, rules: str = "") -> None:
        """A notify.toml with this receiver as the channel `ops`."""
        directory.mkdir(exist_ok=True)
        (directory / "ops.secret").write_text(self.secret + "\n")
        (directory / "notify.toml").write_text(
            f'[channels.ops]\nwebhook = "{self.url}"\nsecret_file = "ops.secret"\n{rules}'
        )
