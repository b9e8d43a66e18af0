"""What happened, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from huskies.logs import printable
from huskies.readers.fleet import Received
from huskies.readers.times import local_time, parse_time


def describe(received: Received, now: datetime) -> str:
    """`14:02:03  web-shop  42_story_login  2_current → 3_qa  "Login"  (replayed)`."""
    event = received.event
    when = event.get("timestamp_ms")
    parts = [
        local_time(when, now) if isinstance(when, int) else "?",
        received.project,
        str(event.get("story_id", "?")),
        what_happened(event, now),
    ]
    if event.get("story_name"):
        parts.append(f'"{event["story_name"]}"')
    if received.replayed:
        parts.append("(replayed)")
    return "  ".join(printable(part) for part in parts)


def what_happened(event: dict[str, Any], now: datetime) -> str:
    """What the event says, as its sled said it: whoever prints it makes it printable."""
    match event:
        case {"type": "stage_transition", "from_stage": before, "to_stage": after}:
            return f"goes on in {after}" if before == after else f"{before} → {after}"
        case {"type": "story_blocked", "reason": reason}:
            return f"BLOCKED: {reason}"
        case {"type": "merge_failure", "reason": reason}:
            return f"MERGE FAILED: {reason}"
        case {"type": "rate_limit_warning", "agent_name": agent}:
            return f"{agent} is close to its rate limit"
        case {"type": "rate_limit_hard_block", "agent_name": agent, "reset_at": reset_at}:
            return f"{agent} is rate limited until {_reset_time(str(reset_at), now)}"
        case _:
            return str(event.get("type", "?"))


def _reset_time(text: str, now: datetime) -> str:
    try:
        return local_time(int(parse_time(text).timestamp() * 1_000), now)
    except (ValueError, OverflowError):
        return text
