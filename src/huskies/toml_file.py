"""TOML files read strictly: what cannot be used is refused with the file, the key and what was expected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from huskies.errors import ConfigError
from huskies.events.names import is_project_name
from huskies.events.words import TOML_TYPES, in_words

_LIST_INDEX: Final = re.compile(r"\[\d+\]")
_Shape = TypeVar("_Shape")


def read(path: Path, shape: type[_Shape]) -> _Shape:
    """The file in this shape; a missing one is the shape's defaults. Raises `ConfigError`."""
    try:
        data: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    except FileNotFoundError:
        return shape()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {reason(error)}; make it a readable file") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(str(path), f"expected TOML: {reason(error)}; correct the file there") from None
    except RecursionError:
        raise ConfigError(str(path), "expected TOML that is not nested so deeply; correct the file") from None
    try:
        return msgspec.convert(data, shape)
    except msgspec.ValidationError as error:
        key, problem = _explain(str(error), data, shape)
        refuse(path, key, problem)


def _explain(message: str, data: dict[str, Any], shape: type[object]) -> tuple[str, str]:
    """The dotted key and the problem, out of `PROBLEM - at `$.projects[...].open``."""
    problem, _, location = message.partition(" - at ")
    location = _LIST_INDEX.sub("", location)
    keys = location.strip("`").removeprefix("$").replace("[...]", ".[]").split(".")[1:]
    if "[]" in keys:
        keys[keys.index("[]")] = _culprit(keys[0], data, shape)
    if problem.startswith("Object contains unknown field"):
        keys.append(problem.split("`")[1])
        expected = ", ".join(get_type_hints(_shape_at(shape, keys[:-1])))
        return dotted(*keys), f"unknown key; expected one of {expected}"
    return dotted(*keys), in_words(problem, TOML_TYPES)


def _culprit(table: str, data: dict[str, Any], shape: type[object]) -> str:
    """The first key of the table whose value alone is refused: msgspec does not name it."""
    for key, value in data[table].items():
        try:
            msgspec.convert({table: {key: value}}, shape)
        except msgspec.ValidationError:
            return str(key)
    raise AssertionError("convert refused the table")  # pragma: no cover


def _shape_at(shape: object, keys: Sequence[str]) -> object:
    """The shape of what stands under these keys."""
    for key in keys:
        shape = _of_each(shape)
        names = get_type_hints(shape) if isinstance(shape, type) else {}
        # A table that is no struct has names of the user's own, all with one shape.
        shape = names[key] if key in names else get_args(shape)[1]
    return _of_each(shape)


def _of_each(shape: object) -> object:
    """The shape of a list's entries; any other shape is itself."""
    while get_origin(shape) in (list, tuple):
        shape = get_args(shape)[0]
    return shape


def dotted(*keys: str) -> str:
    """The keys as TOML writes them."""
    return ".".join(f'"{key}"' if "." in key or not is_project_name(key) else key for key in keys)


def place(path: Path, key: str) -> str:
    """How a message names a key of a file."""
    return f"{path}: {key}"


def refuse(path: Path, key: str, problem: str) -> NoReturn:
    """Raise `ConfigError` for a key of a file."""
    raise ConfigError(place(path, key), problem)


def reason(error: Exception) -> str:
    """What went wrong, without the path that the message names anyway."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
