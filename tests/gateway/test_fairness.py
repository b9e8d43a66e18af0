"""Sleds that push as much as they can give way to those that push little, and nobody else waits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import Eventually, Http, Owner, StartGateway, stop, stored
from tests.support.relay_client import blocked, connect, connect_v1, new_epoch, new_key, push

from huskies import limits
from huskies.gateway import fairness
from huskies.gateway.fairness import Fairness
from huskies.gateway.inflow import Inflow, ProjectInflow
from huskies.gateway.server import Gateway
from huskies.gateway.snapshots import Snapshots
from huskies.gateway.store.appends import Append
from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.log import Log

WINDOW = fairness.WINDOW
STREAM = Stream(1, "aa", "e1", "shop")


# --- who gives way -----------------------------------------------------------------------------------


def frames(seconds: float) -> float:
    """As many as take so long, if they are small."""
    return seconds / fairness.FRAME_COST


HEAVY = 2 * fairness.HEAVY_SHARE * WINDOW
ALL_OF_IT = 1 / fairness.HEAVY_TOTAL - 1


def flooded(*heavy: str, light: str = "") -> Fairness:
    """After a window in which each of these took twice what makes heavy, and one took a little."""
    fair = Fairness()
    fair.spend("first", frames(0), 0, 0)
    for project in heavy:
        fair.spend(project, frames(HEAVY), 0, 1.5 * WINDOW)
    if light:
        fair.spend(light, frames(0.0001), 0, 1.5 * WINDOW)
    fair.spend("first" if light else heavy[0], frames(0), 0, 3 * WINDOW)
    return fair


def test_who_is_alone_never_waits() -> None:
    fair = Fairness()
    for number in range(100):
        assert fair.spend("bad", frames(WINDOW), 1 << 20, number * WINDOW) == 0
    assert not fair.gives_way("bad")


def test_of_many_that_are_alike_and_are_served_one_after_the_other_nobody_waits() -> None:
    fair = Fairness()
    now = 0.0
    for turn in range(1_000):
        # What an event loop reads from one connection before it goes on to the next.
        assert fair.spend(f"sled {turn % 100}", frames(0.018), 0, now) == 0
        now += 0.018
    assert not fair.is_needed


def test_who_takes_much_gives_way_to_who_takes_little() -> None:
    fair = flooded("bad", light="good")
    assert (fair.gives_way("bad"), fair.gives_way("good"), fair.is_needed) == (True, False, True)
    assert fair.spend("good", frames(0.005), 0, 3 * WINDOW) == 0
    assert fair.spend("bad", frames(0.02), 0, 3 * WINDOW) == pytest.approx(0.02 * ALL_OF_IT)


def test_bytes_count_too_for_the_disk_has_to_take_them() -> None:
    fair = Fairness()
    for number in range(20):
        fair.spend("bad", 1, 1 << 20, number * WINDOW / 4)
        fair.spend("good", 1, 200, number * WINDOW / 4)
    assert (fair.gives_way("bad"), fair.gives_way("good")) == (True, False)


def test_all_who_take_much_share_one_part() -> None:
    fair = flooded("bad", "worse", light="good")
    assert fair.spend("worse", frames(0.02), 0, 3 * WINDOW) == pytest.approx(
        0.02 * (2 / fairness.HEAVY_TOTAL - 1)
    )


def test_many_small_frames_count_as_one_large_one() -> None:
    fair = flooded("bad", light="good")
    pauses = [fair.spend("bad", frames(fairness.SPRINT / 10), 0, 3 * WINDOW) for _ in range(1_000)]
    assert sum(pauses) == pytest.approx(100 * fairness.SPRINT * ALL_OF_IT, rel=0.1)


def test_no_pause_is_so_long_that_a_sled_seems_dead() -> None:
    fair = flooded(*(f"bad {number}" for number in range(9)), light="good")
    assert fair.spend("bad 1", frames(30.0), 0, 3 * WINDOW) == fairness.PAUSE_MAX


def test_who_gives_way_does_so_while_it_has_more_than_it_may_send() -> None:
    fair = flooded("bad", light="good")
    now = 3 * WINDOW
    for _ in range(100):
        fair.spend("good", frames(0.0001), 0, now)
        now += fair.spend("bad", frames(0.002), 0, now)
        assert fair.gives_way("bad")
    # The log may be what holds it back.
    for _ in range(100):
        fair.spend("good", frames(0.0001), 0, now)
        now += fair.rest("bad", 0.002, now)
        assert fair.gives_way("bad")


def test_who_has_sent_everything_is_as_free_as_anyone() -> None:
    fair = flooded("bad", light="good")
    now = 3 * WINDOW
    while now < 5 * WINDOW + fairness.HEAVY_FOR:
        assert fair.spend("bad", frames(0.0001), 0, now) == 0
        fair.spend("good", frames(0.0001), 0, now)
        now += WINDOW / 2
    assert not fair.gives_way("bad")


def test_who_gives_way_is_free_once_the_others_are_gone() -> None:
    fair = flooded("bad", light="good")
    now = 3 * WINDOW
    while now < 6 * WINDOW + fairness.LIGHT_FOR:
        now += 0.005 + fair.spend("bad", frames(0.005), 0, now)
    assert not fair.gives_way("bad")
    assert not fair.is_needed


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 0.05)), max_size=300))
def test_who_waits_takes_its_part_at_most_and_who_takes_little_never_waits(
    taken: list[tuple[str, float]],
) -> None:
    fair = Fairness()
    now, waited_until = 0.0, dict.fromkeys("abcde", 0.0)
    for project, seconds in taken:
        now = max(now, waited_until[project]) + seconds
        pause = fair.spend(project, frames(seconds), 0, now)
        assert fair.spend("e", frames(0.0001), 0, now) == 0
        waited_until[project] = now + pause
        if fair.gives_way(project) and seconds >= fairness.SPRINT:
            assert pause == fairness.PAUSE_MAX or seconds <= fairness.HEAVY_TOTAL * (seconds + pause) + 1e-9


# --- on the way into the log -------------------------------------------------------------------------


class FakeLog:
    """Takes jobs, and commits the oldest when it is told to."""

    def __init__(self) -> None:
        self.jobs: deque[Append] = deque()
        self.taken: list[Append] = []
        self.crowded = False

    async def room(self) -> None:
        """There always is."""

    def append(self, job: Append) -> None:
        self.jobs.append(job)
        self.taken.append(job)


class FakeFairness:
    """Says as it was told, and lets no one wait."""

    def __init__(self, *, gives_way: bool) -> None:
        self.answer = gives_way

    def gives_way(self, _project: str) -> bool:
        return self.answer

    def rest(self, _project: str, _seconds: float, _now: float) -> float:
        return 0.0


class Pushing:
    """One connection's inflow."""

    def __init__(self, *, gives_way: bool) -> None:
        self.log = FakeLog()
        self.received = 0
        self.fairness = FakeFairness(gives_way=gives_way)
        self.project = ProjectInflow(cast("Log", self.log), cast("Fairness", self.fairness), "shop")
        self.inflow = Inflow(self.project, Owner(), now_ms=lambda: 1, received=self._receive)
        self.sent = 0

    def _receive(self, events: int) -> None:
        self.received += events

    def push(self, count: int, size: int) -> None:
        events = [stored(str(self.sent + number)) for number in range(1, count + 1)]
        self.inflow.append(STREAM, self.sent + 1, events, size, 0)
        self.sent += count

    async def commit(self) -> None:
        if self.log.jobs:
            self.inflow.settle(self.log.jobs.popleft().count)
        # The next piece comes in a later turn.
        for _ in range(3):
            await asyncio.sleep(0)

    async def commit_all(self) -> None:
        while self.log.jobs:
            await self.commit()

    def check_all_came(self, batches: int) -> None:
        next_seq = 1
        for job in self.log.taken:
            assert (job.first_seq, job.count) == (next_seq, len(job.events))
            assert [event.reason for event in job.events] == [  # type: ignore[union-attr]
                str(seq) for seq in range(next_seq, next_seq + job.count)
            ]
            next_seq += job.count
        assert next_seq == self.sent + 1
        assert sum(job.batches for job in self.log.taken) == batches
        assert self.received == self.sent


_Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "commit", "turn", "hand over", "toggle"]),
        st.integers(1, 900),
        st.integers(1, 1 << 20),
    ),
    max_size=40,
)


@given(STEPS, st.booleans())
async def test_everything_comes_once_and_in_order_whoever_gives_way(
    steps: list[_Step],
    gives_way: bool,  # noqa: FBT001 - a case
) -> None:
    pushing = Pushing(gives_way=gives_way)
    batches = 0
    for step, count, size in steps:
        match step:
            case "push":
                pushing.push(count, size)
                batches += 1
            case "commit":
                await pushing.commit()
            case "turn":
                await asyncio.sleep(0)
            case "hand over":
                pushing.inflow.hand_over()
                assert sum(job.count for job in pushing.log.taken) == pushing.sent
            case _:
                pushing.fairness.answer = not pushing.fairness.answer
    await asyncio.sleep(0)
    await pushing.commit_all()
    pushing.check_all_came(batches)
    assert not pushing.inflow.is_crowded


async def test_who_gives_way_has_one_short_piece_in_the_log_at_a_time() -> None:
    pushing = Pushing(gives_way=True)
    for _ in range(4):
        pushing.push(500, 500 * 100)
    await asyncio.sleep(0)
    seen = []
    while pushing.log.jobs:
        [job] = pushing.log.jobs
        seen.append(job.count)
        await pushing.commit()
    assert max(seen) <= limits.PIECE_EVENTS
    pushing.check_all_came(4)


async def test_pieces_of_large_events_have_fewer_of_them() -> None:
    pushing = Pushing(gives_way=True)
    pushing.push(60, 60 * 16_384)
    await asyncio.sleep(0)
    assert pushing.log.jobs[0].count == limits.PIECE_BYTES // 16_384
    await pushing.commit_all()
    pushing.check_all_came(1)


@pytest.mark.parametrize("gives_way", [False, True])
async def test_what_is_on_the_way_is_bounded_in_bytes_too(*, gives_way: bool) -> None:
    pushing = Pushing(gives_way=gives_way)
    for _ in range(3):
        pushing.push(60, limits.FRAME_BYTES_MAX)
    await asyncio.sleep(0)
    waits = asyncio.create_task(pushing.inflow.room(lambda: False))
    await asyncio.sleep(0)
    waited = 0
    while pushing.inflow.is_crowded:
        assert not waits.done()
        await pushing.commit()
        waited += 1
    await waits
    assert waited > 0


@pytest.fixture
async def giving_way(start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway at which everybody has to give way."""
    monkeypatch.setattr(Fairness, "gives_way", lambda *_: True)
    monkeypatch.setattr(limits, "PIECE_EVENTS", 3)
    return await start_gateway()


async def test_in_pieces_too_every_batch_is_acknowledged(giving_way: Gateway) -> None:
    async with await connect(giving_way.url, "shop", new_key(), new_epoch()) as client:
        for first_seq in range(1, 101, 10):
            await client.send_events(
                first_seq, *(blocked(str(seq)) for seq in range(first_seq, first_seq + 10))
            )
        await client.acked(100)
    assert giving_way.log.position == 100


async def test_in_pieces_too_what_comes_behind_a_gap_or_as_something_else_is_refused(
    giving_way: Gateway,
) -> None:
    key, epoch = new_key(), new_epoch()
    async with await connect(giving_way.url, "shop", key, epoch) as client:
        await client.send_events(1, *(blocked(str(seq)) for seq in range(10)))
        await client.send_events(12, *(blocked(str(seq)) for seq in range(10)))
        frames, _ = await client.until_closed()
    assert [(frame["code"], frame["expected"]) for frame in frames if frame["type"] == "refused"] == [
        ("gap", 11)
    ]
    async with await connect(giving_way.url, "shop", key, epoch) as client:
        await client.send_events(1, *(blocked(str(seq if seq != 7 else "other")) for seq in range(10)))
        frames, _ = await client.until_closed()
    assert [(frame["code"], frame["seq"]) for frame in frames if frame["type"] == "refused"] == [
        ("conflict", 8)
    ]
    assert giving_way.log.position == 10


async def test_what_an_older_sled_sent_before_it_left_comes_whole(
    giving_way: Gateway, eventually: Eventually
) -> None:
    async with await connect_v1(giving_way.url, "shop") as client:
        for number in range(50):
            await client.send(blocked(str(number)))
    await eventually(lambda: giving_way.log.position == 50)


# --- snapshots and pings -----------------------------------------------------------------------------


def story(number: int, stage: str = "2_current") -> dict[str, Any]:
    return {
        "story_id": f"{number}_bug_x",
        "story_name": "",
        "stage": stage,
        "blocked": None,
        "merge_failure": None,
    }


async def test_of_too_many_snapshots_the_newest_is_taken_in_time(
    start_gateway: StartGateway, http: Http, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_STORIES_AT_ONCE", 5)
    monkeypatch.setattr(limits, "SNAPSHOT_STORIES_A_SECOND", 0.001)
    gateway = await start_gateway()
    taken: list[int] = []
    take = Snapshots.take

    def count(self: Snapshots, board: Any) -> None:
        taken.append(len(board.stories))
        take(self, board)

    monkeypatch.setattr(Snapshots, "take", count)
    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        for stage in ("1_backlog", "2_current", "3_qa", "4_merge"):
            await client.send_snapshot(0, story(1, stage), story(2, stage))
        await eventually(lambda: len(taken) == 4)
        [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
        assert {shown["stage"] for shown in project["stories"]} == {"1_backlog"}
    await stop(gateway)
    # What waited was not forgotten over the stop.
    gateway = await start_gateway()
    [project] = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
    assert {shown["stage"] for shown in project["stories"]} == {"4_merge"}


async def test_a_snapshot_that_waited_is_taken_when_its_time_comes(
    start_gateway: StartGateway, http: Http, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_STORIES_AT_ONCE", 2)
    monkeypatch.setattr(limits, "SNAPSHOT_STORIES_A_SECOND", 50)
    gateway = await start_gateway()

    async def is_there() -> bool:
        projects = (await http(f"{gateway.url}/gateway/projects")).body["projects"]
        return [shown["stage"] for shown in projects[0]["stories"]] == ["4_merge"]

    async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
        for stage in ("1_backlog", "2_current", "3_qa", "4_merge"):
            await client.send_snapshot(0, story(1, stage))
        await eventually(is_there)


async def test_who_sends_nothing_but_pings_is_cut_off_and_soon_not_let_in(
    gateway: Gateway, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PINGS_MAX", 10)
    for _ in range(limits.FLOODS_MAX):
        async with await connect(gateway.url, "shop", new_key(), new_epoch()) as client:
            for number in range(8):
                await client.socket.ping()
                await client.send_events(number + 1, blocked())
                await client.acked(number + 1)
            for _ in range(11):
                await client.socket.ping()
            _, closed = await client.until_closed()
        assert (closed.code, "pings" in closed.reason) == (1008, True)
    with pytest.raises(Exception, match="429"):
        await connect(gateway.url, "shop", new_key(), new_epoch())
    await push(gateway.url, "blog", blocked())
    assert 'huskies_refused_total{kind="flood"} 3.0' in (await http(f"{gateway.url}/metrics")).body
