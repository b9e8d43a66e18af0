"""Decides what people are told: events, time and the board go in, messages come out. Pure.

Each event is decided on once, by its identity, whatever order events come in and however often. For each
channel that a rule names it then becomes a message; or it waits in a collection, which is told as one message
when its time has come; or it is written down as not told, because its project is muted.

What holds a story up is remembered until a later stage transition ends it: then the message that told of it
is edited, or answered where it told of more. Until then escalations look at it, and collections name it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from huskies.events.model import StoredMergeFailure, StoredStageTransition, StoredStoryBlocked, event_type
from huskies.notify import collecting, texts
from huskies.notify.holding import Holding
from huskies.notify.ids import delivery_id
from huskies.notify.model import Board, Gap, Received
from huskies.notify.rules import HELD_UP_KINDS, Night, Rule, Rules
from huskies.notify.state import (
    ABOUT_MAX,
    Collection,
    Draft,
    Missed,
    Mute,
    Problem,
    Recent,
    State,
    Told,
    Why,
    scope_within,
)
from huskies.notify.texts import Said

# A live event that the notifier reads so late is history: it was not running, or the gateway was not.
STALE_MS: Final = 600_000
# So is one that a gateway received so late: an older sled does not say that it was cut off. Clocks of sleds
# are not apart by that much.
BEHIND_MS: Final = 3_600_000
# No rule has a longer time between repeats.
_RECENT_MS: Final = 86_400_000


class Core:
    """The fold. Times are the notifier's clock in Unix ms unless a name says otherwise.

    `drafts` are the messages decided on; whoever keeps them clears the list.
    """

    def __init__(self, rules: Rules, state: State) -> None:
        self._rules = rules
        self.state = state
        self.drafts: list[Draft] = []
        self._holding = Holding(rules, state, self.drafts)

    # --- events --------------------------------------------------------------------------------------

    def take(self, received: Received, now_ms: int) -> None:
        """Decide on one event."""
        if not self.state.seen.add(received.origin, received.seq):
            return
        late = _is_late(received, now_ms)
        if not late:
            collecting.replay_is_over(self.state, self._rules, received, now_ms)
        event = received.event
        if isinstance(event, StoredStageTransition):
            self._holding.moved(received, event, now_ms, late=late)
        elif isinstance(event, StoredStoryBlocked | StoredMergeFailure) and not self._holding.began(
            received, event, now_ms
        ):
            return
        routes = self._rules.routes(received.project, event_type(event))
        for channel, rule in routes.items():
            self._tell(channel, rule, received, now_ms, late=late)
        if late:
            # They are counted where others are told.
            for channel in self._rules.interested(received.project) - routes.keys():
                found = collecting.replaying(self.state, channel, received.project, now_ms)
                collecting.add(self.state, found, received, wanted=False)

    def _tell(self, channel: str, rule: Rule, received: Received, now_ms: int, *, late: bool) -> None:
        quiet_ms = rule.quiet_until(now_ms)
        if self.state.muted_until(received.project, now_ms) is not None:
            self._tell_nobody(channel, rule, received, now_ms)
        elif late:
            found = collecting.replaying(self.state, channel, received.project, now_ms)
            self._collect(found, rule, received)
        elif quiet_ms is not None:
            self._tell_later(channel, rule, received, now_ms, why="quiet", due_ms=quiet_ms)
        elif rule.digest_ms is not None:
            self._tell_later(channel, rule, received, now_ms, why="digest", due_ms=now_ms + rule.digest_ms)
        else:
            said = self._said(received, now_ms)
            self._tell_at_once(channel, rule, received, said, now_ms)

    def _said(self, received: Received, now_ms: int) -> Said:
        return texts.of_event(received.project, received.event, self._rules.zone, now_ms)

    def _tell_nobody(self, channel: str, rule: Rule, received: Received, now_ms: int) -> None:
        """Write it down; what is held up still when the project is muted no more is told then."""
        draft = _draft(channel, rule, received, self._said(received, now_ms), now_ms)
        self.drafts.append(msgspec.structs.replace(draft, state="muted"))
        problem = self._holding.of(received)
        if problem is not None:
            self._collect(collecting.silence(self.state, channel, problem, now_ms), rule, received)

    def _tell_later(
        self, channel: str, rule: Rule, received: Received, now_ms: int, *, why: Why, due_ms: int
    ) -> None:
        # Rules of one channel may have quiet hours that end at different times, and digests of their own.
        project = received.project
        scope = scope_within(str(due_ms if why == "quiet" else rule.digest_ms), project)
        found = collecting.opened(self.state, channel, why, scope, now_ms, due_ms=due_ms, project=project)
        self._collect(found, rule, received, line=texts.line_of(self._said(received, now_ms)))

    def _collect(self, found: Collection, rule: Rule, received: Received, *, line: str = "") -> None:
        found = collecting.add(self.state, found, received, line=line, doubtful=rule.doubtful)
        problem = self._holding.of(received)
        if problem is not None:
            collecting.let_wait(self.state, problem, found)

    def _tell_at_once(self, channel: str, rule: Rule, received: Received, said: Said, now_ms: int) -> None:
        kind, problem = event_type(received.event), self._holding.of(received)
        draft = _draft(channel, rule, received, said, now_ms)
        if problem is None and kind in HELD_UP_KINDS:
            # What ended it came first.
            self.drafts.append(msgspec.structs.replace(draft, state="overtaken"))
            return
        told = None if problem is None else problem.told.get(channel)
        if told is not None:
            # It was held up already, and is so for another reason now.
            edits, thread = (told.delivery_id, None) if told.alone else (None, told.delivery_id)
            draft = msgspec.structs.replace(draft, edits=edits, thread=thread)
        key = f"{channel}/{received.project}/{kind}/{received.event.story_id}"
        recent = self.state.recents.get(key)
        if recent is not None and now_ms < recent.at_ms + rule.every_ms:
            if recent.draft is not None:
                about = (*recent.draft.about[1 - ABOUT_MAX :], *draft.about)
                draft = msgspec.structs.replace(draft, about=about)
            self.state.recents.put(
                key,
                Recent(
                    at_ms=recent.at_ms,
                    held=recent.held + 1,
                    due_ms=recent.at_ms + rule.every_ms,
                    problem="" if problem is None else problem.key,
                    draft=draft,
                ),
            )
            return
        if rule.every_ms:
            self.state.recents.put(key, Recent(now_ms))
        self._send(draft, problem)

    def _send(self, draft: Draft, problem: Problem | None) -> None:
        found = collecting.flooded(self.state, draft)
        if found is None:
            self.drafts.append(draft)
        if problem is None:
            return
        if found is not None:
            collecting.let_wait(self.state, problem, found)
        else:
            told = Told(draft.edits or draft.thread or draft.delivery_id, alone=draft.thread is None)
            after = msgspec.structs.replace(problem, told={**problem.told, draft.channel: told})
            self.state.problems.put(problem.key, after)

    # --- the stream and the board --------------------------------------------------------------------

    def begin(self, board: Board, now_ms: int) -> None:
        """The notifier was never here before: tell what is held up now, as one message a channel."""
        self._holding.take_from_board(board, now_ms)

    def compare(self, board: Board, asked_ms: int, now_ms: int) -> bool:
        """What the board, asked for at `asked_ms`, shows no more is over, and what it shows beyond is told.

        Returns whether it shows something of which the next comparison has to say whether it is so.
        """
        missed = self.state.missed.get("")
        is_unsure = self._holding.compare(board, asked_ms, now_ms, missed=missed is not None)
        if missed is not None and missed.at_ms <= asked_ms:
            self.state.missed.drop("")
        return is_unsure

    def reset(self, now_ms: int) -> None:
        """Events may be missing between the log that was and the one that is."""
        self.state.missed.put("", Missed(now_ms))

    def missed(self, gap: Gap, now_ms: int) -> None:
        """The gateway has some events no more: everyone who is told of anything is told so."""
        self.state.missed.put("", Missed(now_ms))
        line = texts.gap_line(gap.first, gap.last)
        for channel in self._rules.channels:
            due_ms = now_ms + collecting.GAP_REST_MS
            found = collecting.opened(self.state, channel, "gap", "", now_ms, due_ms=due_ms)
            collecting.add_line(self.state, found, f"{line} at {now_ms}", line)

    def came_back(self, now_ms: int) -> None:
        """The stream is there again: what is replayed may have just begun to be."""
        collecting.postpone_replays(self.state, now_ms)

    # --- time ----------------------------------------------------------------------------------------

    def tick(self, now_ms: int, *, at_rest: bool, caught_up: bool = True, escalates: bool = True) -> None:
        """Tell what is due; `at_rest`: the stream is connected, so that its silence means something.

        Nothing is told where what is known is not `caught_up` with what happened; `escalates`: the board was
        asked whether it is needed.
        """
        for project, mute in self.state.mutes.items():
            if mute.until_ms <= now_ms:
                self.state.mutes.drop(project)
        if not caught_up:
            return
        self._tell_held(now_ms)
        self.drafts += collecting.due(self.state, self._rules, now_ms, at_rest=at_rest)
        if escalates:
            self._holding.escalate(now_ms)

    def escalates_ms(self, now_ms: int) -> int | None:
        """When the next step of an escalation is due, as far as that is known now."""
        return self._holding.escalates_ms(now_ms)

    def _tell_held(self, now_ms: int) -> None:
        """Tell what came too soon after another message like it."""
        night = Night(now_ms)
        for key, recent in self.state.recents.items():
            if recent.draft is None:
                if recent.at_ms + _RECENT_MS < now_ms:
                    self.state.recents.drop(key)
            elif recent.due_ms <= now_ms:
                rule = self._rules.routes(recent.draft.project, recent.draft.kind).get(recent.draft.channel)
                if rule is None or not night.covers(rule):
                    self._tell_one_held(key, recent, recent.draft, now_ms)

    def _tell_one_held(self, key: str, recent: Recent, draft: Draft, now_ms: int) -> None:
        draft = msgspec.structs.replace(draft, queued_ms=now_ms)
        problem = self.state.problems.get(recent.problem) if recent.problem else None
        is_over = bool(recent.problem) and (problem is None or problem.identity not in draft.about)
        is_muted = self.state.muted_until(draft.project, now_ms) is not None
        if is_over or is_muted:
            self.drafts.append(msgspec.structs.replace(draft, state="muted" if is_muted else "overtaken"))
            self.state.recents.drop(key)
            if problem is not None and not is_over:
                collecting.silence(self.state, draft.channel, problem, now_ms)
            return
        if recent.held > 1:
            more = texts.of_repeats(Said(draft.subject, draft.text, draft.html), recent.held)
            draft = msgspec.structs.replace(draft, subject=more.subject, text=more.text, html=more.html)
        self._send(draft, problem)
        self.state.recents.put(key, Recent(now_ms))

    # --- muting --------------------------------------------------------------------------------------

    def mute(self, project: str, until_ms: int) -> None:
        """Tell nobody of the project until then; what is held up still is told after."""
        self.state.mutes.put(project, Mute(until_ms))

    def unmute(self, project: str) -> None:
        """Tell of the project again, and what of its time of silence holds stories up."""
        self.state.mutes.drop(project)


def _is_late(received: Received, now_ms: int) -> bool:
    """Whether what happened is history by now."""
    received_ms = received.received_ms
    is_stale = now_ms - received_ms > STALE_MS or received_ms - received.event.timestamp_ms > BEHIND_MS
    return received.replayed or is_stale


def _draft(channel: str, rule: Rule, received: Received, said: Said, now_ms: int) -> Draft:
    kind = event_type(received.event)
    return Draft(
        delivery_id=delivery_id(channel, kind, received.identity),
        channel=channel,
        project=received.project,
        kind=kind,
        subject=said.subject,
        text=said.text,
        html=said.html,
        about=(received.identity,),
        queued_ms=now_ms,
        urgent=rule.urgent,
        doubtful=rule.doubtful,
    )
