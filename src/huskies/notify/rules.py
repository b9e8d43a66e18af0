"""The rule table: which events of which projects go to which channel, and how. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

import msgspec

from huskies.events.model import EVENT_TYPES
from huskies.notify.quiet import Quiet

Doubtful: TypeAlias = Literal["resend", "leave"]

HELD_UP_KINDS: Final = ("story_blocked", "merge_failure")
DEFAULT_EVERY_MS: Final = 300_000
# Answers that are kept: the table is asked once an event, and projects are many at most.
_KNOWN_MAX: Final = 20_000


class Escalation(msgspec.Struct, frozen=True):
    """What is still held up `after_ms` after people were told is told to another channel."""

    after_ms: int
    channel: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table.

    `projects` are globs, those with a leading `!` excluding. `every_ms`: the least time between two messages
    of one story and kind. `digest_ms`: collect for so long, and tell all in one. `urgent`: not held back in
    quiet hours. `resolved`: tell also that a story goes on. `doubtful`: whether what a channel may have
    is sent again; None: as suits the channel.
    """

    events: frozenset[str]
    projects: tuple[str, ...] = ("*",)
    channels: tuple[str, ...]
    quiet: Quiet | None = None
    every_ms: int = DEFAULT_EVERY_MS
    digest_ms: int | None = None
    escalate: tuple[Escalation, ...] = ()
    urgent: bool = False
    resolved: bool = True
    doubtful: Doubtful | None = None

    def is_of(self, project: str) -> bool:
        """Whether the rule is for this project."""
        chosen = [pattern for pattern in self.projects if not pattern.startswith("!")] or ["*"]
        excluded = [pattern[1:] for pattern in self.projects if pattern.startswith("!")]
        return any(fnmatchcase(project, pattern) for pattern in chosen) and not any(
            fnmatchcase(project, pattern) for pattern in excluded
        )

    def quiet_until(self, at_ms: int) -> int | None:
        """When (Unix ms) what is decided at this moment may be told; None: at once."""
        return None if self.quiet is None or self.urgent else self.quiet.ends_ms(at_ms)


class Night:
    """Which rules have quiet hours at one moment; each is asked once."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._known: dict[int, int | None] = {}

    def covers(self, rule: Rule) -> bool:
        """Whether it has."""
        return self.ends_ms(rule) is not None

    def ends_ms(self, rule: Rule) -> int | None:
        """When (Unix ms) they end; None: it has none now."""
        if id(rule) not in self._known:
            self._known[id(rule)] = rule.quiet_until(self.now_ms)
        return self._known[id(rule)]


class Rules:
    """The table as it is asked: of several rules for one channel the first decides.

    `editing`: channels that change a message that they have, which disturbs nobody. `zone`: whose clock the
    times in messages are of; None: this machine's.
    """

    def __init__(
        self, rules: Sequence[Rule], *, zone: tzinfo | None, editing: frozenset[str] = frozenset()
    ) -> None:
        self._rules = tuple(rules)
        self.zone = zone
        self.editing = editing
        self._known: dict[tuple[str, str], Mapping[str, Rule]] = {}
        self._interested: dict[str, frozenset[str]] = {}

    @property
    def channels(self) -> frozenset[str]:
        """Every channel that some rule sends something to at first."""
        return frozenset(channel for rule in self._rules for channel in rule.channels)

    def of_channel(self, channel: str) -> list[Rule]:
        """The rules that send something to a channel at first."""
        return [rule for rule in self._rules if channel in rule.channels]

    def routes(self, project: str, kind: str) -> Mapping[str, Rule]:
        """The channels that are told of such an event, each with the rule that says how."""
        key = (project, kind)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[key] = self._look_up(project, kind)
        return found

    def telling(self, channel: str, project: str, kind: str) -> Rule | None:
        """The rule by which a channel is told of such an event: at first, or else by an escalation."""
        routes = self.routes(project, kind)
        escalating = (rule for rule in routes.values() if any(channel == to.channel for to in rule.escalate))
        return routes.get(channel) or next(escalating, None)

    def _look_up(self, project: str, kind: str) -> Mapping[str, Rule]:
        found: dict[str, Rule] = {}
        for rule in self._rules:
            if kind in rule.events and rule.is_of(project):
                for channel in rule.channels:
                    found.setdefault(channel, rule)
        return found

    def interested(self, project: str) -> frozenset[str]:
        """The channels that are told of anything of a project."""
        found = self._interested.get(project)
        if found is None:
            if len(self._interested) >= _KNOWN_MAX:
                self._interested.clear()
            channels = (channel for kind in EVENT_TYPES for channel in self.routes(project, kind))
            found = self._interested[project] = frozenset(channels)
        return found


def default_rules(channels: Sequence[str], quiet: Quiet | None = None) -> tuple[Rule, ...]:
    """What holds where nobody wrote a rule: what needs someone is told at once, and nothing else."""
    held_up, limited = frozenset({"story_blocked", "merge_failure"}), frozenset({"rate_limit_hard_block"})
    return (
        Rule(events=held_up, channels=tuple(channels), quiet=quiet),
        Rule(events=limited, channels=tuple(channels), every_ms=0, urgent=True),
    )
