from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from huskies.cli.picture import Picture
from huskies.readers.fleet import Fleet, Need, ProjectView, Received, StoryView, needs

NOW = 1_800_000_000_000


def moved(stage: str, at_ms: int, before: str = "1_backlog") -> dict[str, Any]:
    return {
        "type": "stage_transition",
        "story_id": "1_bug_a",
        "from_stage": before,
        "to_stage": stage,
        "timestamp_ms": at_ms,
    }


def stuck(kind: str, reason: str, at_ms: int) -> dict[str, Any]:
    return {"type": kind, "story_id": "1_bug_a", "reason": reason, "timestamp_ms": at_ms}


def received(event: dict[str, Any]) -> Received:
    return Received("web-shop", event, received_ms=NOW)


def story(fleet: Fleet) -> StoryView:
    [view] = fleet.views()
    [only] = view.stories
    return only


def test_a_move_clears_what_held_a_story_up() -> None:
    fleet = Fleet()
    fleet.take(received(stuck("story_blocked", "no key", 1)))
    fleet.take(received(stuck("merge_failure", "conflict", 2)))
    assert story(fleet) == StoryView(
        "1_bug_a", blocked="no key", blocked_since_ms=1, merge_failure="conflict", merge_failure_since_ms=2
    )
    fleet.take(received(moved("3_qa", 3) | {"story_name": "A"}))
    assert story(fleet) == StoryView("1_bug_a", "A", "3_qa", 3)


def test_what_goes_on_in_its_stage_has_been_there_all_along() -> None:
    fleet = Fleet()
    for event in (moved("3_qa", 1), stuck("story_blocked", "no key", 2), moved("3_qa", 3, before="3_qa")):
        fleet.take(received(event))
    assert story(fleet) == StoryView("1_bug_a", "", "3_qa", 1)


def test_what_moves_nothing_changes_nothing() -> None:
    fleet = Fleet()
    view = ProjectView("web-shop", stories=[StoryView("1_bug_a", stage="3_qa")])
    fleet.replace([view])
    for event in ({"type": "rate_limit_warning", "story_id": "1_bug_a"}, {"type": "new"}, {"story_id": 3}):
        fleet.take(received(event))
    assert fleet.views() == [view]
    assert fleet.views()[0] is fleet.views()[0]


EVENTS = st.lists(
    st.one_of(
        st.builds(moved, st.sampled_from(["1_backlog", "2_current", "3_qa"]), st.integers(1, 99)),
        st.builds(
            stuck,
            st.sampled_from(["story_blocked", "merge_failure"]),
            st.text(max_size=3),
            st.integers(1, 99),
        ),
    ),
    max_size=8,
)


@given(events=EVENTS, data=st.data())
def test_an_answer_that_knows_of_some_of_the_events_loses_and_doubles_none(
    events: list[dict[str, Any]], data: st.DataObject
) -> None:
    # The answer was asked for after `before` events, and was made when the gateway had `known` of them.
    before = data.draw(st.integers(0, len(events)))
    known = data.draw(st.integers(before, len(events)))
    answer, truth = Fleet(), Fleet()
    for fleet, some in ((answer, events[:known]), (truth, events)):
        for event in some:
            fleet.take(received(event))
    picture = Picture([], [], NOW, kept=5)
    for event in events[:before]:
        picture.happened(received(event), NOW)
    picture.asked()
    for event in events[before:]:
        picture.happened(received(event), NOW)
    picture.answered([msgspec.structs.replace(view, connected=True) for view in answer.views()], NOW)
    # How long it has been in its stage may be told by either; all else is the same.
    assert [_timeless(view) for view in picture.views()] == [_timeless(view) for view in truth.views()]


def _timeless(view: ProjectView) -> list[StoryView]:
    return [msgspec.structs.replace(each, since_ms=None) for each in view.stories]


def test_a_picture_is_stale_from_when_the_gateway_was_last_heard_of() -> None:
    picture = Picture([], [], NOW, kept=5)
    assert state(picture) == (None, NOW)
    picture.happened(received(moved("3_qa", 1)), NOW + 1)
    picture.disconnected("the gateway ended it")
    picture.asked()
    picture.unanswered("Connection refused")
    assert state(picture) == ("the gateway ended it", NOW + 1)
    picture.connected(NOW + 9)
    assert state(picture) == ("Connection refused", NOW + 9)
    picture.asked()
    picture.answered([], NOW + 10)
    assert state(picture) == (None, NOW + 10)
    assert picture.newest_ms == NOW


def state(picture: Picture) -> tuple[str | None, int]:
    return picture.problem, picture.as_of_ms


def test_a_sled_that_is_away_for_long_needs_someone_and_the_oldest_is_first() -> None:
    blocked = StoryView("1_bug_a", stage="3_qa", blocked="no key", blocked_since_ms=NOW - 50_000)
    away = ProjectView("billing", last_seen_ms=NOW - 60_000)
    back_soon = ProjectView("docs", last_seen_ms=NOW - 5_000)
    shop = ProjectView("web-shop", connected=True, last_seen_ms=NOW, stories=[blocked], over_quota=True)
    assert [(need.what, need.project, need.since_ms) for need in needs([away, back_soon, shop], NOW)] == [
        ("over its quota", "web-shop", None),
        ("silent", "billing", NOW - 60_000),
        ("blocked", "web-shop", NOW - 50_000),
    ]
    assert needs([back_soon], NOW) == list[Need]()
