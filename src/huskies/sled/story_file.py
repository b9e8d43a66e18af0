"""What a story's file says: its name, and whether it is blocked or could not be merged (SPEC 3). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from huskies import limits
from huskies.events.codec import shorten

# Front matter, and as much again to look for the first heading in.
READ_BYTES_MAX: Final = 2 * limits.FRONT_MATTER_BYTES_MAX

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Final[Any] = yaml.resolver.Resolver()
_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"
# Deeper front matter says nothing of interest, and costs the parser quadratic time.
_DEPTH_MAX: Final = 64
# In these no part can begin or end in more than one place: a long line of spaces would take them for ever.
_KEY_LINE: Final = re.compile(r"^(name|blocked|merge_failure):[ \t]+([^ \t\n].*)$", re.MULTILINE)
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]+")
_BLANKS: Final = " \t"


class StoryContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says; `blocked` and `merge_failure` are the reason, None where it is not so."""

    name: str = ""
    blocked: str | None = None
    merge_failure: str | None = None


def parse_story(data: bytes) -> StoryContent:
    """What a story's file says, from its first `READ_BYTES_MAX` bytes.

    Never fails: bytes that are no UTF-8 are replaced, and of front matter that is no YAML the lines that
    begin with a key are taken as they stand. A person who writes `blocked: waiting for: a key` means that.
    """
    lines = data[:READ_BYTES_MAX].decode("utf-8-sig", errors="replace").splitlines()
    front, body = _split(lines)
    fields = _fields(front)
    name = _text(fields.get("name")) or _first_heading(body)
    return StoryContent(
        name=shorten(name, limits.STORY_NAME_MAX),
        blocked=_reason(fields.get("blocked")),
        merge_failure=_reason(fields.get("merge_failure")),
    )


def _split(lines: list[str]) -> tuple[str, list[str]]:
    if not lines or lines[0].rstrip() != "---":
        return "", lines
    size = 0
    for index, line in enumerate(lines[1:], 1):
        if line.rstrip() in ("---", "..."):
            return "\n".join(lines[1:index]), lines[index + 1 :]
        size += len(line.encode()) + 1
        if size > limits.FRONT_MATTER_BYTES_MAX:
            break
    return "", lines[1:]


def _fields(front: str) -> dict[str, tuple[str, str]]:
    literal, scalars = _literal(front), _scalars(front)
    if scalars is None:
        return literal
    # A reason that YAML reads as a list or a mapping was written by someone who is blocked all the same.
    literal.pop("name", None)
    return {**literal, **scalars}


def _scalars(front: str) -> dict[str, tuple[str, str]] | None:
    """The mapping's scalar entries: key → (tag, text as written); None where it is no YAML.

    Reads YAML's events instead of composing nodes: composing recurses, in C, once a nesting level, and a few
    thousand brackets would overflow the stack and end the process.
    """
    try:
        return dict(_top_level(yaml.parse(front, Loader=_LOADER)))
    except (yaml.YAMLError, ValueError):
        return None


def _literal(front: str) -> dict[str, tuple[str, str]]:
    """The top level's `key: rest of the line` as written: for what YAML takes for no text, or for no YAML."""
    said = ((match[1], match[2].rstrip()) for match in _KEY_LINE.finditer(front))
    return {
        key: (str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False))), text)
        for key, text in said
        if text
    }


def _top_level(events: Iterator[yaml.Event]) -> Iterator[tuple[str, tuple[str, str]]]:
    depth = 0
    key: str | None = None
    awaits_value = False
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return
            depth += 1
            if depth > _DEPTH_MAX:
                raise ValueError(f"expected at most {_DEPTH_MAX} levels of nesting")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth != 1 or not isinstance(event, yaml.ScalarEvent | yaml.AliasEvent | yaml.CollectionEndEvent):
            continue
        scalar = event if isinstance(event, yaml.ScalarEvent) else None
        if not awaits_value:
            key = None if scalar is None else scalar.value
        elif key is not None and scalar is not None:
            yield key, (_tag(scalar), scalar.value)
        awaits_value = not awaits_value


def _tag(scalar: yaml.ScalarEvent) -> str:
    if scalar.tag is not None and scalar.tag != "!":
        return str(scalar.tag)
    tag: object = _RESOLVER.resolve(yaml.ScalarNode, scalar.value, scalar.implicit)
    return str(tag)


def _text(scalar: tuple[str, str] | None) -> str:
    return "" if scalar is None or scalar[0] == _NULL else " ".join(scalar[1].split())


def _reason(scalar: tuple[str, str] | None) -> str | None:
    if scalar is None or scalar[0] == _NULL:
        return None
    tag, text = scalar
    if tag == _BOOL and text.lower() in ("false", "no", "off"):
        return None
    return shorten(text.strip(), limits.REASON_MAX) or None


def _first_heading(lines: list[str]) -> str:
    fence = ""
    for line in lines:
        mark = _FENCE.match(line)
        if mark is not None and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence and (heading := _heading(line)):
            return heading
    return ""


def _heading(line: str) -> str:
    """The text of a heading in Markdown; empty where the line is none, or has none."""
    mark = _HEADING.match(line)
    if mark is None:
        return ""
    text = line[mark.end() :].rstrip(_BLANKS)
    # A row of # behind a blank closes the heading, and is no part of it.
    open_text = text.rstrip("#")
    return open_text.rstrip(_BLANKS) if open_text[-1:] in ("", *_BLANKS) else text
