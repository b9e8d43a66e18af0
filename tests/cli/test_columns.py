from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from huskies.cli.columns import Cell, aligned

TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60)


def texts(rows: list[list[Cell]], right: list[bool], width: int | None) -> list[str]:
    return ["".join(span.text for span in line) for line in aligned(rows, right, width)]


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]]) -> None:
    cells = [[Cell(one), Cell(two), Cell(three, "red", "why: ")] for one, two, three in rows]
    assert all(cell_len(line) <= 60 for line in texts(cells, [False] * 3, 60))
    # A pipe has no width: each row is one line, in full.
    piped = texts(cells, [False] * 3, None)
    assert len(piped) == len(rows)
    assert all(part in line for row, line in zip(rows, piped, strict=True) for part in row)


def test_columns_stand_below_each_other() -> None:
    rows = [[Cell("a"), Cell("b"), Cell("1")], [Cell("家c"), Cell(""), Cell("200")]]
    assert texts(rows, [False, False, True], None) == ["a   b   1", "家c   200"]
    reason = Cell("word " * 6, "red", "blocked: ")
    assert texts([[Cell("a"), reason]], [False, False], 22) == [
        "a blocked: word word",
        "  word word word word",
    ]
