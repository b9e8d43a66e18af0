"""A real HTTP client that follows an event stream and resumes it, as a program of a user would."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit


class StreamReader(threading.Thread):
    """Follows `GET /gateway/events` from `after`, reconnecting with the last id whenever it ends.

    `opened_at` is the cursor with which its first stream opened, `cursors` are those of the events it
    saw; the events themselves are kept only where `keep` is set.
    """

    def __init__(self, url: str, query: str = "after=0", *, keep: bool = True) -> None:
        super().__init__(daemon=True)
        self._host = urlsplit(url).netloc
        self._query = query
        self._keep = keep
        self.events: list[dict[str, Any]] = []
        self.cursors: list[str] = []
        self.resets: list[str] = []
        self.other: list[tuple[str, str]] = []
        self.opened_at: str | None = None
        self.last_id: str | None = None
        self.connections = 0
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._follow()
            self.enough.wait(0.02)

    def _follow(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=5)
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = self.last_id
        try:
            connection.request("GET", f"/gateway/events?{self._query}", headers=headers)
            answer = connection.getresponse()
            self.connections += 1
            fields: dict[str, str] = {}
            while not self.enough.is_set() and (line := answer.readline()):
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                else:
                    self._take(fields)
                    fields = {}
        finally:
            connection.close()

    def _take(self, fields: dict[str, str]) -> None:
        if fields.get("event") == "status":
            self.cursors.append(fields["id"])
            if self._keep:
                self.events.append(json.loads(fields["data"]))
        elif fields.get("event") == "reset":
            # The log is another one than before: all that was seen of it is void.
            self.resets.append(fields["data"])
            self.cursors.clear()
            self.events.clear()
            self.opened_at = self.last_id
        elif "event" in fields:
            self.other.append((fields["event"], fields["data"]))
        # Last, so that whoever sees the id sees what came with it.
        if "id" in fields:
            self.opened_at = self.opened_at or fields["id"]
            self.last_id = fields["id"]
