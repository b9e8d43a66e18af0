"""What is counted, in memory and in views.db: against all events at once, in any order of sequences."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies.events.model import (
    STAGES,
    RelayedEvent,
    RelayedRateLimitWarning,
    StoredEvent,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.gateway.bins import ERROR
from huskies.gateway.stats import DAY_MS, QUARTER_MS, Told
from huskies.gateway.stats_view import Asked, StatsAnswer, answer, parse, range_of
from huskies.gateway.store import stats_rows
from huskies.gateway.store.blocks import Batch, Stream, pack
from huskies.gateway.store.index import Index, IndexRows, rows_of
from huskies.gateway.store.stats_reader import read_sums

NOON = 20_000 * DAY_MS + DAY_MS // 2
HOUR = 4 * QUARTER_MS


def moved(story: str, origin: str, to: str, at: int) -> StoredStageTransition:
    return StoredStageTransition(story_id=story, from_stage=origin, to_stage=to, timestamp_ms=at)


def blocked(story: str, at: int) -> StoredStoryBlocked:
    return StoredStoryBlocked(story_id=story, reason="stuck", timestamp_ms=at)


def failed(story: str, at: int) -> StoredMergeFailure:
    return StoredMergeFailure(story_id=story, reason="conflict", timestamp_ms=at)


class Counted:
    """An index of which only the counts matter."""

    def __init__(self, directory: Path) -> None:
        self.index = Index(directory)

    def took(self, *told: Told, now_ms: int = NOON) -> None:
        self.index.write(IndexRows(position=self.index.position + 1, told=list(told)), None, now_ms)

    def of(
        self, *events: StoredEvent, project: str = "shop", stream_id: int = 1, received_ms: int = 10 * NOON
    ) -> None:
        self.took(Told(project, stream_id, received_ms, events))

    def says(
        self,
        asked: Asked | None = None,
        *,
        now_ms: int = NOON,
        names: Sequence[str] | None = None,
        held: dict[str, list[int]] | None = None,
    ) -> StatsAnswer:
        asked_for = range_of(asked or Asked(), now_ms)
        sums = read_sums(self.index.path, asked_for, None if names is None else names.__contains__)
        return answer(asked_for, now_ms, "cursor", sums, held or {})


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    one = Counted(tmp_path)
    yield one
    one.index.close()


def in_days(said: StatsAnswer) -> dict[str, tuple[int, int, int, int, int]]:
    """The days on which anything was."""
    rows = {d.day: (d.arrived, d.done, d.moves, d.blocked, d.failed) for d in said.days}
    return {day: row for day, row in rows.items() if any(row)}


# --- what counts ---------------------------------------------------------------------------------------


def test_a_storys_way_is_counted_day_by_day(counted: Counted) -> None:
    day = DAY_MS
    counted.of(
        moved("1", "1_backlog", "2_current", NOON - 3 * day),
        blocked("1", NOON - 3 * day + HOUR),
        moved("1", "2_current", "2_current", NOON - 3 * day + 3 * HOUR),
        moved("1", "2_current", "3_qa", NOON - 2 * day),
        moved("1", "3_qa", "4_merge", NOON - 2 * day + HOUR),
        failed("1", NOON - day),
        moved("1", "4_merge", "5_done", NOON - HOUR),
        moved("1", "5_done", "6_archived", NOON),
    )
    said = counted.says(Asked(days=4))
    assert [(d.arrived, d.done, d.moves, d.blocked, d.failed) for d in said.days] == [
        (1, 0, 1, 1, 0),
        (0, 0, 2, 0, 0),
        (0, 0, 0, 0, 1),
        (0, 1, 2, 0, 0),
    ]
    assert [d.day for d in said.days] == ["2024-10-01", "2024-10-02", "2024-10-03", "2024-10-04"]
    assert said.to_ms - said.from_ms == 4 * day
    visits = {s.stage: s for s in said.stages}
    assert [visits[stage].visits for stage in STAGES[:4]] == [0, 1, 1, 1]
    assert visits["1_backlog"].median_ms is None
    assert visits["2_current"].p90_ms == pytest.approx(day, rel=ERROR)
    assert visits["3_qa"].median_ms == pytest.approx(HOUR, rel=ERROR)
    [project] = said.projects
    assert (project.project, project.arrived, project.done) == ("shop", 1, 1)
    assert project.blocked_ms == 2 * HOUR + day - HOUR


def test_a_story_that_goes_back_is_done_again_and_one_may_be_archived_straight_away(counted: Counted) -> None:
    counted.of(
        moved("1", "4_merge", "5_done", NOON),
        moved("1", "5_done", "2_current", NOON + 1),
        moved("1", "2_current", "6_archived", NOON + 2),
        moved("1", "6_archived", "5_done", NOON + 3),
    )
    assert in_days(counted.says()) == {"2024-10-04": (1, 2, 4, 0, 0)}


def test_a_clock_that_is_ahead_is_cut_and_rate_limits_are_none_of_it(counted: Counted) -> None:
    counted.of(blocked("1", NOON + 90 * DAY_MS), received_ms=NOON - DAY_MS)
    warning = RelayedRateLimitWarning(story_id="2", agent_name="coder", timestamp_ms=NOON)
    counted.took(Told("shop", 1, NOON, [warning]))
    assert in_days(counted.says()) == {"2024-10-03": (1, 0, 0, 1, 0)}


def test_a_story_arrives_when_the_earliest_event_says(counted: Counted) -> None:
    counted.of(blocked("1", NOON), stream_id=1)
    counted.of(blocked("1", NOON - 5 * DAY_MS), stream_id=2)
    assert [d.arrived for d in counted.says(Asked(days=6)).days] == [1, 0, 0, 0, 0, 0]
    assert counted.says().projects[0].arrived == 1


def test_a_new_reason_takes_nothing_of_how_long_a_story_is_held_up(counted: Counted) -> None:
    counted.of(blocked("1", NOON - 3 * HOUR), failed("1", NOON - HOUR))
    assert counted.says().projects[0].blocked_ms == 2 * HOUR
    # The rest is what the fleet knows: since the newest.
    [project] = counted.says(held={"shop": [NOON - HOUR]}).projects
    assert (project.blocked_ms, project.blocked_now) == (3 * HOUR, 1)
    counted.of(moved("1", "2_current", "2_current", NOON))
    assert counted.says().projects[0].blocked_ms == 3 * HOUR


def test_a_clock_that_goes_back_makes_no_time_negative(counted: Counted) -> None:
    counted.of(
        moved("1", "1_backlog", "2_current", NOON),
        blocked("1", NOON),
        moved("1", "2_current", "3_qa", NOON - HOUR),
    )
    said = counted.says()
    assert said.projects[0].blocked_ms == 0
    assert said.stages[1].median_ms == 0


def test_what_begins_in_one_sequence_does_not_end_in_another(counted: Counted) -> None:
    counted.of(moved("1", "1_backlog", "2_current", NOON - HOUR), blocked("1", NOON - HOUR), stream_id=1)
    counted.of(moved("1", "2_current", "3_qa", NOON), stream_id=2)
    said = counted.says()
    assert [stage.visits for stage in said.stages] == [0, 0, 0, 0]
    assert said.projects[0].blocked_ms == 0


@pytest.mark.parametrize("offset", [0, 345, -210, 840, -840, 7])
def test_days_are_the_viewers(counted: Counted, offset: int) -> None:
    whole = offset // 15 * 15 * 60_000
    midnight = NOON - DAY_MS // 2 - whole
    counted.of(
        moved("1", "1_backlog", "2_current", midnight - HOUR),
        moved("1", "2_current", "3_qa", midnight - 1),
        blocked("1", midnight - 1),
        moved("1", "3_qa", "4_merge", midnight),
        blocked("2", midnight + QUARTER_MS),
        moved("2", "3_qa", "3_qa", midnight + DAY_MS - 1),
        moved("1", "4_merge", "5_done", midnight + DAY_MS),
    )
    now_ms = midnight + HOUR
    said = counted.says(Asked(days=1, offset_minutes=offset), now_ms=now_ms)
    assert (said.from_ms, said.to_ms) == (midnight, midnight + DAY_MS)
    [day] = said.days
    assert (day.arrived, day.done, day.moves, day.blocked) == (1, 0, 1, 1)
    assert [stage.visits for stage in said.stages] == [0, 0, 1, 0]
    assert said.projects[0].blocked_ms == DAY_MS - 1 - QUARTER_MS
    [before, _] = counted.says(Asked(days=2, offset_minutes=offset), now_ms=now_ms).days
    assert (before.arrived, before.moves, before.blocked) == (1, 2, 1)


# --- against all events at once --------------------------------------------------------------------------

STORIES = ("1", "2", "3")
EVENTS = st.builds(
    lambda kind, story, stages, at: (
        moved(story, stages[0], stages[1], at)
        if kind < 3
        else blocked(story, at)
        if kind < 4
        else failed(story, at)
    ),
    st.integers(0, 4),
    st.sampled_from(STORIES),
    st.tuples(st.sampled_from(STAGES), st.sampled_from(STAGES)),
    st.integers(NOON - 6 * DAY_MS, NOON + DAY_MS // 2),
)
SEQUENCES = st.lists(st.lists(EVENTS, max_size=12), min_size=1, max_size=4)


def held_times(events: Sequence[StoredEvent]) -> Iterator[tuple[int, int]]:
    """When stories were held up in one sequence, and are no more or by something newer."""
    since: dict[str, int] = {}
    for event in events:
        if event.story_id in since:
            begin = since.pop(event.story_id)
            yield begin, max(begin, event.timestamp_ms)
        if not isinstance(event, StoredStageTransition):
            since[event.story_id] = event.timestamp_ms


def visit_times(events: Sequence[StoredEvent]) -> Iterator[tuple[str, int, int]]:
    came: dict[str, StoredStageTransition] = {}
    for event in events:
        if isinstance(event, StoredStageTransition) and event.from_stage != event.to_stage:
            before = came.get(event.story_id)
            if before is not None and before.to_stage == event.from_stage in STAGES[:4]:
                yield event.from_stage, event.timestamp_ms, max(0, event.timestamp_ms - before.timestamp_ms)
            came[event.story_id] = event


@given(SEQUENCES, st.integers(1, 6), st.integers(-56, 56), st.randoms(use_true_random=False))
def test_the_counts_are_those_of_all_events_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    sequences: list[list[StoredEvent]],
    days: int,
    quarters: int,
    rng: random.Random,
) -> None:
    counted = Counted(tmp_path_factory.mktemp("counted"))
    # Each sequence in its order, and they in any; cut into runs, and those into transactions.
    waiting = [(number, list(events)) for number, events in enumerate(sequences, 1)]
    while waiting:
        told = []
        for _ in range(rng.randrange(1, 4)):
            if waiting:
                number, events = waiting.pop(rng.randrange(len(waiting)))
                cut = rng.randrange(1, 5)
                told.append(Told("shop", number, 10 * NOON, events[:cut]))
                if events[cut:]:
                    waiting.append((number, events[cut:]))
        counted.took(*told)
    asked = Asked(days=days, offset_minutes=quarters * 15)
    said, part = counted.says(asked), counted.says(asked, names=["shop"])
    counted.index.close()
    assert said == part
    assert_right(said, sequences)


def assert_right(said: StatsAnswer, sequences: Sequence[Sequence[StoredEvent]]) -> None:
    def is_within(at_ms: int) -> bool:
        return said.from_ms <= at_ms < said.to_ms

    every = [event for events in sequences for event in events]
    within = [event for event in every if is_within(event.timestamp_ms)]
    moves = [e for e in within if isinstance(e, StoredStageTransition) and e.from_stage != e.to_stage]
    assert sum(day.moves for day in said.days) == len(moves)
    assert sum(day.blocked for day in said.days) == sum(isinstance(e, StoredStoryBlocked) for e in within)
    assert sum(day.failed for day in said.days) == sum(isinstance(e, StoredMergeFailure) for e in within)
    done = sum(e.to_stage in STAGES[4:] and e.from_stage in STAGES[:4] for e in moves)
    first = [min((e.timestamp_ms for e in every if e.story_id == s), default=-1) for s in STORIES]
    arrived = sum(map(is_within, first))
    assert (sum(day.arrived for day in said.days), sum(day.done for day in said.days)) == (arrived, done)
    for stage in said.stages:
        took = sorted(
            ms
            for events in sequences
            for name, at_ms, ms in visit_times(events)
            if name == stage.stage and is_within(at_ms)
        )
        assert stage.visits == len(took)
        for found, percent in ((stage.median_ms, 50), (stage.p90_ms, 90)):
            if took:
                assert found == pytest.approx(took[-(-len(took) * percent // 100) - 1], rel=ERROR)
    held_ms = sum(
        max(0, min(end, said.to_ms) - max(begin, said.from_ms))
        for events in sequences
        for begin, end in held_times(events)
    )
    if said.projects:
        [project] = said.projects
        assert (project.arrived, project.done, project.blocked_ms) == (arrived, done, held_ms)


# --- what is kept ----------------------------------------------------------------------------------------


def test_counts_go_on_where_they_were_after_a_restart(counted: Counted, tmp_path: Path) -> None:
    counted.of(moved("1", "1_backlog", "2_current", NOON - HOUR))
    counted.index.close()
    counted.index = Index(tmp_path)
    counted.of(moved("1", "2_current", "3_qa", NOON))
    said = counted.says()
    assert in_days(said) == {"2024-10-04": (1, 0, 2, 0, 0)}
    assert said.stages[1].visits == 1


def test_nothing_is_counted_of_what_could_not_be_written(counted: Counted) -> None:
    counted.of(blocked("1", NOON))
    rows = IndexRows(
        position=9, told=[Told("shop", 1, NOON, [blocked("1", NOON)])], by_stream=[(1, 1, 1, 1, 1)]
    )
    counted.index._writer.execute(
        "CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT raise(FAIL, 'full'); END"
    )
    with pytest.raises(sqlite3.Error, match="full"):
        counted.index.write(rows)
    assert in_days(counted.says()) == {"2024-10-04": (1, 0, 0, 1, 0)}


@pytest.mark.parametrize("story", ["with \0 in it", "with \0 in its name", "é" * 200])
def test_any_story_is_known_again(counted: Counted, story: str) -> None:
    counted.of(blocked(story, NOON))
    counted.of(blocked(story, NOON))
    assert in_days(counted.says()) == {"2024-10-04": (1, 0, 0, 2, 0)}


def test_many_stories_at_once_are_each_known_again(counted: Counted) -> None:
    for _ in range(2):
        counted.of(*(blocked(str(number), NOON) for number in range(300)))
    assert in_days(counted.says()) == {"2024-10-04": (300, 0, 0, 600, 0)}


def rows(counted: Counted, table: str) -> int:
    with closing(sqlite3.connect(counted.index.path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a case


def test_what_is_older_than_a_year_is_dropped(counted: Counted) -> None:
    old = NOON - 500 * DAY_MS
    counted.of(moved("1", "1_backlog", "2_current", old), blocked("1", old), blocked("2", old))
    assert rows(counted, "stats_counts") == 4
    now_ms = NOON + DAY_MS
    counted.took(
        Told("shop", 1, now_ms, [moved("2", "2_current", "2_current", now_ms - HOUR)]), now_ms=now_ms
    )
    counted.took(now_ms=now_ms + DAY_MS)
    assert rows(counted, "stats_counts") == 4
    assert rows(counted, "stats_stories") == 1
    assert rows(counted, "stats_open") == 0
    # One was held up all the time.
    asked = Asked(days=366)
    assert counted.says(asked, now_ms=now_ms).projects[0].blocked_ms == (
        now_ms - HOUR - range_of(asked, now_ms).from_ms
    )


@pytest.mark.parametrize("clock", [0, NOON + 10_000 * DAY_MS])
def test_a_clock_that_is_wrong_drops_nothing(counted: Counted, clock: int) -> None:
    counted.of(blocked("1", NOON - 300 * DAY_MS), blocked("2", NOON))
    counted.took(now_ms=clock)
    assert rows(counted, "stats_counts") == 8


def test_an_event_of_the_far_future_drops_nothing(counted: Counted) -> None:
    counted.of(blocked("1", NOON))
    counted.took(Told("shop", 2, 9 * NOON, [blocked("1", 9 * NOON)]), now_ms=NOON + DAY_MS)
    counted.took(now_ms=NOON + 2 * DAY_MS)
    assert in_days(counted.says()) == {"2024-10-04": (1, 0, 0, 1, 0)}


def test_a_damaged_block_is_counted_once_when_it_is_repaired(counted: Counted) -> None:
    counted.index.write(IndexRows(position=3, passed=[2]))
    late = IndexRows(
        told=[Told("shop", 1, NOON, [moved("1", "2_current", "3_qa", NOON), blocked("1", NOON)])]
    )
    for position in (2, 2, 1):
        counted.index.add(position, late)
    assert in_days(counted.says()) == {"2024-10-04": (1, 0, 1, 1, 0)}
    assert rows(counted, "stats_open") == 0


def test_what_is_in_quarantine_when_its_turn_comes_is_not_counted(counted: Counted) -> None:
    events: list[RelayedEvent] = [blocked("1", NOON), blocked("2", NOON)]
    [(block, _)] = pack([Batch(Stream(1, "aa", "e1", "shop"), 1, NOON, 0, events)], 1, 0)
    counted.index.write(rows_of([block], [None, Stream(1, "aa", "e1", "shop", last_seq=2, cut_seq=1)]))
    assert in_days(counted.says()) == {"2024-10-04": (1, 0, 0, 1, 0)}


def test_an_index_that_is_made_anew_counts_anew(counted: Counted) -> None:
    counted.of(blocked("1", NOON))
    counted.index.clear()
    assert all(rows(counted, table) == 0 for table in stats_rows.TABLES)
    counted.of(blocked("1", NOON))
    assert in_days(counted.says()) == {"2024-10-04": (1, 0, 0, 1, 0)}


# --- what is asked ---------------------------------------------------------------------------------------


def test_what_may_be_asked() -> None:
    assert parse({}) == Asked(days=30, project=None, offset_minutes=0)
    assert parse({"days": "366", "project": "shop", "offset_minutes": "-840"}) == Asked(366, "shop", -840)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"days": "0"}, "days: expected a whole number from 1 to 366"),
        ({"days": "367"}, "days: expected"),
        ({"days": "1.5"}, "days: expected"),
        ({"days": "٣"}, "days: expected"),
        ({"days": "-1"}, "days: expected"),
        ({"offset_minutes": "841"}, "offset_minutes: expected a whole number from -840 to 840"),
        ({"offset_minutes": "-841"}, "offset_minutes: expected"),
        ({"offset_minutes": ""}, "offset_minutes: expected"),
        ({"project": "a b"}, "project: "),
    ],
)
def test_what_may_not_be_asked_is_said_in_words(query: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(query)


def test_only_the_projects_that_are_asked_for_count(counted: Counted) -> None:
    for number, project in enumerate(("shop", "blog", "shed"), 1):
        counted.of(
            moved("1", "1_backlog", "2_current", NOON),
            moved("1", "2_current", "3_qa", NOON),
            project=project,
            stream_id=number,
        )
    said = counted.says(names=["shop", "shed"])
    assert in_days(said) == {"2024-10-04": (2, 0, 4, 0, 0)}
    assert said.stages[1].visits == 2
    assert [project.project for project in said.projects] == ["shed", "shop"]
    assert counted.says().stages[1].visits == 3
    assert counted.says(names=[]).projects == []
