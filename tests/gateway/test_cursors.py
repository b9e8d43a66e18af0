from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies.errors import CursorError
from huskies.gateway.store.cursors import Cursor, parse


@given(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
def test_a_cursor_survives_as_text(log_id: str, position: int, chain: int) -> None:
    cursor = Cursor(log_id, position, chain)
    assert parse(str(cursor)) == cursor


def test_a_cursor_reads_like_this() -> None:
    assert str(Cursor("0123abcd", 12, 0xAB)) == "0123abcd-12-000000ab"


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "latest", "0123abcd", "0123abcd-1", "0123abcd-1-", "0123abcd--000000ab",
        "0123abcd-1-000000a",
        "0123abcd-1-000000ab ", " 0123abcd-1-000000ab", "0123abcd-1-000000ab\n", "0123ABCD-1-000000ab",
        "0123abcd--1-000000ab", "0123abcd-1-000000abc", "0123abcd-٣-000000ab",
        "0123abcd-" + "1" * 20 + "-000000ab",
    ],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError, match="expected a cursor"):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        parse(text)
    except CursorError:
        return


def test_a_refusal_does_not_repeat_a_long_text() -> None:
    with pytest.raises(CursorError) as caught:
        parse("x" * 10_000)
    assert len(str(caught.value)) < 200
