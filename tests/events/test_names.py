from __future__ import annotations

import pytest

from huskies.events.model import STAGES
from huskies.events.names import distinct_name, distinct_names, is_project_name, make_project_name, stage_from


@pytest.mark.parametrize("name", ["a", "web-shop", "A.b_c-9", "x" * 64, ".", "-"])
def test_a_project_name_is_one_to_64_plain_characters(name: str) -> None:
    assert is_project_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "é", "a\n", "\na", "a%", "a:b", "\u0661"])
def test_anything_else_is_no_project_name(name: str) -> None:
    assert not is_project_name(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web-shop", "web-shop"),
        ("Web Shop (new)", "Web-Shop-new"),
        ("  ", "project"),
        ("", "project"),
        ("日本", "project"),
        ("x" * 70, "x" * 64),
    ],
)
def test_any_text_becomes_a_project_name(text: str, name: str) -> None:
    assert make_project_name(text) == name
    assert is_project_name(name)


def test_a_taken_name_gets_the_first_free_suffix() -> None:
    assert distinct_name("shop", set()) == "shop"
    assert distinct_name("shop", {"shop", "shop-2"}) == "shop-3"


def test_a_suffix_does_not_make_a_name_too_long() -> None:
    assert distinct_name("x" * 64, {"x" * 64}) == "x" * 62 + "-2"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_known_by_its_whole_name_and_by_its_word(stage: str) -> None:
    assert stage_from(stage) == stage
    assert stage_from(stage.partition("_")[2].upper()) == stage


@pytest.mark.parametrize("text", ["", "7_qa", "3", "q", "3_qa "])
def test_what_names_no_stage_is_none(text: str) -> None:
    assert stage_from(text) is None


def test_the_stages_are_those_of_the_specification() -> None:
    assert STAGES == ("1_backlog", "2_current", "3_qa", "4_merge", "5_done", "6_archived")


def test_a_suffix_once_given_stays_whatever_the_order() -> None:
    assert distinct_names([("shop", None), ("shop", None)]) == ["shop", "shop-2"]
    assert distinct_names([("shop", "shop-2"), ("shop", "shop")]) == ["shop-2", "shop"]
    assert distinct_names([("shop", None), ("shop", "shop")]) == ["shop-2", "shop"]
    assert distinct_names([("shop", "shop-2")]) == ["shop-2"]


def test_a_project_that_was_given_another_name_gets_it() -> None:
    assert distinct_names([("store", "shop"), ("shop", "shop")]) == ["store", "shop"]
    assert distinct_names([("shop", "shop"), ("shop", "shop")]) == ["shop", "shop-2"]
