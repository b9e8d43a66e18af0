"""Rows of cells as aligned lines. Rich's tables take a second for what `huskies status` prints at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_GAP: Final = " "
# The last column is made no narrower than this; a terminal that is narrower breaks lines by itself.
_NARROWEST: Final = 12
# No other column takes more of a terminal: what is longer is cut, visibly.
_SHARE_MAX: Final = 0.3


class Cell(NamedTuple):
    """A text, printable; `head` of it stands in `style`, the rest as it is. Without a head: all of it."""

    text: str
    style: str = ""
    head: str = ""


class Span(NamedTuple):
    """A part of a line in one style."""

    text: str
    style: str = ""


Line = list[Span]


def aligned(rows: Sequence[Sequence[Cell]], right: Sequence[bool], width: int | None) -> Iterator[Line]:
    """The rows below each other, columns as wide as their widest cell; `right`: those that end at one place.

    The last column is wrapped so that lines are no wider than `width`, and others may be cut; None: neither.
    """
    if width is not None:
        longest = max(_NARROWEST, int(width * _SHARE_MAX))
        rows = [[*(_cut(cell, longest) for cell in row[:-1]), row[-1]] for row in rows]
    sizes = [max(_cells(cell.head + cell.text) for cell in column) for column in zip(*rows, strict=True)]
    begin = sum(sizes[:-1]) + len(_GAP) * (len(sizes) - 1)
    room = None if width is None else max(_NARROWEST, width - begin)
    for row in rows:
        line: Line = []
        for cell, size, is_right in zip(row[:-1], sizes, right, strict=False):
            pad = " " * (size - _cells(cell.head + cell.text))
            line += [Span(pad), *_spans(cell)] if is_right else [*_spans(cell), Span(pad)]
            line.append(Span(_GAP))
        yield from _last(line, row[-1], sizes[-1] if right[-1] else 0, begin, room)


def _last(line: Line, cell: Cell, right_size: int, begin: int, room: int | None) -> Iterator[Line]:
    text = cell.head + cell.text
    if right_size:
        line.append(Span(" " * (right_size - _cells(text))))
    if room is None or _cells(text) <= room:
        yield [*line, *_spans(cell)]
        return
    first, *others = _wrapped(text, room)
    if first.startswith(cell.head):
        yield [*line, *_spans(Cell(first.removeprefix(cell.head), cell.style, cell.head))]
    else:
        yield [*line, Span(first, cell.style)]
    for other in others:
        yield [Span(" " * begin), Span(other)]


def _cut(cell: Cell, longest: int) -> Cell:
    if _cells(cell.text) <= longest:
        return cell
    from rich.cells import set_cell_size

    return cell._replace(text=set_cell_size(cell.text, longest - 1).rstrip() + "…")


def _spans(cell: Cell) -> Line:
    return [Span(cell.head, cell.style), Span(cell.text)] if cell.head else [Span(cell.text, cell.style)]


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _wrapped(text: str, width: int) -> list[str]:
    if text.isascii():
        from textwrap import wrap

        return wrap(text, width) or [""]
    from rich.console import Console
    from rich.text import Text

    return [part.plain.rstrip() for part in Text(text).wrap(Console(), width)]
