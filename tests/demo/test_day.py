from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from huskies.demo.day import (
    MINUTES,
    Action,
    Appear,
    Back,
    CutOff,
    Draw,
    GoOn,
    HoldUp,
    Move,
    clock,
    project_names,
    script,
)
from huskies.events.names import is_project_name

SEEDS = st.integers(0, 10_000)


def draw(seed: int) -> Draw:
    return random.Random(seed).random  # noqa: S311 - a day must be repeatable


@given(seed=SEEDS, projects=st.integers(1, 30))
def test_every_day_can_be_lived(seed: int, projects: int) -> None:
    steps = script(projects, draw(seed))
    assert [step.minute for step in steps] == sorted(step.minute for step in steps)
    assert all(0 <= step.minute < MINUTES for step in steps)
    assert {step.project for step in steps} == set(project_names(projects))
    days: dict[str, Checked] = {}
    for step in steps:
        days.setdefault(step.project, Checked()).takes(step.action)


class Checked:
    """What stands where in one project; an action that does not fit fails."""

    def __init__(self) -> None:
        self.stages: dict[str, str] = {}
        self.held_up: set[str] = set()
        self.cut_off = False

    def takes(self, action: Action) -> None:
        match action:
            case Appear(story_id, _, stage):
                assert story_id not in self.stages
                self.stages[story_id] = stage
            case Move(story_id, from_stage, to_stage):
                assert self.stages[story_id] == from_stage != to_stage
                assert story_id not in self.held_up
                self.stages[story_id] = to_stage
            case HoldUp(story_id, stage, _, _):
                assert self.stages[story_id] == stage
                assert story_id not in self.held_up
                self.held_up.add(story_id)
            case GoOn(story_id, stage):
                assert self.stages[story_id] == stage
                self.held_up.remove(story_id)
            case CutOff():
                assert not self.cut_off
                self.cut_off = True
            case Back():
                assert self.cut_off
                self.cut_off = False


@given(seed=SEEDS)
def test_the_same_seed_makes_up_the_same_day(seed: int) -> None:
    assert script(3, draw(seed)) == script(3, draw(seed))
    assert script(3, draw(seed)) != script(3, draw(seed + 1))


@given(seed=SEEDS)
def test_every_day_of_a_dozen_projects_has_all_that_there_is_to_see(seed: int) -> None:
    steps = script(12, draw(seed))
    kinds = {type(step.action) for step in steps}
    assert kinds == {Appear, Move, HoldUp, GoOn, CutOff, Back}
    keys = {step.action.key for step in steps if isinstance(step.action, HoldUp)}
    assert keys == {"blocked", "merge_failure"}
    # Whoever looks must not have to wait: at the usual speed this is five seconds.
    assert sum(0 < step.minute < 10 for step in steps) > 1
    cut_off = {step.project for step in steps if isinstance(step.action, CutOff)}
    back = {step.project for step in steps if isinstance(step.action, Back)}
    assert cut_off == back


def test_every_name_says_that_it_is_made_up() -> None:
    names = project_names(200)
    assert len(set(names)) == 200
    assert all(name.startswith("demo-") and is_project_name(name) for name in names)


def test_the_clock_is_that_of_the_day() -> None:
    assert [clock(0), clock(61.9), clock(MINUTES)] == ["9:00", "10:01", "17:00"]
