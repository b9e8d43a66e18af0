"""Each fuzz target with a few of the inputs of `make fuzz`, and with bytes that hypothesis draws."""

from __future__ import annotations

from random import Random

import pytest
from fuzz.mutate import Mutator
from fuzz.runner import run
from fuzz.target import Check, Outcome, Target, always, refused, taken
from fuzz.targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = 60


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whatever_comes_is_taken_or_refused_as_documented(target: Target) -> None:
    mutator = Mutator(target.seeds, target.words)
    made = st.integers(0, 2**32).map(lambda seed: mutator.make(Random(seed)))  # noqa: S311 - repeatable
    with target.opened() as check:
        for seed in target.seeds:
            assert check(seed).taken
        _try(check, st.binary(max_size=200) | made)


def _try(check: Check, inputs: st.SearchStrategy[bytes]) -> None:
    @settings(max_examples=EXAMPLES)
    @given(inputs)
    def one(data: bytes) -> None:
        check(data)

    one()


def test_an_input_that_breaks_a_target_is_shrunk_and_can_be_seen_again() -> None:
    def check(data: bytes) -> Outcome:
        if b"x" in data:
            raise KeyError("x")
        return taken() if data else refused("empty")

    target = Target(name="broken", opened=always(check), seeds=(b"abcd",), words=(b"x",))
    report = run(target, 1_000, 1)
    assert "input of 1 bytes: b'x'" in report.problem
    assert report.problem.endswith("--only broken --replay eA==")


def test_time_that_grows_with_the_square_is_found() -> None:
    def check(data: bytes) -> Outcome:
        for _ in range(len(data) ** 2 // 80 if len(data) > 1_000 else 0):
            pass
        return taken()

    target = Target(name="slow", opened=always(check), seeds=(b"a",))
    assert "repeated at" in run(target, 1, 1).problem
