"""Each command that was taken gets its answer, once, whatever ends in between."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from huskies import limits
from huskies.chat import commands, replies
from huskies.chat.answering import Answers
from huskies.chat.channel import send
from huskies.chat.content import answer_id, content_of
from huskies.chat.formatted import Reply
from huskies.chat.inbox import Inbox
from huskies.chat.session import Session
from huskies.chat.store import CommandStore, Taken
from huskies.errors import HuskiesError
from huskies.notify.channel import DeliveryError, DoubtfulError
from huskies.protocol.backoff import Backoff
from huskies.sockets import clean

_log = logging.getLogger("huskies.chat")


class _Question(NamedTuple):
    """What the bot waits for a yes to; `event_id` is None until it is asked."""

    project: str
    event_id: str | None
    until: float


class Conversation:
    """Carries commands out, a few at a time; `failed` is told of what makes going on impossible."""

    def __init__(
        self, session: Session, store: CommandStore, answers: Answers, failed: Callable[[BaseException], None]
    ) -> None:
        self._session = session
        self._store = store
        self._answers = answers
        self._failed = failed
        self._questions: dict[tuple[str, str], _Question] = {}
        self._few = asyncio.Semaphore(limits.COMMANDS_AT_ONCE)
        # Who asked where: whose commands are carried out one after the other.
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[str] = set()

    def is_asked(self, room_id: str, sender: str, event_id: str | None) -> bool:
        """Whether someone's yes or no is waited for; where a message is named, it may be the question."""
        question = self._question(room_id, sender)
        # The question is seen before the bot knows as what, where the homeserver's answer is late or lost.
        return question is not None and (event_id is None or question.event_id in (None, event_id))

    def begin(self, taken: Taken, inbox: Inbox) -> None:
        """Carry a command out, beside everything else; one that is under way is left to that."""
        if taken.event_id in self._under_way:
            return
        self._under_way.add(taken.event_id)
        task = asyncio.create_task(self._carry_out(taken, inbox))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Leave what is under way; it is taken up at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _carry_out(self, taken: Taken, inbox: Inbox) -> None:
        """Carry a command out behind those that the same person sent there; what takes long, beside them."""
        turn = self._turns.setdefault((taken.room_id, taken.sender), asyncio.Lock())
        async with turn:
            is_long = isinstance(inbox.command_in(taken), commands.NewProject)
            if not is_long:
                await self._settle(taken, inbox)
        if is_long:
            await self._settle(taken, inbox)

    async def _settle(self, taken: Taken, inbox: Inbox) -> None:
        async with self._few:
            age_ms = self._session.now_ms() - taken.sent_ms
            if age_ms > limits.ANSWER_AGE_MAX_MS:
                _log.warning("a command of %s is too old to be answered", clean(taken.sender))
            elif taken.begun:
                await self._say(taken, replies.interrupted(taken.body), inbox, part="end")
            elif age_ms > limits.COMMAND_AGE_MAX_MS + limits.COMMAND_WAIT_MAX_MS:
                await self._say(taken, replies.too_late(taken.body), inbox)
            else:
                await self._try(taken, inbox)
            self._store.answered(taken.event_id)
            self._under_way.discard(taken.event_id)

    async def _try(self, taken: Taken, inbox: Inbox) -> None:
        try:
            await self._do(taken, inbox.command_in(taken), inbox)
        except (HuskiesError, sqlite3.Error):
            raise
        except Exception:  # noqa: BLE001 - it would fail again at the next start, and end the bot each time
            _log.exception("a command of %s went wrong", clean(taken.sender))
            await self._say(taken, replies.went_wrong(), inbox, part="end")

    async def _do(self, taken: Taken, command: commands.Command | None, inbox: Inbox) -> None:
        # Not its text: a URL in it may hold a password.
        extra = {"sender": taken.sender, "room": taken.room_id, "command": type(command).__name__}
        _log.info("a command", extra=extra)
        match command:
            case None:
                # Its meaning is gone: the bot has another name, or a direct message has more members.
                return
            case commands.NewProject():
                await self._make(taken, command, inbox)
            case commands.RemoveProject(name):
                await self._ask(taken, name, inbox)
            case commands.Answer(yes):
                await self._decide(taken, inbox, yes=yes)
            case _:
                await self._say(taken, await self._answers.answer(command), inbox)

    async def _make(self, taken: Taken, command: commands.NewProject, inbox: Inbox) -> None:
        """Make a project, and tell how far it is by editing one message."""
        self._store.begun(taken.event_id)
        first: str | None = None
        number = 0
        last: Reply | None = None
        async for reply in self._answers.make(command):
            number += 1
            last = reply
            if first is None:
                first = await self._say(taken, reply, inbox)
            else:
                await self._say_if_possible(taken, reply, first, f"step {number}")
        if first is not None and last is not None and number > 1:
            await self._say(taken, last, inbox, part="end", edits=first)

    async def _ask(self, taken: Taken, name: str, inbox: Inbox) -> None:
        if (problem := await self._answers.project_exists(name)) is not None:
            await self._say(taken, problem, inbox)
            return
        who = (taken.room_id, taken.sender)
        loop = asyncio.get_running_loop()
        # Someone may answer before this knows that it was asked.
        self._questions[who] = _Question(name, None, loop.time() + limits.ANSWER_AGE_MAX_MS / 1_000)
        question = replies.really_remove(
            name, limits.CONFIRM_LIMIT, reaction=inbox.hears_reactions(taken.room_id)
        )
        event_id = await self._say(taken, question, inbox)
        if self._questions.get(who) is not None:
            self._questions[who] = _Question(name, event_id, loop.time() + limits.CONFIRM_LIMIT)

    async def _decide(self, taken: Taken, inbox: Inbox, *, yes: bool) -> None:
        question = self._question(taken.room_id, taken.sender)
        if taken.reacts_to is not None and (question is None or question.event_id != taken.reacts_to):
            return
        self._questions.pop((taken.room_id, taken.sender), None)
        if question is None:
            await self._say(taken, replies.nothing_asked(), inbox)
        elif not yes:
            await self._say(taken, replies.kept(), inbox)
        else:
            self._store.begun(taken.event_id)
            # Under the name of what is said of one that was interrupted: never both.
            await self._say(taken, await self._answers.remove(question.project), inbox, part="end")

    def _question(self, room_id: str, sender: str) -> _Question | None:
        question = self._questions.get((room_id, sender))
        if question is None or question.until < asyncio.get_running_loop().time():
            return None
        return question

    async def _say(
        self, taken: Taken, reply: Reply, inbox: Inbox, *, part: str = "", edits: str | None = None
    ) -> str | None:
        """Put an answer into the room, trying until the homeserver has it; its event id.

        None where the homeserver will never take it. Whatever ends in between, it is one message.
        """
        content = content_of(
            reply,
            answer_id(taken.event_id, part),
            edits=edits,
            thread=taken.thread,
            answers=None if inbox.is_direct(taken.room_id) else taken.event_id,
        )
        backoff = Backoff()
        while True:
            pause = backoff.next_delay(random.random())  # noqa: S311 - spreads load
            try:
                return await send(self._session, taken.room_id, content)
            except (DeliveryError, DoubtfulError) as error:
                if self._is_hopeless(taken, error):
                    _log.warning("an answer to %s was not delivered: %s", clean(taken.sender), error)
                    return None
                _log.info("an answer waits, and is sent again under the same name: %s", error)
                pause = max(pause, getattr(error, "retry_after", None) or 0)
            await asyncio.sleep(pause)

    def _is_hopeless(self, taken: Taken, error: DeliveryError | DoubtfulError) -> bool:
        """Whether trying again would not help, or might say it twice."""
        session = self._session
        was_removed = session.ready and taken.room_id not in session.client.rooms
        is_late = session.now_ms() - taken.sent_ms > limits.ANSWER_AGE_MAX_MS
        return was_removed or is_late or (isinstance(error, DeliveryError) and error.permanent)

    async def _say_if_possible(self, taken: Taken, reply: Reply, edits: str, part: str) -> None:
        """Show how far something is; the next step shows more."""
        content = content_of(reply, answer_id(taken.event_id, part), edits=edits)
        try:
            await send(self._session, taken.room_id, content)
        except (DeliveryError, DoubtfulError) as error:
            _log.info("a step was not shown: %s", error)
