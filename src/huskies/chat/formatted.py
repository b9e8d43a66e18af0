"""Text for a chat: plain for terminals, and HTML that is made of nothing but what stands here. Pure."""

from __future__ import annotations

import html
import json
from typing import Final, NamedTuple, TypeAlias

import msgspec

from huskies.limits import MESSAGE_BYTES_MAX
from huskies.logs import printable

# What one part of a line may have: a reason can be long, and there are others.
_PART_MAX: Final = 1_000
# Left free for saying how much was left out.
_LAST_LINE: Final = 200
# What joins two lines, in both.
_LINE_END: Final = 8
_CUT: Final = "… (cut)"


class Reply(msgspec.Struct, frozen=True):
    """One message, plain and formatted; both say the same."""

    text: str
    html: str


class Bold(NamedTuple):
    """A part of a line that stands out."""

    text: str


class Code(NamedTuple):
    """A part of a line that someone may type or copy."""

    text: str


Part: TypeAlias = str | Bold | Code


class Message:
    """Lines that become a `Reply`; what finds no room any more is counted, and that is said."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._html: list[str] = []
        self._room = MESSAGE_BYTES_MAX - _LAST_LINE
        self._left_out = 0

    def line(self, *parts: Part) -> None:
        """Add one line."""
        text = "".join(_shown(part) for part in parts)
        formatted = "".join(_formatted(part) for part in parts)
        size = size_of(text, formatted) + _LINE_END
        if self._left_out or size > self._room:
            self._left_out += 1
            return
        self._room -= size
        self._text.append(text)
        self._html.append(formatted)

    def reply(self) -> Reply:
        """All of it as one message."""
        text, formatted = list(self._text), list(self._html)
        if self._left_out:
            more = f"… and {self._left_out} more lines, which are too many for one message"
            text.append(more)
            formatted.append(f"<i>{more}</i>")
        return Reply("\n".join(text), "<br>".join(formatted))


def fitting(reply: Reply) -> Reply:
    """The message, cut visibly where it is too long to be sent; then without its format."""
    if size_of(reply.text, reply.html) <= MESSAGE_BYTES_MAX:
        return reply
    # Each character takes at most 12 bytes in each of both.
    room = MESSAGE_BYTES_MAX - _LAST_LINE
    text = reply.text[:room]
    while size_of(text, html.escape(text)) > room:
        text = text[: len(text) * 9 // 10]
    text += _CUT
    return Reply(text, html.escape(text).replace("\n", "<br>"))


def size_of(text: str, formatted: str) -> int:
    """How many bytes they take of an event."""
    return len(json.dumps(text)) + len(json.dumps(formatted))


def _shown(part: Part) -> str:
    # First cut, since making it printable takes a while and makes it longer.
    text = printable((part if isinstance(part, str) else part.text)[: _PART_MAX + 1])
    return text if len(text) <= _PART_MAX else text[: _PART_MAX - len(_CUT)] + _CUT


def _formatted(part: Part) -> str:
    text = html.escape(_shown(part))
    match part:
        case Bold():
            return f"<b>{text}</b>"
        case Code():
            return f"<code>{text}</code>"
        case _:
            return text
