"""Runs one target: makes inputs, keeps those that lead somewhere new, and says what it came to."""

from __future__ import annotations

import base64
import re
import time
import traceback
from dataclasses import dataclass, field
from random import Random
from typing import Final

from fuzz.mutate import SIZE_MAX, Mutator
from fuzz.target import Check, Outcome, Target

# What an input of at most `SIZE_MAX` may take of a processor (seconds).
_SLOW: Final = 2.0
_CORPUS_MAX: Final = 400
_VARIABLE: Final = re.compile(r"[0-9]+|`[^`]*`|'[^']*'|\"[^\"]*\"")
_LABEL_MAX: Final = 160
_SHRINK_TRIES: Final = 400
# What is repeated to see how time grows with it.
_UNITS: Final = (
    b"[", b'{"a":', b" ", b"a", b"\n", b",", b'"', b"\\", b"0", b"- ", b"#", b"\xff", b"&a=",
    b"bearer ", b"://", b"`", b"a: ", b"? ", b"*a ", b"&a ", b"\x1b",
)  # fmt: skip
_SHORT, _TIMES = 16 << 10, 4


@dataclass
class Report:
    """What came of a target; `problem` says what was found, and how to see it again."""

    name: str
    inputs: int = 0
    taken: int = 0
    seconds: float = 0.0
    labels: set[str] = field(default_factory=set)
    problem: str = ""


class SlowError(AssertionError):
    """An input took more of a processor than any of its size may."""


def run(target: Target, inputs: int, seed: int) -> Report:
    """So many inputs."""
    report = Report(target.name)
    draw = Random(f"{seed} {target.name}")  # noqa: S311 - a run must be repeatable
    mutator = Mutator(target.seeds, target.words)
    began = time.process_time()
    with target.opened() as check:
        for number in range(inputs):
            whole = number < len(target.seeds)
            data = target.seeds[number] if whole else mutator.make(draw)
            try:
                outcome = timed(check, data)
                assert outcome.taken or not whole, f"a valid input is refused: {outcome.label}"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                report.problem = _told(target, data, error, check)
                break
            _count(report, outcome, data, mutator)
        if target.grows and not report.problem:
            report.problem = growth(target, check)
    report.seconds = time.process_time() - began
    return report


def timed(check: Check, data: bytes) -> Outcome:
    """What the target makes of an input, in good time."""
    began = time.process_time()
    outcome = check(data)
    took = time.process_time() - began
    if took > _SLOW:
        raise SlowError(f"{len(data)} bytes took {took:.1f} s of a processor")
    return outcome


def _count(report: Report, outcome: Outcome, data: bytes, mutator: Mutator) -> None:
    report.inputs += 1
    report.taken += outcome.taken
    label = _VARIABLE.sub("", outcome.label)[:_LABEL_MAX]
    if label not in report.labels and len(report.labels) < _CORPUS_MAX:
        # It came to where none came before: what is made of it may come further.
        report.labels.add(label)
        mutator.learn(data, taken=outcome.taken)


def growth(target: Target, check: Check) -> str:
    """Where four times the size takes far more than four times as long; empty where nothing does."""
    for seed in target.seeds[:3]:
        for unit in (*_UNITS, *target.words):
            for at in (0, len(seed) // 2):
                short, long = (
                    _took(check, seed[:at] + unit * (size // len(unit)) + seed[at:])
                    for size in (_SHORT, _SHORT * _TIMES)
                )
                if long > 2.5 * _TIMES * short + 0.1:
                    return f"{unit!r} repeated at {at} of {seed[:60]!r}: {short:.3f} s, then {long:.3f} s"
    return ""


def _took(check: Check, data: bytes) -> float:
    began = time.process_time()
    check(data)
    return time.process_time() - began


def _told(target: Target, data: bytes, error: Exception, check: Check) -> str:
    data = shrunk(data, error, check)
    shown = base64.b64encode(data).decode()
    said = "".join(traceback.format_exception(error)[-6:])
    again = f".venv/bin/python -m fuzz --only {target.name} --replay {shown}"
    return f"{said}input of {len(data)} bytes: {data[:200]!r}\nto see it again: {again}"


def shrunk(data: bytes, error: Exception, check: Check) -> bytes:
    """Less of it, as long as the same kind of error comes of it."""
    tries, size = 0, max(1, len(data) // 2)
    while size and tries < _SHRINK_TRIES and not isinstance(error, SlowError):
        for at in range(0, len(data), size):
            tries += 1
            less = data[:at] + data[at + size :]
            if tries < _SHRINK_TRIES and _raises(check, less, type(error)):
                data = less
                break
        else:
            size //= 2
    return data


def _raises(check: Check, data: bytes, kind: type[Exception]) -> bool:
    try:
        check(data)
    except Exception as error:  # noqa: BLE001 - only its kind matters
        return type(error) is kind
    return False


assert _SHORT * _TIMES <= SIZE_MAX
