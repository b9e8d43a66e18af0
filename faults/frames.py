"""What goes over one connection, cut into HTTP heads and WebSocket frames that a proxy can tell apart."""

from __future__ import annotations

from typing import NamedTuple

_HEAD_END = b"\r\n\r\n"
_TEXT = 1


class Piece(NamedTuple):
    """Bytes to pass on; `text` is the payload of a WebSocket text frame; `head`: it is an HTTP head."""

    raw: bytes
    head: bool = False
    text: bytes | None = None


class Scanner:
    """One direction of a connection. Frames are recognised after the head of an upgrade."""

    def __init__(self) -> None:
        self._buffer = b""
        self._state = "head"

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are whole now."""
        if self._state == "plain":
            return [Piece(data)]
        self._buffer += data
        pieces: list[Piece] = []
        if self._state == "head":
            head, found, rest = self._buffer.partition(_HEAD_END)
            if not found:
                return []
            self._state = "frames" if b"upgrade: websocket" in head.lower() else "plain"
            pieces.append(Piece(head + found, head=True))
            self._buffer = rest
        if self._state == "plain":
            rest, self._buffer = self._buffer, b""
            return [*pieces, Piece(rest)] if rest else pieces
        while (frame := self._next_frame()) is not None:
            pieces.append(frame)
        return pieces

    def _next_frame(self) -> Piece | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:at], "big")
        masked = bool(buffer[1] & 0x80)
        start = at + 4 * masked
        if len(buffer) < start + size:
            return None
        raw, self._buffer = buffer[: start + size], buffer[start + size :]
        text = _unmasked(raw[start:], raw[at:start]) if raw[0] & 0x0F == _TEXT else None
        return Piece(raw, text=text)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    if not mask:
        return payload
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
