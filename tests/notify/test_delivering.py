"""The ledger and the couriers, with channels that write into files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.file_channel import FileChannel
from tests.support.office import failing, office
from tests.support.told import NOON, Teller, moved

from huskies.notify.channel import DeliveryError, DoubtfulError, Outgoing
from huskies.notify.courier import GIVE_UP_MS
from huskies.notify.rules import Doubtful, Rule, default_rules
from huskies.storage.notifications import FILE_NAME, NotificationsFile, resend


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huskies.protocol.backoff.BACKOFF_FIRST", 0.02)
    monkeypatch.setattr("huskies.protocol.backoff.BACKOFF_MAX", 0.05)


async def test_a_message_is_queued_then_sent_then_acknowledged(tmp_path: Path) -> None:
    channel, states = FileChannel("a", tmp_path), []

    async with office(tmp_path) as place:

        async def note(_: Outgoing) -> None:
            states.append(place.notifications()[0].state)

        channel.before = channel.after = note
        await place.happens(1)
        [queued] = await place.until("queued")
        assert (queued.attempts, queued.about, queued.next_ms) == (0, ["aa/e1/1"], NOON)
        place.deliver(channel)
        [done] = await place.until("acknowledged")
    assert states == ["sending", "sending"]
    assert (done.remote_id, done.attempts, done.settled_ms, done.next_ms) == ("a-1", 1, NOON, None)
    [sent] = channel.sent()
    assert sent["delivery_id"] == done.delivery_id
    assert sent["html"]


async def test_an_edit_names_what_the_channel_calls_the_first_message(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        await place.until("acknowledged")
        end = place.teller.received(moved("1_bug_x", at_ms=NOON + 1))
        await place.desk.take([end], "c-2")
        await place.until("acknowledged", "acknowledged")
    assert [sent["edits"] for sent in channel.sent()] == [None, "a-1"]


async def test_what_was_over_before_it_was_tried_is_not_sent(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    async with office(tmp_path) as place:
        await place.happens(1)
        await place.desk.take([place.teller.received(moved("1_bug_x", at_ms=NOON + 1))], "c-2")
        await place.until("overtaken", "overtaken")
        place.deliver(channel)
        await place.happens(2)
        await place.until("overtaken", "overtaken", "acknowledged")
    assert len(channel.sent()) == 1


async def test_an_edit_waits_for_its_message_and_stands_for_it_where_that_failed(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    channel.before = failing(DeliveryError("gone", permanent=True))
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        [failed] = await place.until("failed")
        assert failed.problem == "gone"
        await place.desk.take([place.teller.received(moved("1_bug_x", at_ms=NOON + 1))], "c-2")
        await place.until("failed", "acknowledged")
    assert [sent["edits"] for sent in channel.sent()] == [None]


async def test_what_is_not_taken_is_tried_again_under_the_same_name(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    channel.before = failing(DeliveryError("busy", retry_after=0.01), 3)
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        await place.eventually(lambda: place.notifications()[0].state == "acknowledged")
        [done] = place.notifications()
    assert (done.attempts, done.problem) == (4, "")


async def test_what_nobody_took_for_a_day_is_a_dead_letter_until_someone_asks(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    channel.before = failing(DeliveryError("busy"))
    async with office(tmp_path) as place:
        await place.happens(1)
        place.now_ms += GIVE_UP_MS + 1
        courier = place.deliver(channel)
        [dead] = await place.until("failed")
        assert dead.problem == "given up after a day: busy"
        file = NotificationsFile(tmp_path)
        assert resend(file, [dead.id + 1], place.now_ms) == []
        assert resend(file, None, place.now_ms) == [dead.id]
        file.close()
        courier.wake()
        [done] = await place.until("acknowledged")
    assert done.delivery_id == dead.delivery_id


async def test_who_asks_again_gives_it_another_day(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    channel.before = failing(DeliveryError("busy"), 3)
    async with office(tmp_path) as place:
        await place.happens(1)
        place.now_ms += GIVE_UP_MS + 1
        courier = place.deliver(channel)
        [dead] = await place.until("failed")
        file = NotificationsFile(tmp_path)
        resend(file, None, place.now_ms)
        file.close()
        courier.wake()
        await place.eventually(lambda: place.notifications()[0].state == "acknowledged")
        [done] = place.notifications()
    assert (done.queued_ms, done.attempts) == (dead.queued_ms, 3)


@pytest.mark.parametrize(
    ("error", "problem"),
    [(DeliveryError("410", permanent=True), "410"), (DeliveryError("503"), "given up after a day: 503")],
)
async def test_what_was_in_doubt_once_did_not_fail_for_certain(
    tmp_path: Path, error: DeliveryError, problem: str
) -> None:
    channel, errors = FileChannel("a", tmp_path), [DoubtfulError("no answer")]
    async with office(tmp_path) as place:

        async def before(_: Outgoing) -> None:
            if errors:
                raise errors.pop()
            place.now_ms += GIVE_UP_MS + 1
            raise error

        channel.before = before
        place.deliver(channel, "resend")
        await place.happens(1)
        await place.eventually(lambda: place.notifications()[0].state not in {"queued", "sending"})
        [found] = place.notifications()
    assert (found.state, found.problem) == ("in_doubt", problem)


async def test_what_was_looked_for_in_vain_fails_for_certain(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path, can_look=True)
    errors = [DeliveryError("gone", permanent=True), DoubtfulError("no answer")]

    async def before(_: Outgoing) -> None:
        raise errors.pop()

    channel.before = before
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        await place.eventually(lambda: place.notifications()[0].state == "failed")
    assert channel.looked == 1


async def test_what_is_in_doubt_is_looked_for_before_it_is_sent_again(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path, can_look=True)
    # Once it was taken and the answer was lost, once it was not taken.
    channel.after = failing(DoubtfulError("no answer"))
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        await place.eventually(lambda: place.notifications()[0].state == "acknowledged")
        channel.before = failing(DoubtfulError("no answer"))
        await place.happens(2)
        await place.eventually(lambda: place.notifications()[1].state == "acknowledged")
    assert channel.looked == 2
    assert len({sent["delivery_id"] for sent in channel.sent()}) == len(channel.sent()) == 2


@pytest.mark.parametrize(("doubtful", "copies"), [("leave", 1), ("resend", 2)])
async def test_where_nobody_can_look_the_rule_decides(
    tmp_path: Path, doubtful: Doubtful, copies: int
) -> None:
    channel = FileChannel("a", tmp_path)
    channel.after = failing(DoubtfulError("no answer"))
    state = {"leave": "in_doubt", "resend": "acknowledged"}[doubtful]
    async with office(
        tmp_path, Rule(events=frozenset({"story_blocked"}), channels=("a",), doubtful=doubtful)
    ) as place:
        # What the channel would do by itself is the other thing.
        place.deliver(channel, "resend" if doubtful == "leave" else "leave")
        await place.happens(1)
        await place.eventually(lambda: place.notifications()[0].state == state)
    assert len(channel.sent()) == copies
    assert len({sent["delivery_id"] for sent in channel.sent()}) == 1


async def test_what_someone_asked_for_again_is_not_taken_back_as_if_nobody_had_it(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    channel.after = failing(DoubtfulError("no answer"))
    async with office(tmp_path) as place:
        courier = place.deliver(channel)
        await place.happens(1)
        [found] = await place.until("in_doubt")
        file = NotificationsFile(tmp_path)
        resend(file, [found.id], place.now_ms + 1)
        file.close()
        end = place.teller.received(moved("1_bug_x", at_ms=NOON + 1))
        await place.desk.take([end], "c-2")
        place.now_ms += 1
        courier.wake()
        await place.until("acknowledged", "acknowledged")


@pytest.mark.parametrize("can_look", [False, True])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_was_under_way_when_the_process_ended(tmp_path: Path, moment: str, can_look: bool) -> None:  # noqa: FBT001 - a parameter of the test
    channel = FileChannel("a", tmp_path, can_look=can_look)
    reached = asyncio.Event()

    async def hang(_: Outgoing) -> None:
        reached.set()
        await asyncio.Event().wait()

    setattr(channel, moment, hang)
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        await reached.wait()
        assert place.notifications()[0].state == "sending"
    channel.before = channel.after = None
    async with office(tmp_path) as place:
        assert place.notifications()[0].state == "queued"
        place.deliver(channel, "resend")
        await place.until("acknowledged")
        # The event is decided on; reading it again is no news.
        place.teller = Teller()
        await place.happens(1)
        assert len(place.notifications()) == 1
    taken_twice = moment == "after" and not can_look
    assert len(channel.sent()) == 1 + taken_twice
    assert len({sent["delivery_id"] for sent in channel.sent()}) == 1


async def test_where_nobody_can_look_what_was_cut_off_is_left_in_doubt_if_the_rule_says_so(
    tmp_path: Path,
) -> None:
    channel = FileChannel("a", tmp_path)
    reached = asyncio.Event()

    async def hang(_: Outgoing) -> None:
        reached.set()
        await asyncio.Event().wait()

    channel.after = hang
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        await reached.wait()
    channel.after = None
    async with office(tmp_path) as place:
        courier = place.deliver(channel, "leave")
        [found] = await place.until("in_doubt")
        assert found.problem == "the process that sent it ended before it could say"
        assert len(channel.sent()) == 1
        # Whoever asks for it gets it.
        file = NotificationsFile(tmp_path)
        assert resend(file, [found.id], place.now_ms) == [found.id]
        file.close()
        courier.wake()
        await place.until("acknowledged")
    assert len(channel.sent()) == 2


async def test_what_is_under_way_is_finished_by_who_stops(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Outgoing) -> None:
        reached.set()
        await go_on.wait()

    channel.after = wait
    async with office(tmp_path) as place:
        courier = place.deliver(channel)
        await place.happens(1)
        await place.happens(2)
        await reached.wait()
        courier.stop()
        go_on.set()
        await place.until("acknowledged", "queued")


async def test_a_channel_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    dead, alive = FileChannel("a", tmp_path), FileChannel("b", tmp_path)

    async def hang(_: Outgoing) -> None:
        await asyncio.Event().wait()

    dead.before = hang
    async with office(tmp_path, *default_rules(["a", "b"])) as place:
        place.deliver(dead)
        place.deliver(alive)
        for number in range(1, 6):
            await place.happens(number)
        await place.eventually(lambda: len(alive.sent()) == 5, 0)
        states = [one.state for one in place.notifications(channel="a")]
        assert states == ["sending", "queued", "queued", "queued", "queued"]
    assert [sent["subject"] for sent in alive.sent()] == [
        f"shop: {number} Login is blocked" for number in range(1, 6)
    ]


async def test_a_message_that_a_channel_refuses_lets_others_by_after_three_tries(tmp_path: Path) -> None:
    channel, tries = FileChannel("a", tmp_path), []

    async def before(message: Outgoing) -> None:
        tries.append(message.subject)
        if "1 Login" in message.subject:
            raise DeliveryError("HTTP 500")

    channel.before = before
    async with office(tmp_path) as place:
        await place.happens(1)
        await place.happens(2)
        place.deliver(channel)
        await place.eventually(lambda: bool(channel.sent()), 100)
    assert [subject.split()[1] for subject in tries[:4]] == ["1", "1", "1", "2"]


async def test_a_channel_that_fails_in_a_way_of_its_own_is_in_doubt(tmp_path: Path) -> None:
    channel = FileChannel("a", tmp_path)
    channel.after = failing(RuntimeError("a bug"))
    async with office(tmp_path) as place:
        place.deliver(channel)
        await place.happens(1)
        [found] = await place.until("in_doubt")
    assert found.problem == "the channel failed: RuntimeError"


# --- the desk --------------------------------------------------------------------------------------


async def test_nothing_is_written_while_nothing_happens(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        await place.happens(1)
        await place.desk.tick(at_rest=True)
        written = (tmp_path / FILE_NAME).read_bytes()
        for _ in range(3):
            place.now_ms += 2_000
            await place.desk.tick(at_rest=True)
        assert (tmp_path / FILE_NAME).read_bytes() == written


async def test_muting_outlasts_the_process(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        await place.desk.mute("shop", NOON + 1_000)
    async with office(tmp_path) as place:
        assert await place.desk.muted() == {"shop": NOON + 1_000}
        await place.desk.tick(at_rest=True)
        await place.happens(1)
        assert [one.state for one in place.notifications()] == ["muted"]
        assert await place.desk.unmute("shop")
        assert not await place.desk.unmute("shop")
        assert await place.desk.muted() == {}
        assert [one.state for one in place.notifications()] == ["muted", "queued"]
