"""Messages that change others: whatever became of the first one, there is one message of a story."""

from __future__ import annotations

from pathlib import Path

from tests.support.told import HELD_UP, NOON, Teller, blocked, moved

from huskies.events.model import RelayedEvent
from huskies.notify.ledger import Ledger
from huskies.notify.rules import Rule
from huskies.storage.notifications import Wanted, read_notifications


class Room:
    """A ledger, and a channel that takes what it is told to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ledger = Ledger(directory)
        self.teller = Teller(Rule(events=HELD_UP, channels=("chat",), every_ms=0))

    def happens(self, event: RelayedEvent) -> None:
        self.ledger.keep("c", self.teller.core.state, self.teller.take(event))

    def tried(self, outcome: str) -> tuple[int, str | None]:
        """Try what is next; which message that was, and which it changed."""
        found = self.ledger.next("chat", NOON)
        assert found is not None
        self.ledger.sending(found.id, NOON)
        if outcome == "taken":
            self.ledger.delivered(found.id, f"remote-{found.id}", NOON)
        elif outcome == "refused":
            self.ledger.failed(found.id, "gone", NOON)
        else:
            self.ledger.again(found.id, "busy", NOON, looks=False)
        return found.id, found.outgoing.edits

    def states(self) -> list[str]:
        assert self.ledger.next("chat", NOON) is None
        return [one.state for one in read_notifications(self.directory, Wanted(), None)[::-1]]


FIRST, SECOND, END = blocked(reason="1"), blocked(reason="2", at_ms=NOON + 1), moved(at_ms=NOON + 2)


def test_the_end_changes_what_was_sent_for_a_message_that_was_taken_back(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.happens(FIRST)
    room.happens(SECOND)
    assert room.tried("taken") == (2, None)
    room.happens(END)
    assert room.tried("taken") == (3, "remote-2")
    assert room.states() == ["overtaken", "acknowledged", "acknowledged"]


def test_the_end_changes_what_was_sent_for_a_message_that_failed(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.happens(FIRST)
    assert room.tried("refused") == (1, None)
    room.happens(SECOND)
    assert room.tried("taken") == (2, None)
    room.happens(END)
    assert room.tried("taken") == (3, "remote-2")
    assert room.states() == ["failed", "acknowledged", "acknowledged"]


def test_nothing_is_sent_of_what_was_over_before_any_of_it_was_tried(tmp_path: Path) -> None:
    room = Room(tmp_path)
    for event in (FIRST, SECOND, END):
        room.happens(event)
    assert room.states() == ["overtaken"] * 3


def test_a_change_that_was_not_tried_yet_is_left_out_where_another_follows(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.happens(FIRST)
    assert room.tried("taken") == (1, None)
    room.happens(SECOND)
    room.happens(END)
    assert room.tried("taken") == (3, "remote-1")
    assert room.states() == ["acknowledged", "overtaken", "acknowledged"]


def test_changes_of_a_message_go_in_their_order_however_often_one_is_tried(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.happens(FIRST)
    assert room.tried("taken") == (1, None)
    room.happens(SECOND)
    for _ in range(4):
        assert room.tried("busy") == (2, "remote-1")
    room.happens(END)
    assert room.tried("taken") == (2, "remote-1")
    assert room.tried("taken") == (3, "remote-1")
    assert room.states() == ["acknowledged"] * 3
