"""Names of projects and stages: what is valid, and how something close to it is made valid."""

from __future__ import annotations

import re
from collections.abc import Sequence

from huskies.events.model import STAGES
from huskies.limits import PROJECT_NAME_MAX

_PROJECT = re.compile(rf"[A-Za-z0-9._-]{{1,{PROJECT_NAME_MAX}}}")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")


def is_project_name(name: str) -> bool:
    """Whether the name may stand on the wire (SPEC 6)."""
    return _PROJECT.fullmatch(name) is not None


def make_project_name(text: str) -> str:
    """A valid project name from any text, such as a directory's name; `project` where nothing is left."""
    return _NOT_ALLOWED.sub("-", text).strip("-")[:PROJECT_NAME_MAX] or "project"


def distinct_name(name: str, taken: set[str]) -> str:
    """The name, or with the first suffix `-2`, `-3`, … that is not taken yet."""
    if name not in taken:
        return name
    number = 2
    while (candidate := f"{name[: PROJECT_NAME_MAX - len(str(number)) - 1]}-{number}") in taken:
        number += 1
    return candidate


def distinct_names(wanted: Sequence[tuple[str, str | None]]) -> list[str]:
    """A name for each, all different: what is wanted, or with a suffix.

    With each comes the name it had before, None where it had none: a suffix once given stays with whom it was
    given to, whatever the order.
    """
    given: dict[int, str] = {}
    for index, (name, before) in enumerate(wanted):
        if before is not None and _is_variant(before, name) and before not in given.values():
            given[index] = before
    for index, (name, _) in enumerate(wanted):
        if index not in given:
            given[index] = distinct_name(name, set(given.values()))
    return [given[index] for index in range(len(wanted))]


def _is_variant(name: str, base: str) -> bool:
    stem, _, number = name.rpartition("-")
    return name == base or (number.isdecimal() and bool(stem) and base.startswith(stem))


def stage_from(text: str) -> str | None:
    """The stage that a person means by `3_qa` or `qa`; None where there is none."""
    for stage in STAGES:
        if text.lower() in (stage, stage.partition("_")[2]):
            return stage
    return None
