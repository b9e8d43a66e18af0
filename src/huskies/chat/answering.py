"""Carrying a command out: what is asked of the gateway for it, and what is said about it meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from huskies.chat import commands, replies
from huskies.chat.commands import Command
from huskies.chat.formatted import Bold, Code, Reply
from huskies.chat.gateway import GatewayAnswerError, GatewayClient, Step
from huskies.chat.mutes import FOR_EVER_MS, Mutes
from huskies.errors import GatewayUnreachableError
from huskies.readers.finding import NotFoundError, find, forgotten
from huskies.readers.fleet import ProjectView
from huskies.readers.times import now_ms


class Answers:
    """The answers to commands that ask for one, and the steps of those that do something."""

    def __init__(self, gateway: GatewayClient, mutes: Mutes, names: Callable[[], list[str]]) -> None:
        self._gateway = gateway
        self._mutes = mutes
        self._names = names

    async def answer(self, command: Command) -> Reply:
        """What to say; whatever goes wrong is said in it."""
        try:
            return await self._answer(command)
        except NotFoundError as error:
            return replies.several(error.candidates)
        except (GatewayUnreachableError, GatewayAnswerError) as error:
            return replies.said(str(error))

    async def _answer(self, command: Command) -> Reply:
        match command:
            case commands.Help():
                return replies.help_(self._names())
            case commands.Mistake(problem):
                return replies.said(problem)
            case commands.Story(text, project):
                return await self._story(text, project)
            case commands.Log(project, count):
                if project is not None:
                    await self._project(project)
                return replies.log(await self._gateway.newest(project, count), datetime.now(UTC))
            case commands.Mute() | commands.Unmute():
                return await self._muting(command)
            case _:
                return await self._stands(command)

    async def _muting(self, command: commands.Mute | commands.Unmute) -> Reply:
        if isinstance(command, commands.Mute):
            return await self._mute(command.project, command.for_ms)
        return await self._unmute(command.project)

    async def _stands(self, command: Command) -> Reply:
        match command:
            case commands.Ping():
                return replies.pong(await self._gateway.projects(), self._gateway.url)
            case commands.Projects():
                return replies.projects(await self._gateway.projects(), now_ms())
            case commands.Blocked():
                return replies.blocked(await self._gateway.projects(), now_ms())
            case commands.Status(str(name)):
                return replies.project_status(await self._project(name), now_ms())
            case _:
                return replies.status(await self._gateway.projects(), now_ms())

    async def project_exists(self, name: str) -> Reply | None:
        """None where there is such a project; else what to say."""
        try:
            await self._project(name)
        except (GatewayUnreachableError, GatewayAnswerError) as error:
            return replies.said(str(error))
        return None

    async def make(self, command: commands.NewProject) -> AsyncIterator[Reply]:
        """Make a project; what to say at each step, the last being how it ended."""
        steps: dict[str, str] = {}
        yield replies.making(command.name, ["asking the gateway"])
        try:
            async for said in self._gateway.make_project(command.name, command.git, command.stack):
                if not isinstance(said, Step):
                    yield replies.made(said, list(steps.values()))
                    return
                steps[said.step] = said.text or said.step
                yield replies.making(command.name, list(steps.values()))
        except GatewayAnswerError as error:
            if error.left is None:
                yield replies.unsure_whether_made(command.name, str(error))
            else:
                yield replies.not_made(command.name, str(error), error.left, list(steps.values()))
        except GatewayUnreachableError as error:
            yield replies.unsure_whether_made(command.name, str(error))

    async def remove(self, name: str) -> Reply:
        """Remove a project; how that ended."""
        try:
            return replies.removed(name, await self._gateway.remove_project(name))
        except GatewayAnswerError as error:
            left = f"; still there: {', '.join(error.left)}" if error.left else ""
            return replies.said(Bold(name), f" is not removed: {error}{left}")
        except GatewayUnreachableError as error:
            return replies.said(
                "Whether ", Bold(name), f" is removed is not known: {error}; ask ", Code("projects")
            )

    async def _project(self, name: str) -> ProjectView:
        for view in await self._gateway.projects():
            if view.name == name:
                return view
        raise GatewayAnswerError(f"there is no project {name}; `projects` names those there are")

    async def _story(self, text: str, project: str | None) -> Reply:
        try:
            found = find(text, await self._gateway.projects(), project)
        except NotFoundError as error:
            if error.candidates:
                return replies.several(error.candidates)
            # It may have been deleted, and then stands on no board; its events are kept.
            received = await self._gateway.of_story(text, project)
            if not received:
                return replies.no_story(text, project)
            found = forgotten(text, received, error)
            received = [each for each in received if each.project == found.project.name]
        else:
            received = await self._gateway.of_story(found.story.story_id, found.project.name)
        return replies.story(found.project.name, found.story, received, now_ms())

    async def _mute(self, project: str, for_ms: int | None) -> Reply:
        await self._project(project)
        await self._mutes.mute(project, FOR_EVER_MS if for_ms is None else now_ms() + for_ms)
        return replies.muted(project, for_ms)

    async def _unmute(self, project: str | None) -> Reply:
        if project is not None:
            return replies.unmuted(project, was_muted=await self._mutes.unmute(project))
        muted = await self._mutes.muted()
        ends = {name: None if until == FOR_EVER_MS else until for name, until in muted.items()}
        return replies.all_muted(ends, now_ms())
