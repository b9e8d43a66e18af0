from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from huskies.sse import Message, SseParser

STREAM = (
    b'id: a-0\n\nid: a-1\r\nevent: status\r\ndata: {"x":1}\r\n\r\n'
    b": comment\ndata:one\ndata: two\n\nid: a-2\n\n"
)
MESSAGES = [Message("status", b'{"x":1}'), Message("message", b"one\ntwo")]


@given(st.lists(st.integers(0, len(STREAM))))
def test_a_stream_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    parser = SseParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [message for piece in pieces for message in parser.feed(piece)] == MESSAGES
    assert parser.last_id == "a-2"


def test_an_id_counts_only_with_its_whole_block() -> None:
    parser = SseParser()
    list(parser.feed(b"id: a-1\n\nid: a-2\nevent: status\ndata: cut"))
    assert parser.last_id == "a-1"
    parser.restart()
    assert list(parser.feed(b"data: fresh\n\n")) == [Message("message", b"fresh")]
    assert parser.last_id == "a-1"
