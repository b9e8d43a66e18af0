"""Valid things, out of the code's own types, from which inputs are made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from huskies.events import codec
from huskies.events.model import (
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)

KEY: Final = "ab" * 32
OTHER_KEY: Final = "cd" * 32
EPOCH: Final = "0123456789abcdef"
NONCE: Final = "e" * 32
SIGNATURE: Final = "ef" * 64
MOMENT: Final = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)

EVENTS: Final[tuple[RelayedEvent, ...]] = (
    StoredStageTransition(
        story_id="42_story_login", story_name="Login", from_stage="2_current", to_stage="3_qa", timestamp_ms=1
    ),
    StoredStoryBlocked(story_id="1_bug_x", story_name="É", reason="needs a key", timestamp_ms=2),
    StoredMergeFailure(story_id="1_bug_x", reason="conflict in a.py", timestamp_ms=3),
    RelayedRateLimitWarning(story_id="1_bug_x", agent_name="coder", timestamp_ms=4),
    RelayedRateLimitHardBlock(story_id="1_bug_x", agent_name="coder", reset_at=MOMENT, timestamp_ms=5),
)
JSON: Final = tuple(codec.encode(event) for event in EVENTS)
WORDS: Final = (
    b'"type":', b'"reset_at":"0001-01-01T00:00:00+01:00"', b"rate_limit_hard_block", b"story_blocked",
    b'"timestamp_ms":8640000000000000', b"+23:59", b"\\ud83d\\ude00", b"\\ud800", b"\\u0000", b"1e3", b"1.0",
)  # fmt: skip
