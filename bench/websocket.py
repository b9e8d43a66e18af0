"""The little of WebSocket and HTTP that a made-up sled needs, without a library's cost."""

from __future__ import annotations

import base64
import os
import struct
from urllib.parse import SplitResult

from huskies.protocol import wire

PING = b"\x89\x00"
# A client's pong, masked with zero.
PONG = b"\x8a\x80\0\0\0\0"


def frame_head(size: int) -> bytes:
    """The head of a client's text frame; the masking key is zero, so that the payload stands as it is."""
    if size < 126:
        return bytes((0x81, 0x80 | size)) + b"\0\0\0\0"
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 0xFE, size) + b"\0\0\0\0"
    return struct.pack("!BBQ", 0x81, 0xFF, size) + b"\0\0\0\0"


def text_frame(payload: bytes) -> bytes:
    return frame_head(len(payload)) + payload


def upgrade_request(url: SplitResult, project: str, token: str, *, v2: bool) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    offer = f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n" if v2 else ""
    return (
        f"GET {wire.PUSH_PATH}?project={project} HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Authorization: Bearer {token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    ).encode()


def token_request(url: SplitResult) -> bytes:
    return f"POST {wire.TOKENS_PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 0\r\n\r\n".encode()
