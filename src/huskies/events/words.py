"""What msgspec says of JSON and TOML that it refuses, in plain words that name the field. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

JSON_TYPES: Final = {
    "object": "an object",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "float": "a decimal number",
    "bool": "true or false",
    "datetime": "a time",
    "null": "null",
}
# TOML has no null: what may be null is left out there.
TOML_TYPES: Final = {**JSON_TYPES, "object": "a table", "null": ""}

_TIME: Final = "such as 2026-01-31T14:00:00Z"
_TYPES: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_REWORDED: Final = (
    (re.compile(r"(a text|a list) of length >= 1$"), r"\1 that is not empty"),
    (re.compile(r"a text of length <= (\d+)$"), r"a text of at most \1 characters"),
    (re.compile(r"a list of length <= (\d+)$"), r"a list of at most \1 entries"),
    (re.compile(r"a text matching regex '(.*?)(?:\\+Z)?'$"), r"a text that matches \1$"),
    (re.compile(r"^Invalid RFC3339 encoded datetime$"), f"expected a time {_TIME}"),
    (re.compile(r"^Expected a time with a timezone component$"), f"expected a time with its zone, {_TIME}"),
    (re.compile(r"^Invalid value (.*)$"), r"unknown value \1"),
)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")


def problem_in_words(error: Exception) -> str:
    """The field and what is wrong with it; or `not JSON: …`."""
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if isinstance(error, UnicodeError):
        return "not JSON: a text is not UTF-8"
    if not isinstance(error, msgspec.ValidationError):
        problem = str(error).removeprefix("JSON is malformed: ")
        return f"not JSON: {problem[0].lower()}{problem[1:]}"
    problem, _, location = str(error).partition(" - at ")
    field = location.strip("`").removeprefix("$").removeprefix(".")
    if missing := _MISSING.fullmatch(problem):
        return f"{f'{field}.' if field else ''}{missing[1]}: is missing"
    return f"{field}: {in_words(problem)}" if field else in_words(problem)


def in_words(problem: str, types: Mapping[str, str] = JSON_TYPES) -> str:
    """Say `Expected `int | null`, got `str`` in plain words."""
    problem = _TYPES.sub(
        lambda found: " or ".join(filter(None, (types.get(name, name) for name in found[1].split(" | ")))),
        problem,
    )
    for theirs, ours in _REWORDED:
        problem = theirs.sub(ours, problem)
    return problem[0].lower() + problem[1:]
