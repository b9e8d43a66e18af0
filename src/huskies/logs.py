"""Logging: lines for people or JSON, on stderr, with outside text made visible and secrets taken out."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

LEVELS: Final = ("debug", "info", "warning", "error")
REDACTED: Final = "***"

# What every record has; the rest of its attributes came in as `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Control characters could drive a terminal, and the marks that turn the direction of writing could make a
# line read as another; lone surrogates cannot be written at all.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
# In JSON these stand between values alone.
_LINE_ENDS: Final = str.maketrans("\n\r\t", "   ")
_SECRETS: Final = (
    re.compile(r"""(\bauthorization\b['"]?\s*[:=,]\s*(?:b?['"])?)[^'"\r\n]+""", re.IGNORECASE),
    re.compile(r"""(\b(?:bearer|basic)\s+)[^\s'",;)}\]]+""", re.IGNORECASE),
    re.compile(r"""(\btoken=)[^&\s'"#)>]+""", re.IGNORECASE),
    re.compile(r"""(['"]token['"]\s*:\s*b?['"])[^'"]+""", re.IGNORECASE),
    re.compile(r"""(://)[^/\s@'"]+(?=@)"""),
)
# Taking shorter ones out would garble ordinary words, and tell which they are.
_SHORTEST_SECRET: Final = 8
_registered: set[str] = set()


def printable(text: str) -> str:
    """The text on one line, with control characters and the like as visible escapes."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_json(data: bytes) -> str:
    """JSON on one line; what could drive a terminal stands there as the JSON escape that means the same."""
    text = data.decode("utf-8", "backslashreplace").translate(_LINE_ENDS)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def register_secret(secret: str) -> None:
    """From now on this text appears in no log line; one too short to be secret is let through."""
    if len(secret) >= _SHORTEST_SECRET:
        _registered.add(secret)


def redact(text: str) -> str:
    """The text without registered secrets, authorization values, tokens in URLs, and passwords in URLs."""
    # Longest first: a secret may be part of another.
    for secret in sorted(_registered, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<1>{REDACTED}", text)
    return text


def set_up(*, level: str = "info", as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr where not given), at one of `LEVELS` and above."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else HumanFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    # Its lines hold whole request targets, and `?token=` with them; each refusal is logged where it is made.
    logging.getLogger("aiohttp.access").disabled = True


class HumanFormatter(logging.Formatter):
    """`2026-01-31 14:02:03.123 INFO    huskies.gateway: message (key=value)`, the time being local."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; the traceback of an exception follows on lines of its own."""
        # "Local" is the reader's own clock: the line is read where it is written.
        moment = datetime.fromtimestamp(record.created, UTC).astimezone()
        time = moment.isoformat(sep=" ", timespec="milliseconds")[:23]
        fields = ", ".join(f"{key}={value}" for key, value in _extra(record).items())
        line = f"{time} {record.levelname:<7} {record.name}: {record.getMessage()}"
        lines = [f"{line} ({fields})" if fields else line, *_trace(self, record).splitlines()]
        return "\n".join(printable(redact(text)) for text in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (UTC), `level`, `logger`, `message`, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Secrets are taken out before the text becomes JSON, which may write them differently."""
        entry: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for key, value in _extra(record).items():
            plain = value is None or isinstance(value, bool | int | float)
            entry.setdefault(key, value if plain else redact(str(value)))
        if trace := _trace(self, record):
            entry["exception"] = redact(trace)
        # ASCII: the escapes of JSON are also what keeps a terminal safe.
        return json.dumps(entry)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
