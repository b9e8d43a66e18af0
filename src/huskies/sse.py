"""Server-Sent Events as a reader takes them in. Pure: bytes go in, events come out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Message(NamedTuple):
    """One block of the stream that carries data; `event` is `message` where the block names none."""

    event: str
    data: bytes


class SseParser:
    """Puts the stream together; `last_id` is what to resume from.

    Follows section 9.2.6 of the HTML standard, for lines that end in LF or CR LF; `retry` is ignored.
    """

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._rest = b""
        self._id: str | None = None
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take in the next bytes, and give the messages that they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = self._take(line.removesuffix(b"\r"))
            if message is not None:
                yield message

    def restart(self) -> None:
        """Forget a block that was cut off: the next bytes come from a new connection."""
        self._rest, self._id, self._event = b"", None, ""
        self._data.clear()

    def _take(self, line: bytes) -> Message | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> Message | None:
        # A place to resume from counts only with the whole block that it came in.
        if self._id is not None:
            self.last_id = self._id
        message = Message(self._event or "message", b"\n".join(self._data)) if self._data else None
        self._id, self._event = None, ""
        self._data = []
        return message
