"""Which gateway comes next, and when an earlier one is returned to; and that no switch loses or doubles."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huskies import limits
from huskies.protocol import wire
from huskies.protocol.effects import Acked, OpenEpoch, Send, SetBarrier, SledEffect
from huskies.protocol.failover import Failover, Outcome
from huskies.protocol.sled import SledSession
from tests.protocol.world import GATEWAY_ID, Outbox, event, fake_sign

FAILED, FRUITLESS, FRUITFUL = Outcome.FAILED, Outcome.FRUITLESS, Outcome.FRUITFUL
MIDDLE = 0.5
outcomes = st.lists(st.sampled_from(Outcome), max_size=60)
chances = st.floats(0, 1, exclude_max=True)


def ended(failover: Failover, outcome: Outcome, now: float = 0.0) -> tuple[float, int]:
    """The delay, and the gateway that comes after it."""
    delay = failover.ended(outcome, now, MIDDLE)
    return delay, failover.current


def at(gateway: int, count: int) -> Failover:
    """As after failed attempts at all before it."""
    failover = Failover(count)
    for _ in range(gateway):
        ended(failover, FAILED)
    return failover


def returned(failover: Failover, gateway: int, now: float) -> None:
    failover.will_return(gateway)
    assert failover.is_returning
    assert ended(failover, FRUITFUL, now) == (0.0, gateway)
    assert not failover.is_returning


# --- the order -------------------------------------------------------------------------------------


def test_with_one_gateway_each_attempt_that_fails_doubles_the_delay() -> None:
    failover = Failover(1)
    assert [ended(failover, FAILED)[0] for _ in range(8)] == [1, 2, 4, 8, 16, 32, 48, 48]
    assert ended(failover, FRUITFUL) == (1, 0)
    assert ended(failover, FAILED) == (2, 0)
    assert ended(failover, FRUITLESS) == (1, 0)


def test_the_delay_grows_with_each_round_and_not_within_one() -> None:
    failover = Failover(3)
    steps = [ended(failover, FAILED) for _ in range(9)]
    assert steps == [(1, 1), (1, 2), (1, 0), (1, 1), (1, 2), (2, 0), (1, 1), (1, 2), (4, 0)]


def test_after_a_session_that_was_fruitful_the_first_is_tried_again() -> None:
    failover = at(2, 3)
    assert ended(failover, FRUITFUL) == (1, 0)


def test_after_a_session_that_took_nothing_it_is_the_next_ones_turn_and_the_delay_starts_over() -> None:
    failover = Failover(2)
    for _ in range(10):
        ended(failover, FAILED)
    assert failover.current == 0
    assert ended(failover, FRUITLESS) == (1, 1)
    assert ended(failover, FAILED) == (1, 0)


@given(st.integers(1, 6), outcomes)
def test_every_gateway_gets_its_turn(count: int, before: list[Outcome]) -> None:
    failover = Failover(count)
    for outcome in before:
        failover.ended(outcome, 0.0, MIDDLE)
    tried = set()
    for _ in range(count):
        tried.add(failover.current)
        failover.ended(FAILED, 0.0, MIDDLE)
    assert tried == set(range(count))


@given(st.integers(1, 6), outcomes, chances)
def test_no_delay_is_above_a_minute_and_a_round_adds_a_second_a_gateway(
    count: int, before: list[Outcome], chance: float
) -> None:
    failover = Failover(count)
    for outcome in before:
        delay = failover.ended(outcome, 0.0, chance)
        assert 0.75 <= delay <= 60
        if failover.current:
            assert delay <= 1.25


# --- returning -------------------------------------------------------------------------------------


def test_only_what_stands_before_is_returned_to() -> None:
    assert [at(gateway, 3).worth_returning_to(0.0) for gateway in range(3)] == [[], [0], [0, 1]]


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 22.5), (0.5, 30), (1.0, 37.5)])
def test_earlier_ones_are_looked_at_every_half_minute_with_jitter(chance: float, delay: float) -> None:
    assert at(1, 2).probe_delay(chance) == delay


def test_what_answers_is_tried_at_once() -> None:
    failover = at(2, 3)
    returned(failover, 1, 0.0)
    assert failover.worth_returning_to(0.0) == [0]


def test_a_session_that_breaks_while_it_is_left_changes_nothing_about_where_to_go() -> None:
    for outcome in Outcome:
        failover = at(1, 2)
        failover.will_return(0)
        assert ended(failover, outcome) == (0.0, 0)


@pytest.mark.parametrize("outcome", [FAILED, FRUITLESS])
def test_a_gateway_that_is_ready_and_takes_nothing_is_returned_to_ever_less_often(outcome: Outcome) -> None:
    failover = at(1, 2)
    waits, now = [], 0.0
    for _ in range(8):
        returned(failover, 0, now)
        assert ended(failover, outcome, now) == (1, 1)
        assert failover.worth_returning_to(now) == []
        waits.append(failover._not_before[0] - now)
        now = failover._not_before[0]
        assert failover.worth_returning_to(now) == [0]
    assert waits == [60, 120, 240, 480, 960, 1_800, 1_800, 1_800]
    returned(failover, 0, now)
    ended(failover, FRUITFUL, now)
    ended(failover, FAILED, now)
    assert failover.worth_returning_to(now) == [0]


def test_failures_that_were_no_returns_do_not_hold_one_up() -> None:
    failover = Failover(2)
    for _ in range(21):
        ended(failover, FAILED)
    assert failover.current == 1
    assert failover.worth_returning_to(0.0) == [0]


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.booleans(), st.floats(0, 100)), max_size=60))
def test_whatever_happens_an_earlier_gateway_is_returned_to_within_half_an_hour(
    steps: list[tuple[Outcome, bool, float]],
) -> None:
    failover, now = Failover(3), 0.0
    for outcome, answers, seconds in steps:
        now += seconds
        earlier = failover.worth_returning_to(now)
        if answers and earlier:
            failover.will_return(earlier[0])
        failover.ended(outcome, now, MIDDLE)
        late = now + limits.RETURN_INTERVAL_MAX
        assert failover.worth_returning_to(late) == list(range(failover.current))


# --- two gateways, one outbox ------------------------------------------------------------------------


class TwoGateways:
    """A sled that goes back and forth, under one seed; `logs` is what each gateway holds of each epoch."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - a schedule must be repeatable
        self.logs: list[dict[str, list[bytes]]] = [{}, {}]
        self.outbox = Outbox("ab" * 32, self._epoch())
        self.recorded: list[bytes] = []
        self.may_hold = [0, 0]

    def _epoch(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    def record(self) -> None:
        data = event(str(len(self.recorded)))
        self.recorded.append(data)
        self.outbox.record(data)

    def restart(self) -> None:
        """The sled forgets whatever is not in its outbox: what waits may be anywhere."""
        outbox = self.outbox
        last = outbox.last_seq if outbox.barrier is None else min(outbox.last_seq, outbox.barrier - 1)
        self.may_hold = [last, last]

    def session(self, number: int, *, faults: bool) -> None:
        """Ends at the latest when nothing more is wanted."""
        epoch = self.outbox.epoch
        core = SledSession(
            self.outbox.view(),
            lambda text: fake_sign("k", text),
            0.0,
            elsewhere=self.may_hold[1 - number],
        )
        self._relay(core, number, faults=faults)
        held = core.may_be_held
        assert held is not None
        self.may_hold[number] = held
        if self.outbox.epoch != epoch:
            self.may_hold = [0, 0]

    def _relay(self, core: SledSession, number: int, *, faults: bool) -> None:
        outbox, rng = self.outbox, self.rng
        held = self.logs[number].setdefault(outbox.epoch, [])
        core.receive(wire.encode(wire.Challenge(gateway_id=GATEWAY_ID, nonce="n")), 0.0)
        self._do(core, core.receive(wire.encode(wire.Welcome(last_seq=len(held), max_in_flight=7)), 0.0))
        while (want := core.wants()) is not None:
            count = rng.randint(1, want.count)
            events = [outbox.held[seq] for seq in range(want.first_seq, want.first_seq + count)]
            core.fetched(want.first_seq, events, 0.0)
            if faults and rng.random() < 0.2:
                return  # the frame is lost
            if refused := self._commit(number, held, want.first_seq, events):
                self._do(core, core.receive(wire.encode(refused), 0.0))
                return
            if faults and rng.random() < 0.3:
                return  # the ack is lost
            seq = want.first_seq + count - 1
            self._do(core, core.receive(wire.encode(wire.Ack(seq=seq)), 0.0))
            if rng.random() < 0.2:
                self.record()
                core.recorded(outbox.last_seq)

    def _commit(self, number: int, held: list[bytes], first: int, events: list[bytes]) -> wire.Refused | None:
        """Neither gateway takes every seventh event, and the second every fifth."""
        for seq, data in enumerate(events, first):
            assert seq <= len(held) + 1, "the sled left a gap"
            at = self.recorded.index(data)
            if at % 7 == 3 or (number == 1 and at % 5 == 4):
                return wire.Refused(code=wire.INVALID, seq=seq)
            if seq <= len(held):
                assert held[seq - 1] == data, "one identity, two contents"
            else:
                held.append(data)
        return None

    def _do(self, core: SledSession, effects: Sequence[SledEffect]) -> None:
        outbox = self.outbox
        for effect in effects:
            match effect:
                case Acked(seq):
                    outbox.acked = max(outbox.acked, seq)
                case SetBarrier(seq, set_aside):
                    outbox.barrier, outbox.set_aside = seq, set_aside
                case OpenEpoch(carry_from):
                    outbox.open_epoch(self._epoch(), carry_from)
                case Send():
                    assert core.accepted

    def prune(self) -> None:
        self.outbox.prune(self.rng.randint(0, 5))


@pytest.mark.parametrize("seed", range(300))
def test_going_back_and_forth_between_gateways_neither_loses_nor_doubles(seed: int) -> None:
    world = TwoGateways(seed)
    for _ in range(60):
        step = world.rng.random()
        if step < 0.4:
            world.record()
        elif step < 0.85:
            world.session(world.rng.randrange(2), faults=True)
        elif step < 0.9:
            world.restart()
        else:
            world.prune()
    for number in (1, 0) * 20:
        world.session(number, faults=False)
    assert world.outbox.acked == world.outbox.last_seq
    identities: dict[bytes, set[tuple[str, int]]] = {}
    for log in world.logs:
        stored = Counter(data for events in log.values() for data in events)
        assert not [data for data, times in stored.items() if times > 1], "a gateway holds one twice"
        for epoch, events in log.items():
            for seq, data in enumerate(events, 1):
                identities.setdefault(data, set()).add((epoch, seq))
    # Together they hold each event under one identity, except what was set aside.
    assert all(len(names) == 1 for names in identities.values())
    assert set(world.recorded) == set(identities) | set(world.outbox.rejected)
    assert not set(identities) & set(world.outbox.rejected)
