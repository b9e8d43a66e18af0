"""The table: what was measured, what was to be reached, and how they compare."""

from __future__ import annotations

import math
import os
import platform
import re
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_HEADERS = ("measurement", "reached", "target", "", "ratio", "fsync before ack")


@dataclass(kw_only=True)
class Row:
    """One line. `target` counts as a floor for rates (`more_is_better`), else as a ceiling."""

    what: str
    value: float
    unit: str
    target: float | None = None
    more_is_better: bool = False
    ratio: str = ""
    durable: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.more_is_better else self.value <= self.target

    def cells(self, *, judged: bool = True) -> tuple[str, ...]:
        verdict = {None: "", True: "met", False: "MISSED"}[self.met] if judged else ""
        target = ""
        ratio = self.ratio
        if self.target is not None and judged:
            target = f"{'≥' if self.more_is_better else '≤'} {_number(self.target)} {self.unit}"
            of_target = self.value / self.target if self.more_is_better else self.target / self.value
            ratio = ratio or f"{of_target:.2f}x target"
        return (self.what, f"{_number(self.value)} {self.unit}", target, verdict, ratio, self.durable)


@dataclass
class Table:
    """All rows. Targets are for full sizes; without `judged` they are left out."""

    judged: bool = True
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row, and show it at once: the whole run takes minutes."""
        self.rows.append(row)
        shown = "  ".join(cell for cell in row.cells(judged=self.judged) if cell)
        print(f"  {shown}{f'  ({row.note})' if row.note else ''}", file=sys.stderr, flush=True)

    def remark(self, text: str) -> None:
        self.remarks.append(text)
        print(f"  {text}", file=sys.stderr, flush=True)

    def notes(self) -> list[str]:
        return [f"{row.what}: {row.note}" for row in self.rows if row.note] + self.remarks

    def plain(self) -> str:
        lines = [_HEADERS, *(row.cells(judged=self.judged) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADERS))]
        right = {1, 2}
        text = [
            "  ".join(
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        text.insert(1, "-" * max(len(line) for line in text))
        return "\n".join([*text, "", *self.notes()])

    def markdown(self) -> str:
        lines = [
            _HEADERS,
            ("---", "---:", "---:", "---", "---", "---"),
            *(row.cells(judged=self.judged) for row in self.rows),
        ]
        text = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([*text, "", *(f"- {note}" for note in self.notes())])


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine() -> str:
    """What this was measured on."""
    return (
        f"{os.cpu_count()} cores, {_cpu()}; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}; SQLite {sqlite3.sqlite_version}"
    )


def load() -> str:
    """How busy the machine is with other things, if it can be told: figures of a busy one are too low."""
    return f"load average {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "load unknown"


def _cpu() -> str:
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
