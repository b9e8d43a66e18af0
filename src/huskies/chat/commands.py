"""What people ask of the bot: a message's text becomes a command, or nothing. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from huskies.durations import is_duration, parse_duration
from huskies.events.names import is_project_name
from huskies.limits import PROJECT_NAME_MAX

# What is asked for at least, at most, and where nothing is said.
LOG_DEFAULT: Final = 10
LOG_MAX: Final = 50
# Nothing that is asked for is longer; what is, is not a command.
_TEXT_MAX: Final = 2_000
_SHOWN_MAX: Final = 60
_MUTE_MAX_MS: Final = 366 * 24 * 3_600_000

# How each command is written, and what it does.
USAGES: Final = (
    ("status [PROJECT]", "what needs someone, and where everything stands"),
    ("projects", "every project, and whether its sled is connected"),
    ("blocked", "the stories that are held up, the oldest first"),
    ("story STORY [in PROJECT]", "a story's life: its id, its number or a part of its name"),
    ("log [PROJECT] [N]", f"the newest events: {LOG_DEFAULT}, or up to {LOG_MAX}"),
    ("mute PROJECT [for 2h]", "no notifications of a project for so long, or until `unmute`"),
    ("unmute [PROJECT]", "notifications again; without a project: which are muted"),
    ("new project NAME [--git URL] [--stack STACK]", "a new project in a container"),
    ("remove project NAME", "take its container away; its directory and history stay (asks first)"),
    ("ping", "whether the bot and its gateway are there"),
    ("help", "this list"),
)


class Help(msgspec.Struct, frozen=True):
    """What can be asked."""


class Ping(msgspec.Struct, frozen=True):
    """Whether anyone is there."""


class Projects(msgspec.Struct, frozen=True):
    """Every project."""


class Blocked(msgspec.Struct, frozen=True):
    """What is held up."""


class Status(msgspec.Struct, frozen=True):
    """Where everything stands, or one project (None: all)."""

    project: str | None = None


class Story(msgspec.Struct, frozen=True):
    """A story's life, found by what someone calls it."""

    text: str
    project: str | None = None


class Log(msgspec.Struct, frozen=True):
    """The newest events."""

    project: str | None = None
    count: int = LOG_DEFAULT


class Mute(msgspec.Struct, frozen=True):
    """No notifications of a project; None: until someone says otherwise."""

    project: str
    for_ms: int | None = None


class Unmute(msgspec.Struct, frozen=True):
    """Notifications of a project again; None: ask which are muted."""

    project: str | None = None


class NewProject(msgspec.Struct, frozen=True):
    """Make a project."""

    name: str
    git: str | None = None
    stack: str | None = None


class RemoveProject(msgspec.Struct, frozen=True):
    """Take a project's container away, once someone said yes."""

    name: str


class Answer(msgspec.Struct, frozen=True):
    """Yes or no to what the bot asked; talk among people where it asked nothing."""

    yes: bool


class Mistake(msgspec.Struct, frozen=True):
    """Meant for the bot and not understood; what was expected, and what to do."""

    problem: str


Command: TypeAlias = (
    Help | Ping | Projects | Blocked | Status | Story | Log | Mute | Unmute | NewProject | RemoveProject
    | Answer | Mistake
)  # fmt: skip


class _UsageError(Exception):
    """The words of a command are not as they should be."""


def parse(body: str, names: Iterable[str], *, is_direct: bool) -> Command | None:
    """The command in a message; None where it is not meant for the bot.

    In a room it begins with `!` or with one of the bot's names, in a direct message neither is needed. Only
    the first line counts, behind the quotation that a reply begins with.
    """
    text = _first_line(body)
    if text.casefold() in _YES | _NO:
        return Answer(text.casefold() in _YES)
    rest, marked = _addressed(text, sorted(names, key=len, reverse=True))
    if rest is None and is_direct:
        rest = text
    if rest is None or (not rest and (marked or is_direct)):
        return None
    command = _read(rest) if rest else Help()
    # Other bots have `!` in front, too.
    return None if command is None and marked and not is_direct else command or _unknown(rest)


def _read(text: str) -> Command | None:
    """The command that the text is; None where its first word is none."""
    if len(text) > _TEXT_MAX:
        return Mistake(f"that is longer than any command: at most {_TEXT_MAX} characters; `help` lists them")
    first, *words = _words(text)
    reader = _READERS.get(first.casefold())
    if reader is None:
        return None
    try:
        return reader(words)
    except _UsageError as error:
        return Mistake(str(error))


def _unknown(text: str) -> Mistake:
    return Mistake(f"{_quoted(_words(text)[0])} is no command; `help` lists them")


def _first_line(body: str) -> str:
    lines = body.splitlines()
    # Clients begin a reply with what it answers, quoted, and an empty line.
    if lines and lines[0].startswith("> "):
        while lines and lines[0].startswith(">"):
            lines.pop(0)
    return next((line.strip() for line in lines if line.strip()), "")


def _addressed(text: str, names: Sequence[str]) -> tuple[str | None, bool]:
    """What follows the `!` or the name, None where there is neither; and whether there was only the `!`."""
    marked = text.startswith("!")
    rest = text[1:] if marked else text
    for form in (form for name in names if name for form in (name, f"@{name}")):
        behind = rest[len(form) :]
        if rest[: len(form)].lower() == form.lower() and (not behind or behind[0] in ":, "):
            return behind.lstrip(":, "), False
    return (rest, True) if marked else (None, False)


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError:
        # An apostrophe, say.
        words = text.split()
    # Phones make one dash of two.
    return [re.sub("^[\u2014\u2013]", "--", word) for word in words] or [""]


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"“{text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + '…'}”"


def _fail(usage: str, problem: str = "") -> _UsageError:
    return _UsageError(f"expected `{usage}`{'; ' if problem else ''}{problem}")


def _project(word: str, usage: str) -> str:
    if not is_project_name(word):
        rule = f"a project's name is 1 to {PROJECT_NAME_MAX} of A-Z a-z 0-9 . _ -"
        raise _fail(usage, f"{rule}, and {_quoted(word)} is not")
    return word


def _nothing_more(command: Command, usage: str) -> Callable[[Sequence[str]], Command]:
    def read(words: Sequence[str]) -> Command:
        if words:
            raise _fail(usage, f"{_quoted(' '.join(words))} is too much")
        return command

    return read


def _status(words: Sequence[str]) -> Command:
    match words:
        case []:
            return Status()
        case [name]:
            return Status(_project(name, "status [PROJECT]"))
        case _:
            raise _fail("status [PROJECT]", "one project, or none for all")


def _story(words: Sequence[str]) -> Command:
    usage = "story STORY [in PROJECT]"
    match words:
        case []:
            raise _fail(usage, "a story's id, its number, or a part of its name")
        case [*text, "in", name] if text and is_project_name(name):
            return Story(" ".join(text), name)
        case _:
            return Story(" ".join(words))


def _log(words: Sequence[str]) -> Command:
    usage = "log [PROJECT] [N]"
    project: str | None = None
    count = LOG_DEFAULT
    *names, last = words or [""]
    if last.isascii() and last.isdigit():
        if not 1 <= int(last[:9]) <= LOG_MAX:
            raise _fail(usage, f"N from 1 to {LOG_MAX}")
        count = int(last)
    elif last:
        names = list(words)
    if len(names) > 1:
        raise _fail(usage, "one project, or none for all")
    if names:
        project = _project(names[0], usage)
    return Log(project, count)


def _mute(words: Sequence[str]) -> Command:
    usage = "mute PROJECT [for 2h]"
    match words:
        case [name]:
            return Mute(_project(name, usage))
        case [name, "for", *length] | [name, *length] if length:
            text = " ".join(length)
            ms = parse_duration(text) if is_duration(text) else 0
            if not 0 < ms <= _MUTE_MAX_MS:
                raise _fail(usage, f"a time such as 30m, 2h or 3d, at most a year; {_quoted(text)} is none")
            return Mute(_project(name, usage), ms)
        case _:
            raise _fail(usage, "which project?")


def _unmute(words: Sequence[str]) -> Command:
    match words:
        case []:
            return Unmute()
        case [name]:
            return Unmute(_project(name, "unmute [PROJECT]"))
        case _:
            raise _fail("unmute [PROJECT]", "one project")


def _new(words: Sequence[str]) -> Command:
    usage = "new project NAME [--git URL] [--stack STACK]"
    match words:
        case ["project", name, *options] if not name.startswith("-"):
            found = _options(options, ("git", "stack"), usage)
            return NewProject(_project(name, usage), found.get("git"), found.get("stack"))
        case _:
            raise _fail(usage)


def _options(words: Sequence[str], known: Sequence[str], usage: str) -> dict[str, str]:
    found: dict[str, str] = {}
    left = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    while left:
        option, *left = left
        name = option.removeprefix("--")
        if not option.startswith("--") or name not in known:
            raise _fail(usage, f"{_quoted(option)} is none of its options")
        if name in found or not left or left[0].startswith("-"):
            raise _fail(usage, f"--{name} once, with its value behind it")
        found[name], *left = left
    return found


def _remove(words: Sequence[str]) -> Command:
    usage = "remove project NAME"
    match words:
        case ["project", name]:
            return RemoveProject(_project(name, usage))
        case _:
            raise _fail(usage)


_YES: Final = frozenset({"yes", "y"})
_NO: Final = frozenset({"no", "n"})
_READERS: Final[dict[str, Callable[[Sequence[str]], Command]]] = {
    "help": _nothing_more(Help(), "help"),
    "ping": _nothing_more(Ping(), "ping"),
    "projects": _nothing_more(Projects(), "projects"),
    "blocked": _nothing_more(Blocked(), "blocked"),
    "status": _status,
    "story": _story,
    "log": _log,
    "mute": _mute,
    "unmute": _unmute,
    "new": _new,
    "remove": _remove,
}
