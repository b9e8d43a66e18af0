"""What holds stories up: from the event that says so to the transition that ends it. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec

from huskies.events.model import StoredMergeFailure, StoredStageTransition, StoredStoryBlocked, event_type
from huskies.notify import collecting, texts
from huskies.notify.ids import delivery_id
from huskies.notify.model import Board, Received
from huskies.notify.rules import HELD_UP_KINDS, Escalation, Night, Rules
from huskies.notify.state import Collection, Draft, Due, Problem, State, Told, Why, problem_key, scope_within
from huskies.notify.texts import Said

# Moves that are remembered, so that a block that comes after what ended it is none.
_MOVES_MAX: Final = 20_000


class _Move(NamedTuple):
    """The newest move of a story, and when the notifier read of it."""

    received: Received
    taken_ms: int


class Holding:
    """Keeps `state.problems`, and adds to `drafts` what the end of one, or a step of an escalation, says."""

    def __init__(self, rules: Rules, state: State, drafts: list[Draft]) -> None:
        self._rules = rules
        self._state = state
        self._drafts = drafts
        self._moves: OrderedDict[tuple[str, str], _Move] = OrderedDict()
        # What the board showed at the last comparison and no event said, by key and reason.
        self._unknown: frozenset[tuple[str, str]] = frozenset()

    def of(self, received: Received) -> Problem | None:
        """What this event says, if it is so still."""
        key = problem_key(received.project, received.event.story_id, event_type(received.event))
        problem = self._state.problems.get(key)
        return problem if problem is not None and problem.identity == received.identity else None

    # --- its beginning -------------------------------------------------------------------------------

    def began(self, received: Received, event: StoredStoryBlocked | StoredMergeFailure, now_ms: int) -> bool:
        """Remember that a story is held up; False where people were told, by what the board said."""
        before = self._state.problems.get(problem_key(received.project, event.story_id, event_type(event)))
        # The board says when the gateway received it, where the sled's clock is ahead of that.
        times = (event.timestamp_ms, received.received_ms)
        if before is not None and not before.seq and before.at_ms in times:
            known = msgspec.structs.replace(
                before, sled_id=received.sled_id, epoch=received.epoch, seq=received.seq
            )
            self._state.problems.put(known.key, known)
            return False
        moved = self._moves.get((received.project, event.story_id))
        is_over = moved is not None and _is_before(received, moved.received)
        if not is_over and (before is None or not _is_older(received, before)):
            self._note(received, event, before, now_ms)
        return True

    def _note(
        self,
        received: Received,
        event: StoredStoryBlocked | StoredMergeFailure,
        before: Problem | None,
        now_ms: int,
    ) -> None:
        problem = Problem(
            project=received.project,
            story_id=event.story_id,
            story_name=event.story_name,
            kind=event_type(event),
            reason=event.reason,
            since_ms=event.timestamp_ms,
            at_ms=event.timestamp_ms,
            noted_ms=now_ms,
            sled_id=received.sled_id,
            epoch=received.epoch,
            seq=received.seq,
        )
        if before is None:
            problem = msgspec.structs.replace(problem, escalations=self.escalations(problem, now_ms))
        else:
            # It began when it began; what was told and is to come holds.
            problem = msgspec.structs.replace(
                problem,
                since_ms=min(before.since_ms, problem.since_ms),
                told=before.told,
                waits=before.waits,
                escalations=before.escalations,
            )
        self._state.problems.put(problem.key, problem)

    def escalations(self, problem: Problem, now_ms: int) -> tuple[Due, ...]:
        """The steps that come if it is not over by then."""
        steps: dict[tuple[int, str], Due] = {}
        for rule in self._rules.routes(problem.project, problem.kind).values():
            # Nobody is told before quiet hours are over.
            told_ms = rule.quiet_until(now_ms) or now_ms
            for step in rule.escalate:
                at_ms = told_ms + step.after_ms
                at_ms = rule.quiet_until(at_ms) or at_ms
                due = Due(at_ms, step.after_ms, step.channel, rule.doubtful)
                steps.setdefault((step.after_ms, step.channel), due)
        return tuple(sorted(steps.values(), key=lambda due: (due.at_ms, due.after_ms)))

    # --- its end -------------------------------------------------------------------------------------

    def moved(self, received: Received, event: StoredStageTransition, now_ms: int, *, late: bool) -> None:
        """A stage transition ends what held its story up before."""
        story = (received.project, event.story_id)
        moved = self._moves.get(story)
        if moved is None or _is_before(moved.received, received):
            self._moves[story] = _Move(received, now_ms)
            self._moves.move_to_end(story)
            if len(self._moves) > _MOVES_MAX:
                self._moves.popitem(last=False)
        if not len(self._state.problems):
            return
        for kind in HELD_UP_KINDS:
            problem = self._state.problems.get(problem_key(*story, kind))
            if problem is not None and not _is_older(received, problem):
                about = (problem.identity, received.identity)
                self._end(problem, texts.resolved(problem, event), about, now_ms, late=late)

    def _end(self, problem: Problem, said: Said, about: tuple[str, ...], now_ms: int, *, late: bool) -> None:
        self._state.problems.drop(problem.key)
        for channel, told in problem.told.items():
            self._tell_end(
                problem, channel, told, _end_draft(problem, channel, told, said, about, now_ms), late=late
            )

    def _tell_end(self, problem: Problem, channel: str, told: Told, draft: Draft, *, late: bool) -> None:
        now_ms = draft.queued_ms
        rule = self._rules.telling(channel, problem.project, problem.kind)
        if rule is not None:
            if not rule.resolved:
                return
            draft = msgspec.structs.replace(draft, doubtful=rule.doubtful)
        quiet_ms = None if rule is None else rule.quiet_until(now_ms)
        if told.alone and channel in self._rules.editing:
            # It changes what is there, and disturbs nobody.
            self._drafts.append(draft)
        elif self._state.muted_until(problem.project, now_ms) is not None:
            self._drafts.append(msgspec.structs.replace(draft, state="muted"))
        elif late:
            found = collecting.replaying(self._state, channel, problem.project, now_ms)
            collecting.add_line(self._state, found, draft.delivery_id, draft.subject)
        elif quiet_ms is not None:
            found = self._opened(channel, "quiet", str(quiet_ms), problem.project, now_ms, due_ms=quiet_ms)
            collecting.add_line(self._state, found, draft.delivery_id, draft.subject)
        elif collecting.flooded(self._state, draft) is None:
            self._drafts.append(draft)

    # --- in between ----------------------------------------------------------------------------------

    def escalates_ms(self, now_ms: int) -> int | None:
        """When the next step of an escalation is due, as far as that is known now."""
        night = Night(now_ms)
        rows = self._state.problems.rows()
        return min((at_ms for row in rows if (at_ms := self._step_ms(row, night)) is not None), default=None)

    def escalate(self, now_ms: int) -> None:
        """Tell the next ones of what is held up still."""
        night = Night(now_ms)
        for problem in self._state.problems.rows():
            while (at_ms := self._step_ms(problem, night)) is not None and at_ms <= now_ms:
                problem = self._step(problem, now_ms)  # noqa: PLW2901 - the same problem, a step later
                self._state.problems.put(problem.key, problem)

    def _step_ms(self, problem: Problem, night: Night) -> int | None:
        """When its next step is due; None: there is none, or none before its project is muted no more."""
        if not problem.escalations or self._state.muted_until(problem.project, night.now_ms) is not None:
            return None
        due = problem.escalations[0]
        if due.at_ms > night.now_ms:
            return due.at_ms
        # It was to come before those hours, and could not.
        step = Escalation(due.after_ms, due.channel)
        rules = self._rules.routes(problem.project, problem.kind).values()
        ends = [night.ends_ms(rule) for rule in rules if step in rule.escalate]
        return max((ms for ms in ends if ms is not None), default=due.at_ms) if all(ends) else due.at_ms

    def _step(self, problem: Problem, now_ms: int) -> Problem:
        due, *others = problem.escalations
        said = texts.still(problem, now_ms)
        told = problem.told.get(due.channel)
        draft = Draft(
            delivery_id=delivery_id(due.channel, f"escalation {due.after_ms}", problem.identity),
            channel=due.channel,
            project=problem.project,
            kind="escalation",
            subject=said.subject,
            text=said.text,
            html=said.html,
            about=(problem.identity,),
            queued_ms=now_ms,
            # An edit would ring nowhere.
            thread=None if told is None else told.delivery_id,
            urgent=True,
            doubtful=due.doubtful,
        )
        found = collecting.flooded(self._state, draft)
        if found is not None:
            waits = problem.waits if found.key in problem.waits else (*problem.waits, found.key)
            return msgspec.structs.replace(problem, escalations=tuple(others), waits=waits)
        self._drafts.append(draft)
        now_told = {**problem.told, due.channel: told or Told(draft.delivery_id, alone=True)}
        return msgspec.structs.replace(problem, escalations=tuple(others), told=now_told)

    # --- the board -----------------------------------------------------------------------------------

    def take_from_board(self, board: Board, now_ms: int) -> None:
        """The first start: remember what the board shows, and have it told as one message a channel."""
        for problem in _held_up(board, now_ms).values():
            self._note_from_board(problem, "start", now_ms)

    def compare(self, board: Board, asked_ms: int, now_ms: int, *, missed: bool) -> bool:
        """What was known when the board was asked for and does not stand on it is over.

        What stands on it and is not known is told: at once where events were `missed`, else where it stood
        there at the last comparison, too, for its event may be on its way. It may have none: a sled finds a
        story that is blocked already, or ends one of two things that hold it up, or moves it as it is.
        Returns whether anything is left to the next comparison.
        """
        shown = _held_up(board, now_ms)
        for problem in self._state.problems.rows():
            if problem.noted_ms < asked_ms and problem.key not in shown:
                about = (problem.identity, "board")
                self._end(problem, texts.gone(problem, now_ms), about, now_ms, late=False)
        before, left = self._unknown, set[tuple[str, str]]()
        for key, problem in shown.items():
            if self._state.problems.get(key) is not None or self._has_moved(problem, asked_ms):
                continue
            if missed or (key, problem.reason) in before:
                self._note_from_board(problem, "gap" if missed else "board", now_ms)
            else:
                left.add((key, problem.reason))
        self._unknown = frozenset(left)
        return bool(left)

    def _has_moved(self, problem: Problem, asked_ms: int) -> bool:
        """Whether its story moved after the board was asked for: the next board says what became of it."""
        moved = self._moves.get((problem.project, problem.story_id))
        return moved is not None and moved.taken_ms >= asked_ms

    def _note_from_board(self, problem: Problem, why: Why, now_ms: int) -> None:
        project, waits = problem.project, []
        for channel, rule in self._rules.routes(project, problem.kind).items():
            quiet_ms = rule.quiet_until(now_ms)
            if quiet_ms is not None:
                found = self._opened(channel, "quiet", str(quiet_ms), project, now_ms, due_ms=quiet_ms)
            else:
                # A gap has more to come.
                due_ms = now_ms + collecting.GAP_REST_MS * (why == "gap")
                found = self._opened(channel, why, "", project, now_ms, due_ms=due_ms)
            waits.append(found.key)
        escalations = self.escalations(problem, now_ms)
        noted = msgspec.structs.replace(problem, waits=tuple(waits), escalations=escalations)
        self._state.problems.put(noted.key, noted)

    def _opened(
        self, channel: str, why: Why, group: str, project: str, now_ms: int, *, due_ms: int
    ) -> Collection:
        scope = scope_within(group, project)
        return collecting.opened(self._state, channel, why, scope, now_ms, due_ms=due_ms, project=project)


def _held_up(board: Board, now_ms: int) -> dict[str, Problem]:
    """What the board shows, by the rows that it is of. What does not say since when is so since now."""
    found: dict[str, Problem] = {}
    for project in board.projects:
        for story in project.stories:
            for kind, (reason, since_ms) in story.held_up().items():
                at_ms = now_ms if since_ms is None else since_ms
                problem = Problem(
                    project=project.name,
                    story_id=story.story_id,
                    story_name=story.story_name,
                    kind=kind,
                    reason=reason,
                    since_ms=at_ms,
                    at_ms=at_ms,
                    noted_ms=now_ms,
                )
                found[problem.key] = problem
    return found


def _end_draft(  # noqa: PLR0917 - the parts of a draft
    problem: Problem, channel: str, told: Told, said: Said, about: tuple[str, ...], now_ms: int
) -> Draft:
    return Draft(
        delivery_id=delivery_id(channel, "resolved", *about),
        channel=channel,
        project=problem.project,
        kind="resolved",
        subject=said.subject,
        text=said.text,
        html=said.html,
        about=tuple(identity for identity in about if identity != "board"),
        queued_ms=now_ms,
        edits=told.delivery_id if told.alone else None,
        thread=None if told.alone else told.delivery_id,
    )


def _is_before(one: Received, other: Received) -> bool:
    """Whether an event happened before another of its story."""
    if one.origin == other.origin:
        return one.seq < other.seq
    return (one.event.timestamp_ms, one.origin) < (other.event.timestamp_ms, other.origin)


def _is_older(received: Received, problem: Problem) -> bool:
    """Whether an event happened before what is known of a problem."""
    if received.origin == (problem.sled_id, problem.epoch):
        return received.seq < problem.seq
    return received.event.timestamp_ms < problem.at_ms
