"""What the bot answers: the gateway's answers as messages. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from huskies.chat.commands import USAGES
from huskies.chat.formatted import Bold, Code, Message, Part, Reply
from huskies.events.model import STAGES
from huskies.readers.finding import Found
from huskies.readers.fleet import Need, ProjectView, Received, StoryView, is_in_flight, needs, title
from huskies.readers.happening import describe
from huskies.readers.life import life
from huskies.readers.life_lines import life_lines
from huskies.readers.times import duration, exact_duration

_HELD_UP: Final = ("blocked", "merge failed")
# A story may have thousands of events; the newest are told.
_EVENTS_SHOWN: Final = 30
_CANDIDATES_SHOWN: Final = 10


class Made(msgspec.Struct, frozen=True):
    """A project that was made, as the gateway says it; `ssh` is None where no key may log in."""

    name: str
    url: str = ""
    ssh: str | None = None
    container: str = ""
    directory: str = ""


def said(*parts: Part) -> Reply:
    """One line."""
    message = Message()
    message.line(*parts)
    return message.reply()


def help_(names: Sequence[str]) -> Reply:
    """What can be asked, and how; `names` are the bot's."""
    message = Message()
    message.line(
        "In a room, begin with ",
        Code("!"),
        " or ",
        Code(f"{names[0]}:"),
        "; in a direct message with neither.",
    )
    for usage, does in USAGES:
        message.line("• ", Code(usage), f": {does}")
    return message.reply()


def pong(views: Sequence[ProjectView], gateway_url: str) -> Reply:
    """Everything is there."""
    connected = sum(view.connected for view in views)
    return said(
        f"pong: the gateway at {gateway_url} answers: {_count(len(views), 'project')}, {connected} connected"
    )


def projects(views: Sequence[ProjectView], now_ms: int) -> Reply:
    """A line for each project."""
    message = Message()
    for view in sorted(views, key=lambda view: view.name):
        held_up = sum(story.blocked is not None or story.merge_failure is not None for story in view.stories)
        in_flight = sum(is_in_flight(story) for story in view.stories)
        parts: list[Part] = ["• ", Bold(view.name), f": {_sled(view, now_ms)}"]
        parts.append(f", {in_flight} in flight" + (f", {held_up} held up" if held_up else ""))
        if view.outstanding:
            parts.append(f", {view.outstanding} unsent")
        message.line(*parts)
    return message.reply() if views else _nobody()


def status(views: Sequence[ProjectView], now_ms: int) -> Reply:
    """What needs someone, then how many stories stand where."""
    if not views:
        return _nobody()
    message = Message()
    _attention(message, needs(views, now_ms), now_ms)
    for view in sorted(views, key=lambda view: view.name):
        counts = Counter(story.stage if story.stage in STAGES else "other" for story in view.stories)
        stages = ", ".join(
            f"{_short(stage)} {counts[stage]}" for stage in (*STAGES, "other") if counts[stage]
        )
        message.line("• ", Bold(view.name), f": {_sled(view, now_ms)}; {stages or 'no stories'}")
    return message.reply()


def project_status(view: ProjectView, now_ms: int) -> Reply:
    """What needs someone in one project, then every story that is not finished."""
    message = Message()
    message.line(Bold(view.name), f": {_sled(view, now_ms)}")
    _attention(message, needs([view], now_ms), now_ms)
    for stage in (*STAGES[:4], None):
        there = [story for story in view.stories if _stage(story) == stage]
        if there:
            message.line(Bold(_short(stage or "elsewhere")), f": {_count_of(there)}")
        for story in there:
            message.line("• ", title(story), f": {_ago(story.since_ms, now_ms)}")
    finished = sum(story.stage in STAGES[4:] for story in view.stories)
    message.line(f"{finished} finished" if finished else "none finished yet")
    return message.reply()


def blocked(views: Sequence[ProjectView], now_ms: int) -> Reply:
    """The stories that are held up, the oldest first."""
    found = [need for need in needs(views, now_ms) if need.what in _HELD_UP]
    message = Message()
    if not found:
        message.line("Nothing is blocked, and no merge has failed.")
    for need in found:
        message.line("• ", *_need(need, now_ms))
    return message.reply()


def story(project: str, view: StoryView, received: Sequence[Received], now_ms: int) -> Reply:
    """A story's whole life."""
    lived = life(received)
    earlier = max(0, len(lived.events) - _EVENTS_SHOWN)
    shown = msgspec.structs.replace(lived, events=lived.events[earlier:])
    message = Message()
    for line in life_lines(project, view, shown, now_ms):
        message.line(line.text if line.kind in ("plain", "quiet") else Bold(line.text))
    if earlier:
        message.line(f"and {_count(earlier, 'earlier event')}, which the dashboard shows")
    return message.reply()


def several(candidates: Sequence[Found]) -> Reply:
    """More than one story is meant; what to type for each."""
    message = Message()
    message.line(f"{len(candidates)} stories are meant; which one?")
    for found in candidates[:_CANDIDATES_SHOWN]:
        asked = f"story {found.story.story_id} in {found.project.name}"
        message.line("• ", Code(asked), f" {found.story.story_name}")
    if len(candidates) > _CANDIDATES_SHOWN:
        message.line(f"and {len(candidates) - _CANDIDATES_SHOWN} more")
    return message.reply()


def no_story(text: str, project: str | None) -> Reply:
    """No story is meant."""
    where = f"of {project} " if project is not None else ""
    return said(f"No story {where}is “", text, "”; ", Code(f"status {project or 'PROJECT'}"), " names them")


def log(newest: Sequence[Received], now: datetime) -> Reply:
    """Events, the newest first."""
    message = Message()
    if not newest:
        message.line("Nothing has happened yet.")
    for received in newest:
        message.line("• ", describe(received, now))
    return message.reply()


def muted(project: str, for_ms: int | None) -> Reply:
    """A project is muted."""
    ends = f"for {exact_duration(for_ms)}" if for_ms is not None else "until"
    unmute = Code(f"unmute {project}")
    how = ("; ", unmute, " ends it") if for_ms is not None else (" ", unmute)
    return said("No notifications of ", Bold(project), f" {ends}", *how)


def unmuted(project: str, *, was_muted: bool) -> Reply:
    """A project is not muted any more."""
    return said(Bold(project), " is not muted any more" if was_muted else " was not muted")


def all_muted(until_ms: Mapping[str, int | None], now_ms: int) -> Reply:
    """Which projects are muted, and for how long still; None: until someone says otherwise."""
    message = Message()
    for project, end_ms in sorted(until_ms.items()):
        left = "until unmuted" if end_ms is None else f"for {exact_duration(end_ms - now_ms)} more"
        message.line("• ", Bold(project), f": {left}")
    if not until_ms:
        message.line("No project is muted.")
    return message.reply()


def making(name: str, steps: Sequence[str]) -> Reply:
    """A project is being made; what was done until now, and what is under way."""
    message = Message()
    message.line("New project ", Bold(name), " …")
    for step in steps[:-1]:
        message.line("✓ ", step)
    for step in steps[-1:]:
        message.line("… ", step)
    return message.reply()


def made(result: Made, steps: Sequence[str]) -> Reply:
    """A project was made."""
    message = Message()
    message.line("New project ", Bold(result.name), " is there, and its sled is connected")
    for step in steps:
        message.line("✓ ", step)
    for what, text in (("URL", result.url), ("directory", result.directory)):
        if text:
            message.line(f"{what}: ", text)
    if result.ssh:
        message.line("log in: ", Code(result.ssh))
    return message.reply()


def not_made(name: str, problem: str, left: Sequence[str], steps: Sequence[str]) -> Reply:
    """A project was not made; what is still there of it."""
    message = Message()
    message.line("No new project ", Bold(name), ": ", problem)
    for step in steps[:-1]:
        message.line("✓ ", step)
    for step in steps[-1:]:
        message.line("✗ ", step)
    message.line(f"still there: {', '.join(left)}" if left else "nothing is left of it; you can try again")
    return message.reply()


def unsure_whether_made(name: str, problem: str) -> Reply:
    """The gateway was lost while it made a project, or did not say how that ended."""
    return said(
        "Whether the new project ", Bold(name), f" is there is not known: {problem}. Ask ", Code("projects")
    )


def interrupted(body: str) -> Reply:
    """The bot ended while it did something, which it does not do again by itself."""
    return said("I was restarted while I did ", Code(body), "; see how it stands, and ask again if need be")


def too_late(body: str) -> Reply:
    """The bot was away for so long that the answer may not be wanted any more."""
    return said("I was away when you asked ", Code(body), "; ask again if you still want to know")


def went_wrong() -> Reply:
    """The bot has a fault."""
    return said("That went wrong, and is my fault; my log says more")


def kept() -> Reply:
    """Someone said no."""
    return said("Nothing is removed")


def nothing_asked() -> Reply:
    """Yes or no to nothing."""
    return said("I have asked nothing that waits for an answer; nothing is done")


def really_remove(name: str, seconds: float, *, reaction: bool) -> Reply:
    """Ask before a project is removed; `reaction`: whether one counts as an answer."""
    return said(
        "Remove ", Bold(name), ", its container and all that is only in it? Its directory and its history "
        "stay. Answer ", Code("yes"), f" within {seconds:g} s{', or with a 👍' if reaction else ''}.",
    )  # fmt: skip


def removed(name: str, what: Sequence[str]) -> Reply:
    """A project was removed; `what` of it, in words."""
    return said(Bold(name), f" is removed{': ' if what else ''}{', '.join(what)}")


def _attention(message: Message, found: Sequence[Need], now_ms: int) -> None:
    if not found:
        message.line("Nothing needs anyone.")
        return
    message.line(Bold(f"Needs attention: {len(found)}"))
    for need in found:
        message.line("• ", *_need(need, now_ms))


def _need(need: Need, now_ms: int) -> list[Part]:
    parts: list[Part] = [Bold(need.project)]
    if need.story is not None:
        parts.append(f" {title(need.story)}, in {_short(need.story.stage or '?')}")
    if need.since_ms is not None or need.story is not None:
        parts.append(f", for {_ago(need.since_ms, now_ms)}")
    return [*parts, ": ", Bold(need.what), ": ", need.why]


def _nobody() -> Reply:
    return said("No project has joined this gateway yet.")


def _sled(view: ProjectView, now_ms: int) -> str:
    if view.connected:
        return "connected"
    return "never seen" if view.last_seen_ms is None else f"silent for {duration(now_ms - view.last_seen_ms)}"


def _stage(story: StoryView) -> str | None:
    return story.stage if story.stage in STAGES else None


def _short(stage: str) -> str:
    return stage.partition("_")[2] if stage in STAGES else stage


def _ago(since_ms: int | None, now_ms: int) -> str:
    return "no one knows how long" if since_ms is None else duration(now_ms - since_ms)


def _count_of(stories: Sequence[StoryView]) -> str:
    return _count(len(stories), "story").replace("storys", "stories")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
