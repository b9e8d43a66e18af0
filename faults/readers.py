"""A real HTTP client that follows an event stream and resumes it, as a program of a user would."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlsplit


class StreamReader(threading.Thread):
    """Follows `GET /gateway/events` from `after`, reconnecting with the last id whenever it ends."""

    def __init__(self, url: str, query: str = "after=0") -> None:
        super().__init__(daemon=True)
        self._host = urlsplit(url).netloc
        self._query = query
        self.events: list[dict[str, Any]] = []
        self.other: list[tuple[str, str]] = []
        self.last_id: str | None = None
        self.connections = 0
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                self._follow()
            except (OSError, http.client.HTTPException):
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
        if "id" in fields:
            self.last_id = fields["id"]
        if fields.get("event") == "status":
            self.events.append(json.loads(fields["data"]))
        elif "event" in fields:
            self.other.append((fields["event"], fields["data"]))
