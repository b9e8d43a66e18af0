"""The script of a demonstration's day: what the made-up projects do, and when. Pure: chance is passed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec

from huskies.demo import words

# From 9 in the morning to 5 in the afternoon.
OPENS_AT: Final = 9 * 60
MINUTES: Final = 8 * 60

_STORIES: Final = (5, 9)
# One project in so many is cut off for a while.
_CUT_OFF_EVERY: Final = 6
_BLOCKED, _BACK_TO_WORK, _MERGE_FAILS, _STAYS_BLOCKED = 0.3, 0.2, 0.35, 0.25

# At least 0, less than 1; each call gives another.
Draw: TypeAlias = Callable[[], float]
_One = TypeVar("_One")


class Appear(msgspec.Struct, frozen=True):
    """A story is written down."""

    story_id: str
    name: str
    stage: str


class Move(msgspec.Struct, frozen=True):
    """A story goes to another stage."""

    story_id: str
    from_stage: str
    to_stage: str


class HoldUp(msgspec.Struct, frozen=True):
    """A story's file says why it cannot go on; `key` is `blocked` or `merge_failure`."""

    story_id: str
    stage: str
    key: str
    reason: str


class GoOn(msgspec.Struct, frozen=True):
    """A story's file does not say so any more."""

    story_id: str
    stage: str


class CutOff(msgspec.Struct, frozen=True):
    """The project's sled reaches no gateway until it is back, and records what happens meanwhile."""


class Back(msgspec.Struct, frozen=True):
    """It does again."""


Action: TypeAlias = Appear | Move | HoldUp | GoOn | CutOff | Back


class Step(msgspec.Struct, frozen=True):
    """What a project does `minute` minutes after the day began; 0 is how it stands then."""

    minute: float
    project: str
    action: Action


def clock(minute: float) -> str:
    """The time of the made-up day, such as `10:42`."""
    hours, minutes = divmod(OPENS_AT + int(minute), 60)
    return f"{hours}:{minutes:02}"


def project_names(count: int) -> list[str]:
    """So many names; they begin again with a number when there are no more."""
    found = []
    for index in range(count):
        round_, place = divmod(index, len(words.PROJECTS))
        found.append(f"{words.PREFIX}{words.PROJECTS[place]}{f'-{round_ + 1}' if round_ else ''}")
    return found


def script(projects: int, draw: Draw) -> list[Step]:
    """The day of so many projects, in the order of time."""
    steps = [step for name in project_names(projects) for step in _project(name, draw)]
    for name in project_names(projects)[::_CUT_OFF_EVERY]:
        begin = _between(60, 150, draw)
        steps += [
            Step(begin, name, CutOff()),
            Step(begin + _between(50, 100, draw), name, Back()),
        ]
    return sorted((step for step in steps if step.minute < MINUTES), key=lambda step: step.minute)


def _project(name: str, draw: Draw) -> Iterator[Step]:
    number = int(_between(3, 60, draw))
    left = list(words.STORIES)
    for _ in range(int(_between(*_STORIES, draw))):
        kind, title = left.pop(int(draw() * len(left)))
        number += int(_between(1, 4, draw))
        slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
        for minute, action in _story(f"{number}_{kind}_{slug}", title, draw):
            yield Step(minute, name, action)


def _story(story_id: str, name: str, draw: Draw) -> Iterator[tuple[float, Action]]:
    """One story's day, beginning in any stage; it may go beyond the end of the day."""
    stage = _one_of(("1_backlog", "1_backlog", "2_current", "2_current", "3_qa", "4_merge", "5_done"), draw)
    # Some are written down only during the day.
    minute = _between(5, 300, draw) if stage == "1_backlog" and draw() < 1 / 3 else 0.0
    yield minute, Appear(story_id, name, stage)
    minute += _between(2, 60, draw)
    while minute < MINUTES:
        held_up = _trouble(story_id, stage, draw)
        if held_up is not None:
            yield minute, held_up
            if held_up.key == "blocked" and draw() < _STAYS_BLOCKED:
                return
            minute += _between(15, 110, draw)
            yield minute, GoOn(story_id, stage)
            minute += _between(3, 20, draw)
        to_stage = _next(stage, draw)
        if to_stage is None:
            return
        yield minute, Move(story_id, stage, to_stage)
        stage = to_stage
        minute += _stay(stage, draw)


def _trouble(story_id: str, stage: str, draw: Draw) -> HoldUp | None:
    if stage in {"2_current", "3_qa"} and draw() < _BLOCKED:
        return HoldUp(story_id, stage, "blocked", _one_of(words.BLOCKS, draw))
    if stage == "4_merge" and draw() < _MERGE_FAILS:
        return HoldUp(story_id, stage, "merge_failure", _one_of(words.MERGE_FAILURES, draw))
    return None


def _next(stage: str, draw: Draw) -> str | None:
    if stage == "3_qa" and draw() < _BACK_TO_WORK:
        return "2_current"
    following = {
        "1_backlog": "2_current", "2_current": "3_qa", "3_qa": "4_merge", "4_merge": "5_done",
        "5_done": "6_archived",
    }  # fmt: skip
    return following.get(stage)


def _stay(stage: str, draw: Draw) -> float:
    """Minutes before the story leaves it, or is held up in it."""
    shortest, longest = {"2_current": (15, 80), "3_qa": (8, 40), "4_merge": (3, 15)}.get(stage, (60, 240))
    return _between(shortest, longest, draw)


def _between(low: float, high: float, draw: Draw) -> float:
    return low + (high - low) * draw()


def _one_of(choices: Sequence[_One], draw: Draw) -> _One:
    return choices[int(draw() * len(choices))]
