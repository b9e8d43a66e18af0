"""The pure core of the notifier with a clock of its own, and events to put into it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from huskies.events.model import (
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.notify.core import Core
from huskies.notify.model import Board, ProjectOnBoard, Received, StoryOnBoard
from huskies.notify.rules import Rule, Rules, default_rules
from huskies.notify.seen import Seen
from huskies.notify.state import TABLES, Draft, State

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
# Noon in UTC.
NOON = 1_767_268_800_000
HELD_UP = frozenset({"story_blocked", "merge_failure"})


def blocked(story: str = "42_story_login", reason: str = "needs a key", at_ms: int = NOON) -> RelayedEvent:
    return StoredStoryBlocked(story_id=story, story_name="Login", reason=reason, timestamp_ms=at_ms)


def unmerged(story: str = "42_story_login", reason: str = "conflict", at_ms: int = NOON) -> RelayedEvent:
    return StoredMergeFailure(story_id=story, story_name="Login", reason=reason, timestamp_ms=at_ms)


def moved(story: str = "42_story_login", to: str = "3_qa", at_ms: int = NOON) -> RelayedEvent:
    return StoredStageTransition(
        story_id=story, story_name="Login", from_stage="2_current", to_stage=to, timestamp_ms=at_ms
    )


def warned(at_ms: int = NOON) -> RelayedEvent:
    return RelayedRateLimitWarning(story_id="42_story_login", agent_name="coder", timestamp_ms=at_ms)


def limited(at_ms: int = NOON, story: str = "42_story_login") -> RelayedEvent:
    reset_at = datetime.fromtimestamp(at_ms / 1_000, UTC) + timedelta(hours=2)
    return RelayedRateLimitHardBlock(
        story_id=story, agent_name="coder", reset_at=reset_at, timestamp_ms=at_ms
    )


def board(*stories: tuple[str, str, str]) -> Board:
    """Projects with stories that are blocked: project, story, reason; all since noon."""
    projects: dict[str, list[StoryOnBoard]] = {}
    for project, story, reason in stories:
        shown = StoryOnBoard(story, "Login", blocked=reason, blocked_since_ms=NOON)
        projects.setdefault(project, []).append(shown)
    return Board([ProjectOnBoard(name, found) for name, found in projects.items()], "c-1")


class Teller:
    """The core; events get the next seq of their sled unless one is given."""

    def __init__(self, *rules: Rule, editing: tuple[str, ...] = (), zone: tzinfo = UTC) -> None:
        self.rules = Rules(rules or default_rules(["chat"]), zone=zone, editing=frozenset(editing))
        self.core = Core(self.rules, State({}, Seen({})))
        self.now_ms = NOON
        self._seqs: dict[str, int] = {}

    def received(
        self,
        event: RelayedEvent,
        *,
        project: str = "shop",
        sled: str = "aa",
        seq: int | None = None,
        replayed: bool = False,
    ) -> Received:
        if seq is None:
            seq = self._seqs.get(sled, 0) + 1
        self._seqs[sled] = max(seq, self._seqs.get(sled, 0))
        return Received(
            cursor="",
            project=project,
            sled_id=sled,
            epoch="e1",
            seq=seq,
            received_ms=self.now_ms,
            replayed=replayed,
            event=event,
        )

    def take(self, event: RelayedEvent, **options: Any) -> list[Draft]:
        """Let it happen now; what follows at once."""
        self.core.take(self.received(event, **options), self.now_ms)
        return self.drafts()

    def after(self, ms: int, *, at_rest: bool = True) -> list[Draft]:
        """Let time pass, a second at most at a time; what is decided on meanwhile."""
        until_ms, found = self.now_ms + ms, []
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms + max(SECOND, ms // 1_000))
            self.core.tick(self.now_ms, at_rest=at_rest)
            found += self.drafts()
        return found

    def drafts(self) -> list[Draft]:
        found = list(self.core.drafts)
        self.core.drafts.clear()
        return found

    def restart(self) -> None:
        """Begin again with what was kept."""
        kept: dict[str, dict[str, bytes]] = {}
        for kind in TABLES:
            table = getattr(self.core.state, kind)
            table._changed.update(dict(table.items()))
        for kind, key, value in self.core.state.changed():
            if value is not None:
                kept.setdefault(kind, {})[key] = value
        self.core = Core(self.rules, State(kept, Seen(dict(self.core.state.seen.items()))))


def subjects(drafts: list[Draft]) -> list[str]:
    return [f"{draft.channel}: {draft.subject}" for draft in drafts if draft.state == "queued"]
