from __future__ import annotations

import itertools
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.errors import CorruptLogError
from huskies.events import codec
from huskies.events.model import RelayedEvent, StoredStoryBlocked
from huskies.gateway.store.blocks import (
    Batch,
    Block,
    Run,
    Stream,
    checksum,
    decode_runs,
    encode_runs,
    extend_digest,
    pack,
)


def events(count: int, start: int = 0) -> list[RelayedEvent]:
    return [
        StoredStoryBlocked(story_id="1_bug_x", reason=f"r{start + number}", timestamp_ms=1)
        for number in range(count)
    ]


def batch(stream_id: int, first_seq: int, count: int) -> Batch:
    stream = Stream(stream_id, f"sled{stream_id}", "e", "shop")
    return Batch(stream, first_seq, 1_000, 5, events(count, first_seq))


batches: Final = st.lists(
    st.builds(batch, st.integers(1, 3), st.integers(1, 1_000), st.integers(1, 600)), min_size=1, max_size=5
)


@given(batches, st.integers(1, 1_000), st.integers(0, 2**32 - 1))
def test_packing_keeps_every_event_in_order_with_its_seq(
    given: list[Batch], position: int, chain: int
) -> None:
    wanted = [
        (one.stream.id, seq, event) for one in given for seq, event in enumerate(one.events, one.first_seq)
    ]
    found: list[tuple[int, int, RelayedEvent]] = []
    for block, runs_json in pack(given, position, chain):
        assert block.position == position
        assert 0 < block.count == sum(run.count for run in block.runs) < 2 * limits.BLOCK_EVENTS_MAX
        assert block.chain == checksum(chain, runs_json, block.events_json)
        assert decode_runs(runs_json) == block.runs
        assert block.before == chain
        stored = msgspec.structs.replace(block, runs=decode_runs(runs_json), decoded=None, parts=None)
        assert [codec.encode(event) for event in stored.events()] == [bytes(p) for p in stored.event_parts()]
        seqs = [(run.stream_id, run.first_seq + n) for run in block.runs for n in range(run.count)]
        found += [(*seq, event) for seq, event in zip(seqs, stored.events(), strict=True)]
        position, chain = block.last_position + 1, block.chain
    assert found == wanted


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [([1], [1]), ([256], [256]), ([257], [256, 1]), ([100, 156, 1], [256, 1]), ([100, 200, 5], [300, 5])],
)
def test_a_block_ends_once_it_holds_256_events(sizes: list[int], counts: list[int]) -> None:
    packed = pack([batch(number, 1, size) for number, size in enumerate(sizes)], 1, 0)
    assert [block.count for block, _ in packed] == counts


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_the_digest_of_a_stream_does_not_depend_on_how_it_was_cut(sizes: list[int]) -> None:
    stream = Stream(1, "sled", "e", "shop")
    seqs = itertools.accumulate(sizes, initial=1)
    cut = [Batch(stream, seq, 1, 0, events(size, seq)) for seq, size in zip(seqs, sizes, strict=False)]
    runs = [run for block, _ in pack(cut, 1, 0) for run in block.runs]
    at_once = codec.encode_batch(events(sum(sizes), 1))[1:-1]
    assert runs[-1].digest == stream.digest == extend_digest(0, at_once)


def test_no_batches_make_no_block() -> None:
    assert list(pack([], 1, 0)) == []


def test_the_same_events_after_another_history_have_another_checksum() -> None:
    one, other = (next(pack([batch(1, 1, 3)], 1, chain))[0].chain for chain in (1, 2))
    assert one != other


def test_every_byte_counts_for_the_checksum() -> None:
    runs, data = encode_runs([Run(1, 1, 1, 1, 0, 7)]), codec.encode_batch(events(1))
    sums = {checksum(7, runs, data), checksum(7, runs + b" ", data), checksum(7, runs, data + b" ")}
    assert len(sums) == 3


def test_events_that_cannot_be_decoded_are_a_damaged_log() -> None:
    with pytest.raises(CorruptLogError, match="damaged at position 7") as caught:
        Block(7, 1, 0, 0, [], b'[{"type":"nothing"}]').events()
    assert caught.value.position == 7


def test_runs_that_are_nested_without_end_are_none() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_runs(b"[[1,1,1,1,1,1," + b"[" * 5_000)


def test_runs_survive_storing() -> None:
    runs = [Run(1, 1, 3, 1_000, 0, 5), Run(2, 9, 1, 1_001, 41, 6)]
    assert encode_runs(runs) == b"[[1,1,3,1000,0,5],[2,9,1,1001,41,6]]"
    assert decode_runs(encode_runs(runs)) == runs
